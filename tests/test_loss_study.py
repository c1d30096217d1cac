import dataclasses

import numpy as np
import pytest

from crcore.errors import InputError
from crcore.loss_study import LossStudyConfig, follow, ratios, telling_stamp
from crcore.release import labelled_files

CONFIG = LossStudyConfig(seeds=2, images=12, ratio_at=12, stamp_px=64, batch=4, width=8)


@pytest.fixture(scope="module")
def rows(tiny_dataset):
    paths = labelled_files(tiny_dataset, "train")
    return [row for seed in (1, 2) for loss in ("bce", "median_bce") for row in follow(paths, CONFIG, loss, seed)]


def test_one_row_a_step(rows):
    assert [r["images"] for r in rows[:3]] == [0, 4, 8]
    assert len(rows) == 12


def test_a_fresh_network_knows_nothing(rows):
    assert all(0.2 < r[f"prob_{kind}"] < 0.8 for r in rows if r["images"] == 0 for kind in ("rays", "sky"))


def test_both_losses_see_the_same_first_stamps_and_weights(rows):
    first = [r for r in rows if r["images"] == 0 and r["seed"] == 1]
    assert first[0]["cr_loss"] == first[1]["cr_loss"]
    assert first[1]["other_loss"] < 0.5 * first[0]["other_loss"]  # the sky's weight is gone


def test_ratio_at_the_start_is_that_of_the_first_steps(rows):
    for row in ratios(rows, 12, share=1 / 3):
        first = [r for r in rows if r["images"] == 0 and r["loss"] == row["loss"]]
        assert row["start"] == pytest.approx(np.mean([r["other_loss"] / r["cr_loss"] for r in first]))
        assert row["start_low"] <= row["start"] <= row["start_high"]
        assert row["seeds"] == 2


def test_ratio_at_the_end_is_over_the_last_images():
    steps = [
        {"loss": "bce", "seed": 1, "images": k, "cr_loss": 1.0, "other_loss": 100.0 if k < 9 else 5.0}
        for k in range(10)
    ]
    (row,) = ratios(steps, 10, share=0.1)
    assert (row["start"], row["end"]) == (100.0, 5.0)


def test_a_study_of_no_images_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        dataclasses.replace(CONFIG, images=0)
    with pytest.raises(InputError, match="ratio_at = 13 comes after the 12 images"):
        dataclasses.replace(CONFIG, ratio_at=13)


def test_telling_stamp_has_rays_and_sources(tiny_dataset):
    stamps = telling_stamp(labelled_files(tiny_dataset), 64)
    assert stamps.image.shape == (1, 1, 64, 64)
    assert stamps.target.sum() > 0


def test_a_batch_without_rays_does_not_make_the_ratio_infinite():
    steps = [{"loss": "bce", "seed": 1, "images": k, "cr_loss": float(k == 1), "other_loss": 50.0} for k in range(10)]
    assert ratios(steps, 10)[0]["start"] == 100.0
