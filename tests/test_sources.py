import numpy as np
import pytest
from conftest import RAY, SHAPE, SMALL, exposures, field, frames_of, reported, star, with_ray

from crcore import sources
from crcore.errors import InputError
from crcore.labeling import label_sequence
from crcore.labelled import SOURCE
from crcore.sources import median_frame, source_masks

EVERYWHERE = np.ones(SHAPE, bool)


def masks_of(images, valid=EVERYWHERE):
    stack = np.array(images, "f4")
    level = stack - np.median(stack, axis=(1, 2), keepdims=True)
    return source_masks(level, median_frame(level), valid, SMALL)


@pytest.mark.parametrize("n", [3, 4, 5, 12])
def test_median_frame_is_the_median(n):
    stack = np.random.default_rng(n).normal(0, 1, (n, 30, 31)).astype("f4")
    stack[0, :10] = stack[1, :10]  # ties
    np.testing.assert_array_equal(median_frame(stack), np.median(stack, axis=0))


def test_every_star_is_in_the_source_mask_of_every_exposure_and_the_sky_is_not():
    masks, catalog = masks_of(exposures())
    assert len(catalog) == 4
    assert sorted(np.round(catalog["x"]).astype(int)) == [30, 40, 75, 100]
    for x, y in [(40, 35), (100, 50), (75, 100), (30, 90)]:
        assert masks[:, y - 3 : y + 4, x - 3 : x + 4].all()
    assert masks.mean() < 0.15
    assert not masks[:, 10:20, 60:90].any()


def test_mask_follows_the_seeing_of_each_exposure():
    images = [exposures(1, star(70, 60, 9000.0, fwhm), seed)[0] for seed, fwhm in enumerate((4.0, 4.0, 6.0))]
    masks, _ = masks_of(images)
    assert masks[2].sum() > 1.1 * masks[0].sum()
    assert not label_sequence(frames_of(images), SMALL).cr.any()


def test_ray_does_not_become_a_source():
    masks, catalog = masks_of(with_ray(exposures(light=np.zeros(SHAPE)), peak=5000.0))
    assert len(catalog) == 0
    assert not masks.any()


def test_ray_beside_a_star_does_not_belong_to_it():
    images = exposures(light=star(60, 60, 3000.0))
    images[1][60, 80:86] += 3000.0
    masks, _ = masks_of(images)
    assert not masks[1, 60, 80:86].any()


def test_galaxy_is_masked_as_far_as_it_is_seen():
    rows, columns = np.indices(SHAPE)
    galaxy = 900.0 * np.exp(-np.hypot((columns - 70) / 2, rows - 60) / 6)
    masks, catalog = masks_of(exposures(light=galaxy))
    assert len(catalog) >= 1
    assert masks[:, galaxy > 90].mean() > 0.97
    assert not masks[:, galaxy < 0.5].any()


def test_sources_where_there_are_no_data_are_not_looked_for():
    valid = EVERYWHERE.copy()
    valid[:, :50] = False  # holds two of the four
    assert len(masks_of(exposures(), valid)[1]) == 2


def test_empty_field_has_an_empty_catalogue_with_columns():
    masks, catalog = masks_of(exposures(light=np.zeros(SHAPE)))
    assert len(catalog) == 0
    assert {"x", "y", "a", "b", "theta"} <= set(catalog.colnames)


@pytest.mark.parametrize("n", [150, 250])
def test_crowded_field_is_reported_and_not_labelled(n):
    message = reported(frames_of(exposures(light=field(n, peak=(2e3, 4e4), fwhm=6.0))))
    assert "too crowded to label" in message


def test_field_with_more_than_half_its_pixels_on_sources_is_refused(monkeypatch):
    assert sources.MAX_SOURCE_SHARE == 0.5
    images = exposures(light=star(72, 64, 30_000.0, 30.0))
    assert 0.25 < masks_of(images)[0].mean() < 0.45
    monkeypatch.setattr(sources, "MAX_SOURCE_SHARE", 0.25)
    with pytest.raises(InputError, match=r"sources cover \d\d% of the frame: the field is too crowded"):
        masks_of(images)


def test_rich_field_that_can_be_labelled_is_labelled():
    images = exposures(light=field(40))
    images[1][RAY] += 3000.0
    sequence = label_sequence(frames_of(images), SMALL)
    assert 30 <= len(sequence.catalog) <= 40
    judged = (sequence.ignore[1][RAY] & SOURCE) == 0
    assert sequence.cr[1][RAY][judged].all()
    assert sequence.cr.sum() <= 8
