from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from crcore.alignment import align, wcs_offset_px
from crcore.errors import InputError
from crcore.frame import Frame
from crcore.instruments import INSTRUMENTS
from crcore.labeling import (
    BORDER,
    HOT_PIXEL,
    NO_DATA,
    SOURCE,
    LabelingConfig,
    deviation_score,
    label_sequence,
    source_masks,
)
from crcore.sequences import find_sequences
from crcore.simulate.observe import simulate_sequence

SHAPE = (128, 144)
SKY, READ_NOISE = 200.0, 8.0
SIGMA = np.sqrt(2 * SKY + READ_NOISE**2)  # equation A1 with the sky in I and in N_S
SMALL = LabelingConfig(border_px=10)

RAY = ([60, 61, 62, 63], [70, 71, 72, 73])


def star(x, y, peak, fwhm=4.0, shape=SHAPE):
    rows, columns = np.indices(shape)
    return peak * np.exp(-4 * np.log(2) * ((columns - x) ** 2 + (rows - y) ** 2) / fwhm**2)


STARS = sum(star(x, y, peak) for x, y, peak in [(40, 35, 9000), (100, 50, 4000), (75, 100, 2500), (30, 90, 6000)])


def exposures(n=3, light=STARS, seed=0, sky=SKY):
    """Noisy exposures of the same light, in electrons."""
    rng = np.random.default_rng(seed)
    return [rng.poisson(sky + light) + rng.normal(0, READ_NOISE, np.shape(light)) for _ in range(n)]


def sky_header(shift_x=0.0, shift_y=0.0, **cards):
    """A WCS that puts the same sky (shift_x, shift_y) pixels further right and up."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [SHAPE[1] / 2 + shift_x, SHAPE[0] / 2 + shift_y]
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    header = wcs.to_header()
    header.update(cards)
    return header


def frames_of(images, header=None):
    header = sky_header() if header is None else header
    return [Frame(image, read_noise=READ_NOISE, name=f"frame{i}", header=header) for i, image in enumerate(images)]


def with_ray(images, number=1, peak=30 * SIGMA, pixels=RAY):
    images[number][pixels] += peak
    return images


def test_deviation_score_is_equations_a1_to_a3():
    rng = np.random.default_rng(1)
    stack = rng.normal(150.0, 20.0, (3, 4, 5))
    stack[1, 2, 3] += 400.0
    stack[2] += 35.0
    stack[0, 0, 0] = -30.0
    read_noise = [7.0, 8.0, 11.0]
    sky = [float(np.median(image)) for image in stack]
    sigma = np.empty(stack.shape)
    for i in range(3):
        for y in range(4):
            for x in range(5):
                sigma[i, y, x] = np.sqrt(abs(stack[i, y, x]) + read_noise[i] ** 2 + sky[i])  # A1
    expected = np.empty(stack.shape)
    for y in range(4):
        for x in range(5):
            big_sigma = sorted(sigma[:, y, x])[1] / np.sqrt(3)  # A2
            middle = sorted(stack[i, y, x] - sky[i] for i in range(3))[1]
            for i in range(3):
                level = stack[i, y, x] - sky[i]
                expected[i, y, x] = (level - middle) / np.sqrt(sigma[i, y, x] ** 2 + big_sigma**2)  # A3
    np.testing.assert_allclose(deviation_score(stack.astype("f4"), read_noise), expected, rtol=1e-4, atol=1e-5)


def test_deviation_score_of_more_frames_divides_by_the_root_of_their_number():
    stack = np.zeros((4, 3, 3))
    stack[0, 1, 1] = 100.0
    # sigma 10 everywhere but sqrt(200) where the charge is; the median of the four is 10
    score = deviation_score(stack, [10.0] * 4)
    assert score[0, 1, 1] == pytest.approx(100 / np.sqrt(200 + 10**2 / 4))


def test_deviation_score_survives_a_sky_below_zero():
    assert np.isfinite(deviation_score(np.full((3, 5, 5), -400.0), [3.0] * 3)).all()


def test_injected_ray_is_labelled_in_its_exposure_only():
    sequence = label_sequence(frames_of(with_ray(exposures())), SMALL)
    assert sequence.cr[1][RAY].all()
    assert sequence.cr[1].sum() <= 8
    assert not sequence.cr[0].any()
    assert not sequence.cr[2].any()


def test_dim_periphery_of_a_ray_is_labelled():
    images = exposures(light=np.zeros(SHAPE))
    images[1][60:63, 70] = SKY + SIGMA * np.array([60.0, 4.5, 4.5])
    sequence = label_sequence(frames_of(images), SMALL)
    score = deviation_score(sequence.data, [READ_NOISE] * 3)[1, 60:63, 70]
    assert score[0] > 5
    assert ((score[1:] > 2.5) & (score[1:] < 5)).all()
    assert sequence.cr[1, 60:63, 70].tolist() == [1, 1, 1]


@pytest.mark.parametrize("dilation", [3, 5])
def test_periphery_ends_dilation_px_from_the_seed(dilation):
    images = exposures(light=np.zeros(SHAPE))
    images[1][60, 60:64] = SKY + 60 * SIGMA
    images[1][60, 64:80] = SKY + 4.5 * SIGMA  # dim, and longer than the dilation
    config = LabelingConfig(border_px=10, dilation_px=dilation)
    row = label_sequence(frames_of(images), config).cr[1, 60]
    assert row[60 : 64 + dilation].all()
    assert not row[64 + dilation :].any()


def test_dim_pixels_without_a_seed_are_not_labelled():
    images = exposures(light=np.zeros(SHAPE))
    images[1][60, 60:70] = SKY + 4.5 * SIGMA
    assert not label_sequence(frames_of(images), SMALL).cr.any()


def test_isolated_pixel_is_ignored_as_a_hot_pixel_and_is_no_ray():
    images = exposures(light=np.zeros(SHAPE))
    images[1][50, 60] += 40 * SIGMA
    sequence = label_sequence(frames_of(images), SMALL)
    assert sequence.ignore[1, 50, 60] == HOT_PIXEL == 8
    assert not sequence.cr.any()
    assert not (sequence.ignore[[0, 2]] & HOT_PIXEL).any()


def test_pixels_that_touch_at_a_corner_are_one_ray():
    images = exposures(light=np.zeros(SHAPE))
    images[1][[50, 51], [60, 61]] += 40 * SIGMA
    sequence = label_sequence(frames_of(images), SMALL)
    assert sequence.cr[1, [50, 51], [60, 61]].all()
    assert sequence.ignore[1, 50, 60] == 0


def test_ray_on_a_bright_star_is_not_labelled_and_the_star_is_ignored():
    images = with_ray(exposures(), peak=20_000.0, pixels=([35, 35, 36], [40, 41, 41]))
    sequence = label_sequence(frames_of(images), SMALL)
    assert not sequence.cr.any()
    assert sequence.ignore[1, 35, 40] == SOURCE == 4
    assert sequence.facts["lost_to_sources"] >= 3


def test_every_star_is_in_the_source_mask_of_every_exposure_and_the_sky_is_not():
    stack = np.array(exposures(), dtype="f4")
    masks, catalog = source_masks(stack, np.ones(SHAPE, bool), SMALL)
    assert len(catalog) == 4
    for x, y in [(40, 35), (100, 50), (75, 100), (30, 90)]:
        assert masks[:, y - 3 : y + 4, x - 3 : x + 4].all()
    assert masks.mean() < 0.15
    assert not masks[:, 10:20, 60:90].any()


def test_ray_does_not_become_a_source():
    images = with_ray(exposures(light=np.zeros(SHAPE)), peak=5000.0)
    masks, catalog = source_masks(np.array(images, dtype="f4"), np.ones(SHAPE, bool), SMALL)
    assert len(catalog) == 0
    assert not masks.any()


def test_border_is_ignored_and_has_no_rays():
    images = exposures(light=np.zeros(SHAPE))
    images[1][4:8, 70] += 40 * SIGMA
    sequence = label_sequence(frames_of(images), SMALL)
    border = np.ones(SHAPE, bool)
    border[10:-10, 10:-10] = False
    np.testing.assert_array_equal(sequence.ignore & BORDER, np.broadcast_to(border, (3, *SHAPE)))
    assert sequence.ignore[0, 0, 0] == 1
    assert not sequence.cr.any()


def test_border_of_no_width_ignores_nothing():
    sequence = label_sequence(frames_of(exposures(light=np.zeros(SHAPE))), LabelingConfig(border_px=0))
    assert not (sequence.ignore & BORDER).any()


def test_pixel_without_data_in_one_exposure_is_ignored_in_all():
    images = with_ray(exposures())
    images[2][61, 71] = np.nan  # on the ray of exposure 1
    sequence = label_sequence(frames_of(images), SMALL)
    assert (sequence.ignore[:, 61, 71] & NO_DATA).tolist() == [2, 2, 2]
    assert np.isfinite(sequence.data).all()
    assert sequence.cr[1, 61, 71] == 0
    assert sequence.cr[1, 60, 70] == 1
    assert ((sequence.ignore & NO_DATA) > 0).sum() == 3


def test_bad_pixel_mask_is_no_data():
    frames = frames_of(exposures(light=np.zeros(SHAPE)))
    bad = np.zeros(SHAPE, bool)
    bad[:, 50] = True
    frames[0] = replace(frames[0], bad=bad)
    sequence = label_sequence(frames, SMALL)
    np.testing.assert_array_equal((sequence.ignore[2] & NO_DATA) > 0, bad)


def test_codes_add_up():
    images = exposures(light=star(8, 60, 9000.0))
    images[0][60, 8] = np.nan
    assert label_sequence(frames_of(images), SMALL).ignore[0, 60, 8] == BORDER + NO_DATA + SOURCE


@pytest.mark.parametrize("seed", range(3))
def test_field_without_rays_has_no_labels(seed):
    sequence = label_sequence(frames_of(exposures(seed=seed)), SMALL)
    assert not sequence.cr.any()
    assert len(sequence.catalog) == 4


def test_sky_that_changes_between_exposures_makes_no_labels():
    images = [exposures(1, seed=s, sky=sky)[0] for s, sky in enumerate((150.0, 200.0, 320.0))]
    assert not label_sequence(frames_of(images), SMALL).cr.any()


def test_five_exposures_are_labelled_too():
    sequence = label_sequence(frames_of(with_ray(exposures(5), number=4)), SMALL)
    assert sequence.cr.shape == (5, *SHAPE)
    assert sequence.cr[4][RAY].all()
    assert not sequence.cr[:4].any()


def moved(image, shift_x, shift_y):
    return np.roll(image, (shift_y, shift_x), axis=(0, 1))


def dithered(shifts, light=STARS):
    images = exposures(light=np.zeros(SHAPE))
    rng = np.random.default_rng(5)
    return [i + rng.poisson(moved(light, *s)) for i, s in zip(images, shifts, strict=True)]


SHIFTS = [(0, 0), (3, -2), (-4, 5)]


def test_frames_dithered_by_whole_pixels_are_aligned_by_wcs_and_labelled_right():
    images = dithered(SHIFTS)
    images[1][np.array(RAY[0]) - 2, np.array(RAY[1]) + 3] += 30 * SIGMA
    truth = [np.zeros(SHAPE, np.uint8) for _ in range(3)]
    truth[1][np.array(RAY[0]) - 2, np.array(RAY[1]) + 3] = 1
    frames = [
        Frame(image, read_noise=READ_NOISE, header=sky_header(*s)) for image, s in zip(images, SHIFTS, strict=True)
    ]
    sequence = label_sequence(frames, SMALL, truth=truth)
    assert sequence.facts["alignment"] == ("none", "wcs", "wcs")
    assert sequence.cr[1][RAY].all()
    assert sequence.cr.sum() <= 8
    np.testing.assert_array_equal(np.argwhere(sequence.truth[1]), np.transpose(RAY))
    assert not sequence.truth[[0, 2]].any()


def test_alignment_moves_whole_pixels_without_changing_their_values():
    images = dithered(SHIFTS)
    frames = frames_of(images)
    frames = [Frame(f.data, header=sky_header(*s)) for f, s in zip(frames, SHIFTS, strict=True)]
    aligned = align(frames)
    inner = np.s_[8:-8, 8:-8]
    for frame, (x, y), image in zip(frames, SHIFTS, aligned.stack, strict=True):
        np.testing.assert_array_equal(image[inner], moved(frame.data, -x, -y)[inner])


def test_pixels_that_an_exposure_does_not_cover_have_no_data():
    frames = [Frame(i, header=sky_header(*s)) for i, s in zip(dithered(SHIFTS), SHIFTS, strict=True)]
    valid = align(frames).valid
    expected = np.zeros(SHAPE, bool)
    expected[2 : SHAPE[0] - 5, 4 : SHAPE[1] - 3] = True
    np.testing.assert_array_equal(valid, expected)


def test_frames_under_half_a_pixel_apart_are_not_resampled():
    shifts = [(0, 0), (0.3, -0.3), (-0.45, 0.1)]
    frames = [Frame(i, header=sky_header(*s)) for i, s in zip(exposures(), shifts, strict=True)]
    aligned = align(frames)
    assert aligned.methods == ("none",) * 3
    np.testing.assert_array_equal(aligned.stack, [f.data for f in frames])
    assert aligned.valid.all()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, 4.0), (-0.25, 0.0)])
def test_wcs_offset_is_the_distance_in_pixels(shift):
    first, other = (Frame(np.zeros(SHAPE), header=sky_header(*s)) for s in ((0, 0), shift))
    assert wcs_offset_px(first, other) == pytest.approx(np.hypot(*shift), abs=1e-4)


def test_wcs_offset_is_unknown_without_a_good_wcs():
    good = Frame(np.zeros(SHAPE), header=sky_header(WCSERR=0))
    assert wcs_offset_px(good, Frame(np.zeros(SHAPE))) is None
    assert wcs_offset_px(good, Frame(np.zeros(SHAPE), header=sky_header(WCSERR=4))) is None
    assert wcs_offset_px(good, good) == pytest.approx(0.0, abs=1e-6)


def test_frames_without_wcs_are_aligned_by_their_stars():
    rng = np.random.default_rng(6)
    light = sum(star(rng.uniform(15, 129), rng.uniform(15, 113), rng.uniform(2e3, 2e4)) for _ in range(14))
    aligned = align(frames_of(dithered(SHIFTS, light), fits.Header()))
    assert aligned.methods == ("none", "stars", "stars")
    inner = np.s_[10:-10, 10:-10]
    level = aligned.stack - np.median(aligned.stack, axis=(1, 2), keepdims=True)
    bright = light[inner] > 1000
    assert np.corrcoef(level[0][inner][bright], level[1][inner][bright])[0, 1] > 0.98
    assert np.corrcoef(level[0][inner][bright], level[2][inner][bright])[0, 1] > 0.98


def test_frames_without_wcs_are_aligned_by_their_stars_despite_a_pixel_without_data():
    rng = np.random.default_rng(6)
    images = dithered(SHIFTS, sum(star(*rng.uniform(15, 113, 2), rng.uniform(2e3, 2e4)) for _ in range(14)))
    images[1][20, 30] = np.nan
    assert align(frames_of(images, fits.Header())).methods == ("none", "stars", "stars")


def test_frames_without_wcs_and_stars_are_reported():
    message = reported(frames_of(exposures(light=np.zeros(SHAPE)), fits.Header()))
    assert message.startswith("frame1")
    assert "WCS" in message


def simulated(name, seed):
    made = simulate_sequence(
        INSTRUMENTS[name], shape=(208, 208), exposure_s=600.0, rng=np.random.default_rng(seed), rate_factor=20.0
    )
    return made, label_sequence(made.frames, LabelingConfig(border_px=16), truth=made.truth)


@pytest.fixture(scope="module", params=[("sinistro", 0), ("sinistro", 2), ("sbig6303", 1)], ids=lambda p: p[0])
def labelled(request):
    return simulated(*request.param)


def test_labels_of_a_simulated_sequence_are_pure_and_complete(labelled):
    sequence = labelled[1]
    judged = (sequence.ignore == 0) & (sequence.truth != 2)
    true, found = sequence.truth[judged] == 1, sequence.cr[judged] == 1
    assert true.sum() > 200
    assert (true & found).sum() >= 0.99 * found.sum()
    assert (true & found).sum() >= 0.6 * true.sum()


def test_labels_and_ignored_pixels_exclude_each_other(labelled):
    sequence = labelled[1]
    assert not sequence.cr[sequence.ignore > 0].any()
    assert sequence.facts["cr_pixels"] == sequence.cr.sum()


def test_truth_does_not_change_the_labels(labelled):
    made, sequence = labelled
    blind = label_sequence(made.frames, LabelingConfig(border_px=16))
    assert blind.truth is None
    np.testing.assert_array_equal(blind.cr, sequence.cr)
    np.testing.assert_array_equal(blind.ignore, sequence.ignore)


def test_simulated_sequence_says_so_and_gives_its_frames_back(labelled):
    made, sequence = labelled
    assert sequence.simulated
    frame = sequence.frame(0)
    np.testing.assert_array_equal(frame.data, made.frames[0].data)
    assert (frame.read_noise, frame.saturation, frame.name) == (
        made.frames[0].read_noise,
        made.frames[0].saturation,
        made.frames[0].name,
    )


def test_frame_of_a_sequence_has_its_saturation_in_electrons(tmp_path):
    for i, image in enumerate(exposures()):
        fits.PrimaryHDU(
            (image / 2).astype("f4"), header=sky_header(GAIN=2.0, RDNOISE=READ_NOISE, SATURATE=30_000.0)
        ).writeto(tmp_path / f"{i}.fits")
    frames = [Frame.read(tmp_path / f"{i}.fits") for i in range(3)]
    sequence = label_sequence(frames, SMALL)
    assert frames[0].saturation == 60_000.0
    assert sequence.frame(0).saturation == 60_000.0


@pytest.mark.parametrize("gain", [0.8, 1.0, 1.5])
def test_gain_of_a_40_cm_frame_solves_the_noise_equation_of_its_sky(gain):
    # data that are `gain` times the electrons: sigma² = gain median + gain² N_R²
    images = [gain * image for image in exposures(light=np.zeros((160, 160)), sky=900.0)]
    sequence = label_sequence(frames_of(images, sky_header(TELID="0m4a")), SMALL)
    assert sequence.facts["gains"] == pytest.approx([gain] * 3, rel=0.06)


def test_gain_is_solved_only_for_the_40_cm_class():
    header = sky_header(TELID="1m0a")
    assert label_sequence(frames_of(exposures(), header), SMALL).facts["gains"] == [1.0] * 3


def reported(frames, config=SMALL):
    with pytest.raises(InputError) as caught:
        label_sequence(frames, config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_two_frames_are_reported():
    message = reported(frames_of(exposures(2)))
    assert "frame0, frame1" in message
    assert "at least 3" in message


def test_no_frames_are_reported():
    assert "at least 3" in reported([])


def test_frames_of_different_shapes_are_reported():
    frames = frames_of(exposures())
    frames[2] = Frame(np.zeros((128, 128)), read_noise=8.0, name="odd")
    message = reported(frames)
    assert message.startswith("odd")
    assert "(128, 144)" in message


def test_missing_read_noise_is_reported():
    frames = frames_of(exposures())
    frames[1] = Frame(frames[1].data, name="silent")
    message = reported(frames)
    assert message.startswith("silent")
    assert "RDNOISE" in message


def test_frame_that_is_all_border_is_reported():
    message = reported(frames_of(exposures()), LabelingConfig())
    assert message.startswith("frame0")
    assert "100 px" in message


def test_frame_without_a_good_pixel_is_reported():
    frames = frames_of(exposures())
    frames[2] = Frame(np.full(SHAPE, np.nan), read_noise=8.0, name="blank")
    assert reported(frames).startswith("blank")


def exposure(folder, name, molecule, number, *, exptime=300.0, filter_name="rp", camera="fa16", data=None, **cards):
    header = fits.Header(
        {
            "INSTRUME": camera,
            "FILTER": filter_name,
            "EXPTIME": exptime,
            "MOLUID": molecule,
            "MOLFRNUM": number,
            "RDNOISE": READ_NOISE,
        }
    )
    header.update(sky_header())
    header.update(cards)
    data = np.zeros((4, 4), "f4") if data is None else data.astype("f4")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, header=header, name="SCI")]).writeto(folder / name)
    return folder / name


def test_exposures_of_one_molecule_are_a_sequence_in_the_order_of_molfrnum(tmp_path):
    c, a, b = (exposure(tmp_path, f"{n}.fits", 7, number) for n, number in (("a", 3), ("b", 1), ("c", 2)))
    assert find_sequences(tmp_path) == ([[a, b, c]], [])


def test_order_is_by_number_and_not_by_text(tmp_path):
    paths = [exposure(tmp_path, f"{n:02}.fits", 7, n) for n in (10, 9, 8, 11, 12, 7)]
    sequences, _ = find_sequences(tmp_path)
    assert sequences == [[paths[i] for i in (5, 2, 1)], [paths[i] for i in (0, 3, 4)]]


@pytest.mark.parametrize("key", ["molecule", "filter_name", "camera"])
def test_exposures_are_grouped_by_molecule_filter_and_camera(tmp_path, key):
    groups = {}
    for value in ("1", "2"):
        options = {"molecule": "0", key: value}
        groups[value] = [exposure(tmp_path, f"{value}-{n}.fits", number=n, **options) for n in (1, 2, 3)]
    sequences, rejected = find_sequences(tmp_path)
    assert sorted(sequences) == [groups["1"], groups["2"]]
    assert rejected == []


def test_exposure_times_that_differ_make_no_sequence(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n, exptime=t) for n, t in ((1, 300.0), (2, 300.0), (3, 400.0))]
    sequences, rejected = find_sequences(tmp_path)
    assert sequences == []
    assert [p for p, _ in rejected] == paths
    assert all("exposure times" in reason for _, reason in rejected)


def test_exposure_times_within_five_percent_make_a_sequence(tmp_path):
    for n, t in ((1, 300.0), (2, 304.0), (3, 314.0)):
        exposure(tmp_path, f"{n}.fits", 7, n, exptime=t)
    assert len(find_sequences(tmp_path)[0]) == 1


def test_two_exposures_are_rejected_with_the_reason(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2)]
    sequences, rejected = find_sequences(tmp_path)
    assert sequences == []
    assert [p for p, _ in rejected] == paths
    assert all("three are needed" in reason for _, reason in rejected)


def test_short_exposures_are_rejected_with_the_reason(tmp_path):
    paths = [exposure(tmp_path, f"{n}.fits", 7, n, exptime=60.0) for n in (1, 2, 3)]
    sequences, rejected = find_sequences(tmp_path)
    assert sequences == []
    assert [p for p, _ in rejected] == paths
    assert all("60 s" in reason and "100 s" in reason for _, reason in rejected)
    assert len(find_sequences(tmp_path, min_exposure_s=60.0)[0]) == 1


def test_file_without_molecule_is_rejected_with_the_reason(tmp_path):
    fits.PrimaryHDU(np.zeros((4, 4), "f4"), header=fits.Header({"EXPTIME": 300.0})).writeto(tmp_path / "a.fits")
    assert find_sequences(tmp_path) == ([], [(tmp_path / "a.fits", "has no usable MOLUID and MOLFRNUM")])


def test_unreadable_files_are_rejected_and_hide_nothing(tmp_path):
    whole = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3)]
    (tmp_path / "text.fits").write_text("no image here\n" * 300)
    (tmp_path / "empty.fits").touch()
    sequences, rejected = find_sequences(tmp_path)
    assert sequences == [whole]
    assert sorted(p.name for p, _ in rejected) == ["empty.fits", "text.fits"]
    assert all(reason.startswith("cannot be read") and "\n" not in reason for _, reason in rejected)


@pytest.mark.parametrize("card", ["EXPTIME", "MOLFRNUM"])
def test_file_with_a_keyword_that_is_no_number_is_rejected_and_hides_nothing(tmp_path, card):
    whole = [exposure(tmp_path, f"{n}.fits", 7, n) for n in (1, 2, 3)]
    odd = exposure(tmp_path, "odd.fits", 7, 4, **{card: "N/A"})
    sequences, rejected = find_sequences(tmp_path)
    assert sequences == [whole]
    assert [p for p, _ in rejected] == [odd]


def test_copies_and_products_are_not_taken_for_exposures(tmp_path):
    image = np.zeros((8, 8), "f4")
    for n in (1, 2, 3):
        exposure(tmp_path, f"e{n}.fits", 7, n, data=image)
    exposure(tmp_path, "e2-again.fits", 7, 2, data=image)
    with fits.open(tmp_path / "e3.fits") as hdus:
        fits.HDUList([*hdus, fits.ImageHDU(image, name="CRMASK")]).writeto(tmp_path / "e3_cr.fits")
    sequences, rejected = find_sequences(tmp_path)
    assert [[p.name for p in s] for s in sequences] == [["e1.fits", "e2-again.fits", "e3.fits"]]
    assert {p.name for p, _ in rejected} == {"e2.fits", "e3_cr.fits"}


def test_exposures_with_a_gap_between_them_are_no_sequence(tmp_path):
    for n in (1, 2, 7):
        exposure(tmp_path, f"e{n}.fits", 7, n, data=np.zeros((8, 8), "f4"))
    sequences, rejected = find_sequences(tmp_path)
    assert sequences == []
    assert len(rejected) == 3
