import numpy as np
import pytest

from crcore.objects import ObjectScores


@pytest.fixture
def field():
    truth = np.zeros((20, 20), dtype=bool)
    truth[2, 2:8] = True
    truth[10, 10] = truth[11, 11] = True  # one ray, by its corner
    truth[18, 3] = True
    return truth


def test_a_ray_is_found_by_any_of_its_pixels(field):
    mask = np.zeros_like(field)
    mask[2, 7] = mask[11, 11] = True
    scores = ObjectScores()
    scores.add(mask, field)
    assert scores.completeness == pytest.approx(2 / 3)
    assert scores.purity == 1.0
    assert sorted(scores.rays["n_pixels"]) == [1, 2, 6]
    assert scores.rays["share_found"].tolist() == pytest.approx([1 / 6, 0.5, 0.0])


def test_a_halo_forgives_a_pixel_on_either_side(field):
    mask = np.zeros_like(field)
    mask[3, 4] = mask[15, 15] = True
    strict, kind = ObjectScores(), ObjectScores(halo_px=1)
    for scores in (strict, kind):
        scores.add(mask, field)
    assert (strict.completeness, strict.purity) == (0.0, 0.0)
    assert (kind.completeness, kind.purity) == (pytest.approx(1 / 3), 0.5)


def test_what_does_not_count_is_left_out(field):
    use = np.ones_like(field)
    use[18, 3] = use[0] = False
    mask = np.zeros_like(field)
    mask[0, 5] = True
    scores = ObjectScores()
    scores.add(mask, field, use)
    assert len(scores.rays) == 2
    assert np.isnan(scores.purity)


def test_charge_and_distance_are_those_of_each_ray(field):
    source = np.zeros_like(field)
    source[2, 10] = True
    scores = ObjectScores()
    scores.add(field, field, charge=np.where(field, 50.0, 0), source=source)
    assert scores.rays["charge_e"].tolist() == pytest.approx([300, 100, 50])
    assert scores.rays["distance_px"][0] == 3.0


def test_frames_add_up_and_an_empty_one_does_no_harm(field):
    scores = ObjectScores()
    scores.add(field, field)
    scores.add(np.zeros_like(field), np.zeros_like(field))
    assert (scores.completeness, scores.purity, len(scores.rays)) == (1.0, 1.0, 3)
    assert np.isnan(ObjectScores().completeness)


def test_detections_are_measured_as_rays_are(field):
    mask = np.zeros_like(field)
    mask[2, 2:4] = mask[15, 15] = True
    source = np.zeros_like(field)
    source[15, 12] = True
    scores = ObjectScores()
    scores.add(mask, field, charge=np.full(field.shape, 10.0), source=source)
    table = scores.detections
    assert table["right"].tolist() == [True, False]
    assert table["charge_e"].tolist() == pytest.approx([20, 10])
    assert table["distance_px"][1] == 3.0
