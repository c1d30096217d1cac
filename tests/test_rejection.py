import numpy as np
import pytest
from conftest import READ_NOISE, SHAPE, SIGMA, SKY, SMALL, STARS, exposures, field, frames_of, moved, reported

from crcore.errors import InputError
from crcore.frame import Frame
from crcore.labeling import LabelingConfig, label_sequence
from crcore.rejection import FrameRejectedError, check_background, check_shares, check_stars, check_trails


def rejected(check, *args, names=("a", "b", "c"), **options):
    """Place and reason of the exposure that a rule rejects, or None."""
    try:
        check(*args, names, **options)
    except FrameRejectedError as error:
        caught = error
    else:
        return None
    assert isinstance(caught, InputError)
    assert str(caught).startswith(f"{names[caught.index]}: ")
    assert "\n" not in str(caught)
    return caught.index, str(caught)


def test_sky_that_differs_by_more_than_5_sigma_is_rejected():
    noise = np.full(3, 16.0)
    assert rejected(check_background, np.array([200.0, 278.0, 203.0]), noise) is None
    index, reason = rejected(check_background, np.array([200.0, 290.0, 203.0]), noise)
    assert index == 1
    assert "5.4 sigma" in reason
    assert "unstable sky" in reason


def test_sky_that_is_too_dark_is_rejected_too():
    assert rejected(check_background, np.array([10.0, 200.0, 203.0]), np.full(3, 16.0))[0] == 0


def test_limit_of_the_sky_can_be_set():
    assert rejected(check_background, np.array([200.0, 200.0, 240.0]), np.full(3, 16.0), limit=2.0)[0] == 2


def stars_stack(displaced=None, shift=(20, 0), n=20, size=200):
    light = field(n, (size, size))
    lights = [moved(light, *shift) if i == displaced else light for i in range(3)]
    stack = np.array([exposures(1, light, seed)[0] for seed, light in enumerate(lights)], "f4") - SKY
    return stack, np.ones((size, size), bool)


@pytest.mark.parametrize("displaced", [0, 1, 2])
@pytest.mark.parametrize("shift", [(20, 0), (-5, 9)])
def test_exposure_with_displaced_stars_is_named(displaced, shift):
    stack, valid = stars_stack(displaced, shift)
    index, reason = rejected(check_stars, stack, valid)
    assert index == (displaced or 1)  # nobody can tell which of two agrees with the sky
    assert "wrong WCS" in reason
    assert f"{abs(shift[0])} columns" in reason or abs(shift[0]) % 2


@pytest.mark.parametrize("n", [1, 3, 40])
def test_stars_in_their_places_are_no_reason(n):
    assert rejected(check_stars, *stars_stack(n=n)) is None


@pytest.mark.parametrize("seed", range(5))
def test_without_stars_nothing_is_said(seed):
    stack = np.array(exposures(light=np.zeros(SHAPE), seed=seed), "f4") - SKY
    assert rejected(check_stars, stack, np.ones(SHAPE, bool)) is None


def test_rays_are_not_taken_for_displaced_stars():
    stack, valid = stars_stack(n=20)
    rng = np.random.default_rng(0)
    for _ in range(300):
        y, x = rng.integers(5, 190, 2)
        stack[1, y, x : x + 4] += 20_000.0
    assert rejected(check_stars, stack, valid) is None


def test_poorer_seeing_is_no_reason():
    lights = [field(20, (200, 200), fwhm=f) for f in (4.0, 4.0, 6.0)]
    stack = np.array([exposures(1, light, s)[0] for s, light in enumerate(lights)], "f4") - SKY
    assert rejected(check_stars, stack, np.ones((200, 200), bool)) is None


def scores(shape=(512, 512), seed=0, n=3, add=lambda noise: None):
    """What `deviation_score` gives for noise of 1 with something added: each frame less the median of all."""
    noise = np.random.default_rng(seed).normal(0, 1, (n, *shape)).astype("f4")
    add(noise)
    return (noise - np.median(noise, axis=0)) / np.float32(np.sqrt(1 + 1 / n))


def add_line(image, angle, *, peak, width=3.0, length=None, offset=11.0):
    """Add a straight line through the middle (and ``offset`` beside it)."""
    y, x = np.indices(image.shape)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    y, x = y - image.shape[0] / 2, x - image.shape[1] / 2
    on = np.abs(x * s - y * c - offset) <= width / 2
    if length:
        on &= np.abs(x * c + y * s) <= length / 2
    image[on] += peak


def add_rays(image, n, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        y, x = rng.integers(0, image.shape[0] - 12), rng.integers(12, image.shape[1] - 12)
        t, angle = np.arange(0, rng.integers(1, 12), 0.5), rng.uniform(0, np.pi)
        image[(y + t * np.sin(angle)).astype(int), (x + t * np.cos(angle)).astype(int)] += rng.uniform(5, 60)


def trail_reason(score):
    return rejected(check_trails, score, np.ones(score.shape[1:], bool))


ANGLES = [0.0, 7.0, 33.0, 45.0, 87.0, 117.0, 151.0]  # not along columns: these are the detector's


@pytest.mark.parametrize("angle", ANGLES)
def test_bright_trail_is_rejected_at_any_angle(angle):
    score = scores()
    add_line(score[1], angle, peak=20.0)
    index, reason = trail_reason(score)
    assert index == 1
    assert "satellite" in reason


@pytest.mark.parametrize("n", [3, 6])
@pytest.mark.parametrize("offset", [11.0, -72.5])
@pytest.mark.parametrize("angle", [0.0, 7.0, 22.5, 45.0, 61.0])
def test_trail_of_one_and_a_half_sigma_a_pixel_is_rejected_at_any_angle(angle, offset, n):
    score = scores(n=n, add=lambda noise: add_line(noise[2], angle, peak=1.5, offset=offset))
    found = rejected(check_trails, score, np.ones(score.shape[1:], bool), names=("a", "b", "c", "d", "e", "f"))
    assert found is not None
    assert found[0] == 2


@pytest.mark.parametrize("n", [3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_is_no_trail(seed, n):
    check_trails(scores(seed=seed, n=n), np.ones((512, 512), bool), "abcdef")


@pytest.mark.parametrize("angle", [0.0, 33.0])
def test_trail_among_rays_is_rejected(angle):
    score = scores()
    for k, image in enumerate(score):
        add_rays(image, 400, k)
    add_line(score[0], angle, peak=8.0)
    assert trail_reason(score)[0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_400_ordinary_rays_are_no_trail(seed):
    score = scores(seed=seed)
    for k, image in enumerate(score):
        add_rays(image, 400, 3 * seed + k)
    assert trail_reason(score) is None


@pytest.mark.parametrize("size", [320, 512, 1024])
@pytest.mark.parametrize("angle", [0.0, 22.5, 61.0])
def test_muon_of_150_pixels_is_no_trail(angle, size):
    score = scores((size, size))
    add_line(score[1], angle, peak=30.0, width=2.0, length=150)
    assert trail_reason(score) is None


@pytest.mark.parametrize("angle", [0.0, 22.5, 61.0])
def test_muon_of_150_pixels_among_400_rays_is_no_trail(angle):
    score = scores((768, 768))
    for k, image in enumerate(score):
        add_rays(image, 400, k)
    add_line(score[1], angle, peak=30.0, width=2.0, length=150)
    assert trail_reason(score) is None


def test_trail_where_there_are_no_data_does_not_count():
    score = scores()
    add_line(score[1], 0.0, peak=20.0, offset=0.0)
    valid = np.ones(score.shape[1:], bool)
    valid[250:263] = False
    assert rejected(check_trails, score, valid) is None


def labels(*counts, shape=(200, 200)):
    """Masks of rays of four pixels."""
    cr = np.zeros((len(counts), *shape), np.uint8)
    for mask, count in zip(cr, counts, strict=True):
        for k in range(count):
            y, x = 4 * (k // 25), 8 * (k % 25)
            mask[y, x : x + 4] = 1
    return cr


def test_exposure_with_far_more_labels_is_rejected():
    index, reason = rejected(check_shares, labels(50, 50, 600), True)
    assert index == 2
    assert "2400 labelled pixels, the others 200" in reason


@pytest.mark.parametrize("counts", [(50, 60, 90), (0, 0, 0), (0, 1, 30), (300, 250, 350), (400, 400, 700)])
def test_ordinary_scatter_of_labels_is_no_reason(counts):
    assert rejected(check_shares, labels(*counts), True) is None


def test_labels_count_only_where_they_are_asked_for():
    cr = labels(50, 50, 600)
    where = np.ones(cr.shape[1:], bool)
    where[:, cr.shape[2] // 2 :] = False
    inside = [int((mask * where).sum()) for mask in cr]
    assert rejected(check_shares, cr, np.zeros_like(where)) is None
    _, reason = rejected(check_shares, cr, where)
    assert f"{inside[2]} labelled pixels" in reason


def test_one_long_muon_is_not_too_many_labels():
    cr = labels(10, 10, 10)
    cr[1, 150:152, :90] = 1
    assert rejected(check_shares, cr, True) is None


def four(bad, number=2, light=STARS):
    """Four frames of one field, of which one is replaced."""
    images = exposures(4, light)
    images[number] = bad
    return frames_of(images)


def test_bad_exposure_of_four_is_left_out_and_the_rest_is_labelled():
    frames = four(exposures(1, sky=900.0, seed=9)[0])
    frames[3].data[60:64, 70] += 40 * SIGMA
    truth = [np.full(SHAPE, k, np.uint8) for k in (0, 1, 2, 1)]
    sequence = label_sequence(frames, SMALL, truth=truth)
    assert sequence.names == ("frame0", "frame1", "frame3")
    assert list(sequence.facts["left_out"]) == ["frame2"]
    assert "unstable sky" in sequence.facts["left_out"]["frame2"]
    assert sequence.cr[2, 60:64, 70].all()
    assert sequence.cr.sum() <= 8
    assert sequence.truth[:, 5, 5].tolist() == [0, 1, 1]


def test_bad_exposure_of_three_refuses_the_sequence():
    images = exposures(3)
    images[1] = exposures(1, sky=900.0, seed=9)[0]
    message = reported(frames_of(images))
    assert message.startswith("frame1: sky of 900 e-")
    assert "2 exposures are left, three are needed" in message


def test_two_bad_exposures_of_four_refuse_the_sequence_with_both_reasons():
    frames = four(exposures(1, sky=900.0, seed=9)[0])
    frames[0] = Frame(exposures(1, sky=600.0, seed=8)[0], read_noise=READ_NOISE, name="frame0", header=frames[1].header)
    message = reported(frames)
    assert "frame0: " in message
    assert "frame2: " in message


def test_rules_can_be_switched_off():
    frames = four(exposures(1, sky=900.0, seed=9)[0])
    sequence = label_sequence(frames, LabelingConfig(border_px=10, reject=False))
    assert len(sequence.data) == 4
    assert sequence.facts["left_out"] == {}


@pytest.mark.parametrize("n", [3, 5])
def test_exposure_whose_wcs_is_wrong_by_20_px_is_named(n):
    light = field(20, (200, 200))
    images = exposures(n, light)
    images[1] = exposures(1, moved(light, 20, 0), seed=7)[0]
    frames = frames_of(images)
    if n == 3:
        assert reported(frames).startswith("frame1: its stars are 20 columns")
    else:
        assert list(label_sequence(frames, SMALL).facts["left_out"]) == ["frame1"]


@pytest.mark.parametrize("peak", [40 * SIGMA, 1.5 * SIGMA])
def test_exposure_with_a_trail_is_left_out(peak):
    light = field(12, (256, 256))
    images = exposures(4, light)
    add_line(images[2], 20.0, peak=peak)
    sequence = label_sequence(frames_of(images), SMALL)
    assert list(sequence.facts["left_out"]) == ["frame2"]
    assert "trail" in sequence.facts["left_out"]["frame2"]
    assert not sequence.cr.any()


def test_ordinary_exposures_are_all_kept():
    sequence = label_sequence(frames_of(exposures(5)), SMALL)
    assert sequence.facts["left_out"] == {}
    assert len(sequence.data) == 5
