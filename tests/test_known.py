from dataclasses import replace

import numpy as np
import pytest

from crcore.instruments import CAMERAS
from crcore.labelled import SOURCE, UNDECIDED
from crcore.simulate import detector, observe
from crcore.simulate.known import label_by_truth


def exposed(camera, side, seed, **options):
    """One exposure of a camera as it is simulated."""
    rng = np.random.default_rng(seed)
    return observe.simulate_sequence(CAMERAS[camera], shape=(side, side), rng=rng, n_frames=1, **options)


def test_light_above_its_surroundings_is_marked_as_a_source():
    made = exposed("sinistro", 96, 5, exposure_s=300, field="crowded")
    sequence = label_by_truth(made)
    source = (sequence.ignore[0] & SOURCE) > 0
    assert 0.01 < source.mean() < 0.9
    assert made.light[0][source].mean() > 1.2 * np.median(made.light[0])


def test_labels_by_a_reference_have_its_noise_and_decide_what_it_would_not_find():
    made = exposed("sinistro", 300, 5, exposure_s=600, field="sparse", rate_factor=60.0)
    exact = label_by_truth(made)
    seen = label_by_truth(made, np.random.default_rng(1))
    noise = np.sqrt(made.light[0] + made.frames[0].read_noise ** 2)
    deviation, labelled = (made.frames[0].data - made.light[0]) / noise, exact.cr[0] == 1
    faint, bright = labelled & (deviation < 3), labelled & (deviation > 9)
    assert faint.sum() > 50
    assert 0.2 < seen.cr[0][faint].mean() < 0.8
    assert seen.cr[0][bright].mean() > 0.995
    undecided = [(s.ignore[0] & UNDECIDED) > 0 for s in (exact, seen)]
    assert undecided[0].sum() > 20
    assert not (undecided[1] & ~made.frames[0].saturated).any()


def test_the_chance_of_a_label_is_how_often_references_give_it():
    made = exposed("sinistro", 300, 5, exposure_s=600, field="sparse", rate_factor=90.0)
    assert label_by_truth(made).chance is None
    told = label_by_truth(made, np.random.default_rng(1))
    chance = told.chance[0] / 255
    often = np.mean([label_by_truth(made, np.random.default_rng([2, k])).cr[0] for k in range(40)], axis=0)
    unsure = (often > 0.2) & (often < 0.8)
    assert unsure.sum() > 100
    assert np.corrcoef(chance[unsure], often[unsure])[0, 1] > 0.7
    assert chance[unsure].mean() == pytest.approx(often[unsure].mean(), abs=0.03)
    assert (chance[often == 1] > 0.7).all()
    assert (chance[often == 0] <= 0.3).all()
    assert (chance[told.cr[0] == 1] > 0).all()


def test_single_hot_pixels_are_not_judged_and_hot_columns_are():
    made = exposed("sinistro", 700, 5, exposure_s=900, field="sparse")
    sequence = label_by_truth(made)
    unknown = made.hot & ~made.frames[0].bad & (sequence.cr[0] == 0)
    assert unknown.sum() > 2
    assert not sequence.judged(0)[unknown].any()
    chip = chip_with_hot_column()
    assert chip.hot_pixels.sum() == 1
    assert chip.hot_pixels[3, 30]
    chip.bad[:, 7] = True  # the mask knows the column, but for one pixel
    chip.bad[20, 7] = False
    assert np.argwhere(chip.hot_pixels).tolist() == [[3, 30], [20, 7]]


def chip_with_hot_column():
    chip = detector.random_detector(CAMERAS["sinistro"], (40, 40), np.random.default_rng(1))
    hot = np.zeros((40, 40), np.float32)
    hot[10:, 7] = hot[3, 30] = 1.0
    return replace(chip, hot_e_per_s=hot, bad=np.zeros((40, 40), bool))


def test_response_that_no_flat_has_taken_out_is_known_to_the_labels():
    options = {"field": "sparse", "rate_factor": 1e-6, "crossings": False, "prnu": 0.1}
    made = exposed("spectral", 200, 2, exposure_s=1800, **options)
    (frame,), (light,) = made.frames, made.light
    good = ~frame.bad & (light < 2 * np.median(light))
    pattern, noise = 0.1 * np.median(light), np.sqrt(np.median(light) + frame.read_noise**2)
    assert pattern > 1.5 * noise
    assert np.std((frame.data - np.median(light))[good]) > 1.5 * noise
    middle = np.percentile((frame.data - light)[good] / noise, [16, 84])
    assert np.ptp(middle) / 2 == pytest.approx(1, abs=0.15)
