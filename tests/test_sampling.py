import os

import numpy as np
import pytest

from crcore.dataset import read_sequence, write_sequence
from crcore.errors import InputError
from crcore.instruments import CAMERAS
from crcore.labelled import HOT_PIXEL, SOURCE, UNDECIDED
from crcore.release import labelled_files
from crcore.sampling import StampSource, ahead, epoch_indices
from crcore.simulate.known import label_by_truth
from crcore.simulate.observe import simulate_sequence


def test_stamps_match_their_labels_after_turns_and_mirrors(tiny_dataset):
    source = StampSource(labelled_files(tiny_dataset, "train"), 48, "counts")
    stamps = source.draw(np.zeros(200, dtype=int), [np.random.default_rng([0, k]) for k in range(200)])
    rays = (stamps.target > 0) & (stamps.use > 0)
    assert rays.sum() > 100
    assert np.median((stamps.image - stamps.median)[rays]) > 5 * np.median(np.abs(stamps.image - stamps.median))


def test_an_epoch_visits_sequences_evenly():
    counts = np.bincount(epoch_indices(5, 12, np.random.default_rng(0)), minlength=5)
    assert counts.sum() == 12
    assert set(counts) == {2, 3}


def test_a_stamp_larger_than_the_frames_is_refused(tiny_dataset):
    with pytest.raises(InputError, match="smaller than the stamp"):
        StampSource(labelled_files(tiny_dataset, "train"), 512, "noise")


def test_stamps_stay_on_disk(tiny_dataset):
    source = StampSource(labelled_files(tiny_dataset, "train"), 48, "noise")
    assert all(isinstance(array, np.memmap) for name, array in source._arrays(0).items() if name != "census")
    assert 0 < source.cr_share < 0.05


def test_a_stamp_is_the_same_whoever_draws_the_others(tiny_dataset):
    source = StampSource(labelled_files(tiny_dataset, "train"), 48, "noise")
    together = source.draw([0, 0], [np.random.default_rng(k) for k in (1, 2)])
    alone = source.draw([0], [np.random.default_rng(2)])
    np.testing.assert_array_equal(together.image[1], alone.image[0])


def test_batches_are_made_ahead_in_order_and_their_errors_are_seen():
    assert list(ahead(lambda a, b: a + b, [(1, 2), (3, 4), (5, 6)])) == [3, 7, 11]
    assert list(ahead(len, [])) == []
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda a: 1 // a, [(1,), (0,), (2,)]))


def test_many_sequences_do_not_hold_many_files_open(tiny_dataset):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("open files are counted in /proc, which is not there")
    before = len(os.listdir("/proc/self/fd"))
    source = StampSource(labelled_files(tiny_dataset, "train") * 100, 48, "noise")
    assert len(source) == 100
    assert len(os.listdir("/proc/self/fd")) - before <= 5 * 32


def test_sources_weigh_what_the_recipe_says(tiny_dataset):
    paths = labelled_files(tiny_dataset, "train")
    plain, heavy = (StampSource(paths, 48, "noise", use_ignore=True, source_weight=w) for w in (0.0, 3.0))
    indices = np.arange(len(paths))
    rngs = [[np.random.default_rng([7, k]) for k in indices] for _ in range(2)]
    a, b = plain.draw(indices, rngs[0]).use, heavy.draw(indices, rngs[1]).use
    assert set(np.unique(a)) <= {0.0, 1.0}
    assert (b == 3).any()
    assert (a[b == 3] == 0).all()
    np.testing.assert_array_equal(a[b != 3], b[b != 3])


def test_rays_on_sources_weigh_what_the_recipe_says(tiny_dataset):
    paths = labelled_files(tiny_dataset, "train")
    settings = {"use_ignore": True, "source_weight": 2.0}
    default, less = (StampSource(paths, 48, "noise", **settings, source_ray_weight=w) for w in (None, 0.5))
    chance = np.linspace(0, 1, 5, dtype=np.float32)
    for source, ray in ((default, 1.0), (less, 0.5)):
        target, weight = source._weigh(chance, np.full(5, SOURCE))
        np.testing.assert_allclose(target * weight, ray * chance, rtol=1e-5)
        np.testing.assert_allclose((1 - target) * weight, 2 * (1 - chance), atol=1e-6)
        target, weight = source._weigh(chance, np.zeros(5, np.uint8))
        np.testing.assert_array_equal(target, chance)
        np.testing.assert_array_equal(weight, 1)


def test_single_hot_pixels_weigh_what_the_recipe_says(tiny_dataset):
    paths = labelled_files(tiny_dataset, "train")
    plain, told = (StampSource(paths, 48, "noise", use_ignore=True, hot_weight=w) for w in (0.0, 0.25))
    hot = 0
    for index in range(len(paths)):
        arrays = told._arrays(index)
        ignore = arrays["ignore"]
        hot += (ignore == HOT_PIXEL).sum()
        difference = told._weigh(arrays["cr"], ignore)[1] - plain._weigh(arrays["cr"], ignore)[1]
        np.testing.assert_array_equal(difference, 0.25 * (ignore == HOT_PIXEL))
    assert hot > 0


def test_soft_labels_are_the_chance_of_a_label_and_validation_is_by_the_label(tmp_path):
    rng = np.random.default_rng(5)
    made = simulate_sequence(
        CAMERAS["sinistro"], shape=(128, 128), exposure_s=900, rng=rng, n_frames=1, rate_factor=120.0, crossings=False
    )
    path = tmp_path / "train" / "sinistro" / "masked_fits" / "a.fits"
    write_sequence(path, label_by_truth(made, np.random.default_rng(6)))
    hard, soft = (StampSource([path], 128, "noise", use_ignore=True, soft_labels=s) for s in (False, True))
    a, b = (source.draw([0], [np.random.default_rng(3)]) for source in (hard, soft))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.use, b.use)
    assert set(np.unique(a.target)) == {0, 1}
    unsure = (b.target > 0.05) & (b.target < 0.95)
    assert unsure.sum() > 100
    assert (b.target[a.target == 1] > 0).all()
    assert a.target[unsure].mean() == pytest.approx(b.target[unsure].mean(), abs=0.1)
    np.testing.assert_array_equal(hard.whole(0, 0).target, soft.whole(0, 0).target)


def test_soft_labels_of_data_without_chances_are_the_labels(tiny_dataset):
    paths = labelled_files(tiny_dataset, "train")
    hard, soft = (StampSource(paths, 48, "noise", soft_labels=s) for s in (False, True))
    a, b = (source.draw([0], [np.random.default_rng(3)]) for source in (hard, soft))
    np.testing.assert_array_equal(a.target, b.target)


def test_rays_that_labels_lose_to_sources_have_no_weight(tiny_dataset):
    paths = labelled_files(tiny_dataset, "train")
    source = StampSource(paths, 48, "noise")
    lost = 0
    for index, path in enumerate(paths):
        sequence = read_sequence(path)
        expected = (sequence.truth == 1) & (sequence.cr == 0) & ((sequence.ignore & SOURCE) > 0)
        found = (source._arrays(index)["ignore"] & UNDECIDED) > 0
        np.testing.assert_array_equal(found, expected)
        lost += expected.sum()
    assert lost > 0
