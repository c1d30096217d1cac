import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from conftest import (
    RAY,
    READ_NOISE,
    SHAPE,
    SHIFTS,
    SIGMA,
    SKY,
    SMALL,
    dithered,
    exposures,
    frames_of,
    sky_header,
    star,
    with_ray,
)

from crcore.deviation import deviation_score
from crcore.frame import Frame
from crcore.instruments import CAMERAS
from crcore.labeling import KINDS, LabelingConfig, label_sequence
from crcore.labelled import BORDER, HOT_PIXEL, NO_DATA, SOURCE
from crcore.simulate.observe import simulate_sequence


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


@pytest.mark.parametrize("released", [False, True])
def test_dim_pixels_near_a_ray_belong_to_it_only_where_they_hang_together(released):
    images = exposures(light=np.zeros(SHAPE))
    bright, dim = np.array([60.0, 6.0]) * SIGMA if released else np.array([60.0, 4.5]) * SIGMA
    images[1][60, 60:62] = SKY + bright
    images[1][60, [62, 65, 66]] = SKY + dim  # one touches the ray, two are dim neighbours of nothing
    sequence = label_sequence(frames_of(images), dataclasses.replace(SMALL, released=released))
    assert sequence.cr[1, 60, 60:67].tolist() == [1, 1, 1, 0, 0, *([1, 1] if released else [0, 0])]
    assert sequence.ignore[1, 60, 65:67].tolist() == [0 if released else HOT_PIXEL] * 2


def test_an_asteroid_in_a_run_of_many_visits_is_no_ray():
    images = exposures(6, light=np.zeros(SHAPE))
    for k, image in enumerate(images):
        image += star(60 + 1.5 * k, 70, 3000.0, 3.0)
    images[2][40, 50:56] += 60 * SIGMA
    sequence = label_sequence(frames_of(images), SMALL)
    assert sequence.cr[2, 40, 50:56].all()
    assert sequence.cr[:, 60:80, 50:80].sum() == 0
    assert (sequence.ignore[1:-1, 70, 62:66] & SOURCE).any(axis=1).all()


def test_rays_that_cross_in_two_exposures_are_both_rays():
    images = exposures(6, light=np.zeros(SHAPE))
    images[2][60, 50:60] += 60 * SIGMA
    images[3][55:65, 55] += 60 * SIGMA
    sequence = label_sequence(frames_of(images), SMALL)
    assert sequence.cr[2, 60, 50:60].all()
    assert sequence.cr[3, 55:65, 55].all()


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
    assert sequence.facts["lost_to_sources"][1] >= 3
    assert sequence.facts["lost_to_sources"][0] == 0


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
    frames[0] = dataclasses.replace(frames[0], bad=bad)
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


def test_sky_that_changes_a_little_between_exposures_makes_no_labels():
    images = [exposures(1, seed=s, sky=sky)[0] for s, sky in enumerate((150.0, 200.0, 270.0))]
    assert not label_sequence(frames_of(images), SMALL).cr.any()


def test_five_exposures_are_labelled_too():
    sequence = label_sequence(frames_of(with_ray(exposures(5), number=4)), SMALL)
    assert sequence.cr.shape == (5, *SHAPE)
    assert sequence.cr[4][RAY].all()
    assert not sequence.cr[:4].any()


def test_frames_dithered_by_whole_pixels_are_labelled_right_and_truth_moves_with_them():
    images = dithered()
    truth = [np.zeros(SHAPE, np.uint8) for _ in range(3)]
    images[1][np.array(RAY[0]) - 2, np.array(RAY[1]) + 3] += 30 * SIGMA
    truth[1][np.array(RAY[0]) - 2, np.array(RAY[1]) + 3] = 1
    truth[2][20, 30] = 2
    frames = [
        Frame(image, read_noise=READ_NOISE, header=sky_header(*s)) for image, s in zip(images, SHIFTS, strict=True)
    ]
    sequence = label_sequence(frames, SMALL, truth=truth)
    assert sequence.facts["alignment"] == ("none", "wcs", "wcs")
    assert sequence.cr[1][RAY].all()
    assert sequence.cr.sum() <= 8
    np.testing.assert_array_equal(np.argwhere(sequence.truth[1]), np.transpose(RAY))
    assert np.argwhere(sequence.truth[2]).tolist() == [[15, 34]]
    assert sequence.truth[2].max() == 2
    assert not sequence.truth[0].any()


def simulated(name, seed):
    rng = np.random.default_rng(seed)
    made = simulate_sequence(
        CAMERAS[name], shape=(208, 208), exposure_s=600.0, rng=rng, rate_factor=20.0, streak_share=0.0
    )
    return made, label_sequence(made.frames, LabelingConfig(border_px=16), truth=made.truth)


@pytest.fixture(scope="module", params=[("sinistro", 0), ("sinistro", 2), ("sbig6303", 1)], ids=lambda p: p[0])
def labelled(request):
    return simulated(*request.param)


@pytest.mark.parametrize("name", ["sinistro", "sbig6303"])
def test_labels_of_simulated_sequences_are_pure_and_complete(name):
    n_true = n_found = n_both = 0
    for seed in range(4):
        sequence = simulated(name, seed)[1]
        judged = (sequence.ignore == 0) & (sequence.truth != 2)
        true, found = sequence.truth[judged] == 1, sequence.cr[judged] == 1
        n_true, n_found, n_both = n_true + true.sum(), n_found + found.sum(), n_both + (true & found).sum()
    assert n_true > 1000
    assert n_both >= 0.98 * n_found  # of more sequences: benchmarks/labeling.py
    assert n_both >= 0.8 * n_true


def test_labels_and_ignored_pixels_exclude_each_other(labelled):
    sequence = labelled[1]
    assert not sequence.cr[sequence.ignore > 0].any()
    assert sequence.facts["cr_pixels"] == sequence.cr.sum(axis=(1, 2)).tolist()


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
    good = ~made.frames[0].bad
    np.testing.assert_array_equal(frame.data[good], made.frames[0].data[good])
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


def test_hot_pixels_of_the_detector_are_no_rays_where_exposures_were_moved():
    images = dithered()
    for image in images:
        image[80:82, 50] += 4000.0
    frames = [Frame(i, read_noise=READ_NOISE, header=sky_header(*s)) for i, s in zip(images, SHIFTS, strict=True)]
    sequence = label_sequence(frames, SMALL)
    assert not sequence.cr.any()
    for ignore, (x, y) in zip(sequence.ignore, SHIFTS, strict=True):
        assert (ignore[80 - y : 82 - y, 50 - x] & HOT_PIXEL).all()


def test_facts_are_one_number_a_frame():
    facts = label_sequence(frames_of(with_ray(exposures(4))), SMALL).facts
    for name in ("alignment", "gains", "sky", "cr_pixels", "lost_to_sources"):
        assert len(facts[name]) == 4
    assert facts["cr_pixels"][1] >= 4
    assert facts["cr_pixels"][0] == 0
    assert facts["sky"] == pytest.approx([SKY] * 4, abs=1.5)
    assert facts["left_out"] == {}


@pytest.mark.parametrize(("n", "parts"), [(3, 1), (5, 1), (6, 2), (8, 2)])
def test_sequence_is_cut_into_threes_and_the_rest_is_dropped(n, parts):
    images = exposures(n)
    for k, image in enumerate(images):
        image[60, 70 : 74 + k] += 40 * SIGMA
    truth = [np.full(SHAPE, k % 3, np.uint8) for k in range(n)]
    whole = label_sequence(frames_of(images), SMALL, truth=truth)
    threes = whole.threes()
    assert len(threes) == parts
    for number, part in enumerate(threes):
        mine = slice(3 * number, 3 * number + 3)
        assert part.names == whole.names[mine]
        assert part.headers == whole.headers[mine]
        for name in ("data", "cr", "ignore", "truth"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[mine])
        assert part.facts["cr_pixels"] == part.cr.sum(axis=(1, 2)).tolist() == whole.facts["cr_pixels"][mine]
        assert len(part.facts["alignment"]) == len(part.facts["sky"]) == len(part.facts["gains"]) == 3


def test_threes_of_a_sequence_without_truth_have_none():
    assert all(part.truth is None for part in label_sequence(frames_of(exposures(6)), SMALL).threes())


def test_more_visits_find_dimmer_rims():
    found = []
    for n in (3, 12):
        rng = np.random.default_rng(2)
        images = exposures(n, np.zeros(SHAPE), seed=4)
        for y in range(15, 110, 6):
            x = rng.integers(20, 100)
            images[1][y, x] += 60 * SIGMA
            images[1][y, x + 1 : x + 5] += 3.4 * SIGMA
        sequence = label_sequence(frames_of(images), SMALL)
        found.append(sequence.facts["cr_pixels"][1])
    assert found[1] > found[0]


def test_kinds_are_the_three_of_the_paper():
    assert {name: config.kind for name, config in KINDS.items()} == {name: name for name in KINDS}
    assert KINDS["imaging"] == LabelingConfig()
    assert (KINDS["imaging"].seed_score, KINDS["imaging"].grow_score, KINDS["imaging"].border_px) == (5.0, 2.5, 100)


def test_moved_exposures_get_the_wcs_of_the_first():
    images = zip(dithered(SHIFTS), SHIFTS, strict=True)
    frames = [Frame(i, read_noise=READ_NOISE, header=sky_header(*s)) for i, s in images]
    headers = label_sequence(frames, SMALL).headers
    assert {h["CRPIX1"] for h in headers} == {frames[0].header["CRPIX1"]}
    assert any("before alignment" in line for line in headers[1]["HISTORY"])
