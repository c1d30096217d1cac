import numpy as np
import pytest
from scipy import stats

from crcore.morphology import COLUMNS, compare, footprints, measure


def test_corners_join_and_gaps_part():
    image = np.zeros((6, 8))
    image[0, 0], image[1, 1], image[1, 3], image[5, 7] = 10, 20, 30, 40
    cut = footprints(image, image > 0)
    assert [c.tolist() for c in cut] == [[[10, 0], [0, 20]], [[30]], [[40]]]
    assert all(c.dtype == np.float32 for c in cut)


def test_a_ray_inside_the_box_of_another_is_left_out():
    image = np.zeros((5, 5))
    image[:, 0] = image[4] = 7.0
    image[1, 3] = 99.0
    ell, dot = sorted(footprints(image, image > 0), key=np.size, reverse=True)
    assert ell.sum() == 9 * 7.0
    assert dot.tolist() == [[99.0]]


def test_no_rays_give_no_footprints_and_an_empty_table():
    assert footprints(np.ones((4, 4)), np.zeros((4, 4), dtype=bool)) == []
    table = measure([])
    assert len(table) == 0
    assert tuple(table.colnames) == COLUMNS


def test_charge_columns_are_sum_mean_and_peak():
    (row,) = measure([np.array([[0.0, 30.0], [50.0, 10.0]])])
    assert (row["n_pixels"], row["charge_e"], row["charge_per_pixel_e"], row["peak_e"]) == (3, 90.0, 30.0, 50.0)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_a_line_is_as_long_as_its_pixels_in_any_direction(n):
    across, along, slanted = (measure([f])["length_px"][0] for f in (np.ones((1, n)), np.ones((n, 1)), np.eye(n)))
    assert across == pytest.approx(n)
    assert along == pytest.approx(n)
    if n > 1:
        assert slanted == pytest.approx((n - 1) * np.sqrt(2) + np.sqrt(0.5))


@pytest.mark.parametrize("n", [2, 9, 30])
def test_straightness_of_a_line_is_that_of_its_moments(n):
    # a bar of n x 1 pixels: its moments are n²/12 and 1/12
    (value,) = measure([np.ones((1, n))])["straightness"]
    assert value == pytest.approx(1 - 1 / n)


def test_a_disk_is_not_straight_and_a_bent_track_less_than_a_straight_one():
    y, x = np.mgrid[-9:10, -9:10]
    disk = (x**2 + y**2 < 81).astype(float)
    bent = np.zeros((20, 20))
    bent[:, 0] = bent[19] = 1.0
    disk_value, bent_value, straight = measure([disk, bent, np.ones((1, 39))])["straightness"]
    assert disk_value == pytest.approx(0.0, abs=0.01)
    assert disk_value < bent_value < straight - 0.3


def test_shape_does_not_depend_on_charge():
    shape = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=float)
    one, two = measure([shape, shape * np.arange(1, 10).reshape(3, 3)])
    assert one["length_px"] == two["length_px"]
    assert one["straightness"] == two["straightness"]


def lot(n, mean, seed):
    rng = np.random.default_rng(seed)
    return [np.full((1, 1 + rng.poisson(mean)), 100.0) for _ in range(n)]


def test_lots_of_the_same_kind_agree_and_others_do_not():
    a, b, c = measure(lot(300, 5, 1)), measure(lot(300, 5, 2)), measure(lot(300, 9, 3))
    same, other = ({r["column"]: r for r in compare(a, t)} for t in (b, c))
    assert same["n_pixels"]["ks_p"] > 0.01
    assert same["n_pixels"]["anderson"] < 4
    assert other["n_pixels"]["ks"] > 0.4
    assert other["n_pixels"]["anderson"] > 50
    assert other["peak_e"]["ks"] == 0
    assert other["peak_e"]["anderson"] == 0


def test_compare_gives_the_statistics_and_percentiles_of_each_column():
    a, b = measure(lot(60, 5, 4)), measure(lot(40, 7, 5))
    rows = compare(a, b)
    assert [r["column"] for r in rows] == list(COLUMNS)
    length = rows[1]
    expected = stats.ks_2samp(a["length_px"], b["length_px"])
    assert (length["ks"], length["ks_p"]) == (expected.statistic, expected.pvalue)
    assert (length["a_16"], length["a_median"], length["a_84"]) == tuple(np.percentile(a["length_px"], (16, 50, 84)))
    assert length["b_median"] == np.median(b["length_px"])
