import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import restoration

import crcore.repair
from crcore import InputError
from crcore.repair import METHODS, repair

both = pytest.mark.parametrize("method", METHODS)


def plane(shape=(20, 24)):
    y, x = np.indices(shape)
    return (100 + 3.0 * x + 2.0 * y).astype(np.float32)


@pytest.fixture
def ray():
    """A mask of a slanted ray in the middle of 20 x 24 pixels."""
    mask = np.zeros((20, 24), bool)
    for i in range(6):
        mask[7 + i, 9 + i : 11 + i] = True
    return mask


def at(shape, *places):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


@both
def test_a_flat_frame_is_restored_exactly(ray, method):
    flat = np.full(ray.shape, 250.0, dtype=np.float32)
    made = repair(flat + ray * 5000, ray, read_noise=3, method=method)
    assert np.array_equal(made.data, flat)
    assert np.array_equal(made.variance, flat + 9)  # neighbours that do not differ add nothing
    assert np.array_equal(made.replaced, ray)
    assert (made.data.dtype, made.variance.dtype, made.replaced.dtype) == (np.float32, np.float32, bool)


def test_a_gradient_is_restored_by_the_smooth_surface_but_not_by_the_median(ray):
    hit = plane() + ray * 5000
    assert repair(hit, ray, method="biharmonic").data == pytest.approx(plane(), abs=1e-3)
    assert np.abs(repair(hit, ray, method="median").data - plane()).max() > 1


def test_median_and_scatter_are_those_of_the_five_by_five_window():
    # 24 good neighbours, 1 to 24 in any order: median 12.5, absolute deviations 0.5, 0.5, 1.5, 1.5 ... 11.5: median 6
    image = np.zeros((9, 9))
    window = np.random.default_rng(3).permutation(24) + 1.0
    image[2:7, 2:7] = np.insert(window, 12, 9e4).reshape(5, 5)
    made = repair(image, at(image.shape, (4, 4)), read_noise=2, method="median")
    assert made.data[4, 4] == 12.5
    assert made.variance[4, 4] == pytest.approx(12.5 + 2**2 + (1.4826 * 6) ** 2)


def test_the_window_grows_until_it_has_five_good_pixels():
    image = np.full((15, 15), 900.0)
    image[4:11, 4:11] = 50.0  # 7 x 7
    bad = np.zeros(image.shape, bool)
    bad[5:10, 5:10] = True  # 5 x 5
    bad[5, 5:9] = False
    image[5, 5:9] = 3.0  # four good ones are one too few
    mask = at(image.shape, (7, 7))
    assert repair(image, mask, bad=bad, method="median").data[7, 7] == 50
    image[9, 9], bad[9, 9] = 3.0, False
    assert repair(image, mask, bad=bad, method="median").data[7, 7] == 3


@both
def test_other_pixels_and_the_input_stay_bit_for_bit(ray, method):
    image = np.random.default_rng(0).normal(300, 20, ray.shape).astype(np.float32)
    image[0, :4] = np.nan, np.inf, -0.0, 1e-42
    bad = at(ray.shape, (9, 5), (2, 2))
    noise = np.full(ray.shape, 7.0)
    given = [a.copy() for a in (image, ray, bad, noise)]
    made = repair(image, ray, bad=bad, variance=noise, method=method)
    assert np.array_equal(made.data.view(np.uint32)[~ray], image.view(np.uint32)[~ray])
    assert np.array_equal(made.variance[~ray], noise[~ray])
    for before, after in zip(given, (image, ray, bad, noise), strict=True):
        assert np.array_equal(before, after, equal_nan=before.dtype != bool)
    assert not any(np.shares_memory(made.replaced, a) for a in (ray, bad))


@both
@pytest.mark.parametrize("value", [6e4, -6e4, np.nan, np.inf])
def test_bad_neighbours_never_leak_in(ray, method, value):
    image = np.full(ray.shape, 100.0)
    bad = np.zeros(ray.shape, bool)
    bad[:, 12] = bad[4] = True
    image[bad] = value
    made = repair(image, ray, bad=bad, method=method)
    assert made.data[ray] == pytest.approx(100, abs=1e-4)
    assert np.array_equal(made.data[bad & ~ray], image.astype(np.float32)[bad & ~ray], equal_nan=True)
    assert made.variance[ray] == pytest.approx(100, abs=1e-4)


def test_a_slope_goes_on_under_a_bad_column():
    bad = np.zeros((20, 24), bool)
    bad[:, 11] = True
    mask = at(bad.shape, (9, 10), (10, 10), (10, 11))
    made = repair(np.where(bad | mask, 6e4, plane()), mask, bad=bad, method="biharmonic")
    assert made.data[mask] == pytest.approx(plane()[mask], abs=1e-2)
    assert (made.data[bad & ~mask] == 6e4).all()


@both
def test_a_ray_beside_another_does_not_leak_into_it(method):
    mask = at((20, 24), (9, 9), (9, 11), (11, 9), (12, 12), (6, 9))
    made = repair(np.where(mask, 6e4, 40.0), mask, method=method)
    assert (made.data == 40).all()


def test_the_variance_doubles_on_flat_sky_and_is_larger_on_a_slope(ray):
    rng = np.random.default_rng(1)
    flat = rng.normal(400, 20, (200, 200)).astype(np.float32)
    mask = np.zeros(flat.shape, bool)
    mask[10:190:9, 10:190:9] = True
    made = repair(flat, mask, read_noise=5.0)
    assert made.variance[mask].mean() == pytest.approx(2 * 400 + 25, rel=0.05)
    assert np.array_equal(made.variance[~mask], flat[~mask] + np.float32(25))
    slope = flat + 20 * (plane(flat.shape) - 100)
    steep = repair(slope, mask, read_noise=5.0)
    # over 5 x 5 pixels a slope of 60 by 40 a pixel has a robust variance of some thousands
    assert np.median(steep.variance[mask] - steep.data[mask] - 25) > 5 * 400


def test_on_a_star_the_error_covers_what_the_median_gets_wrong():
    y, x = np.indices((21, 21)) - 10
    star = 300 + 50_000 * (1 + (x**2 + y**2) / 4) ** -3.0
    mask = at(star.shape, (10, 12), (11, 12))  # on the slope
    made = repair(star + mask * 1e4, mask)
    wrong = np.abs(made.data - star)[mask]
    assert (wrong > 5 * np.sqrt(star[mask])).all()  # the noise of a measured pixel would not
    assert (wrong < 3 * np.sqrt(made.variance[mask])).all()


def test_negative_data_have_no_photon_noise():
    assert (repair(np.full((5, 5), -30.0), at((5, 5), (2, 2)), read_noise=4).variance == 16).all()


@both
def test_a_given_variance_is_that_of_the_neighbours_not_of_the_ray(ray, method):
    image = np.where(ray, 5e3, 100.0)
    noise = np.where(ray, 9e4, 50.0)
    noise[3, 3] = np.nan
    made = repair(image, ray, variance=noise, read_noise=99, method=method)
    assert made.variance[ray] == pytest.approx(50)
    assert np.array_equal(made.variance[~ray], noise[~ray], equal_nan=True)


def test_a_given_variance_that_is_unknown_all_around_comes_from_further_off():
    noise = np.full((30, 30), np.nan)
    noise[:3] = 60
    assert repair(np.ones((30, 30)), at((30, 30), (25, 25)), variance=noise).variance[25, 25] == 60


@both
@pytest.mark.parametrize("place", [(0, 0), (0, 3), (4, 5), (2, 0), np.s_[0, :3], np.s_[:, 5]])
def test_edges_and_corners_have_an_answer(method, place):
    mask = at((5, 6), place)
    made = repair(np.where(mask, 9e3, 10.0), mask, method=method)
    assert np.array_equal(made.data, np.full((5, 6), 10.0))
    assert np.array_equal(made.variance, np.full((5, 6), 10.0))


@both
@pytest.mark.parametrize("place", [(0, 0), (0, 11), (19, 5), (8, 23)])
def test_at_the_edge_of_a_slope_the_answer_lies_among_the_neighbours(method, place):
    image = plane()
    mask = at(image.shape, place)
    near = image[max(place[0] - 2, 0) : place[0] + 3, max(place[1] - 2, 0) : place[1] + 3]
    value = repair(np.where(mask, 9e3, image), mask, method=method).data[mask]
    assert near.min() <= value <= near.max()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[5.5, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ([[1, 1, 1], [0, 0, 0], [0, 0, 0]], [[6.5, 6.5, 6.5], [4, 5, 6], [7, 8, 9]]),
        ([[1, 1, 1], [1, 1, 1], [1, 1, 0]], [[9, 9, 9], [9, 9, 9], [9, 9, 9]]),  # one good pixel is the sky
    ],
)
def test_whole_frames_of_three_by_three(mask, expected):
    made = repair(np.arange(1, 10).reshape(3, 3), np.array(mask), method="median")
    assert made.data.tolist() == expected


def test_a_single_good_pixel_serves_the_smooth_surface_too():
    mask = np.arange(9).reshape(3, 3) < 8
    assert (repair(np.where(mask, 1e4, 7.0), mask, method="biharmonic").data == 7).all()


@both
def test_what_is_too_large_gets_the_sky(method):
    image = np.random.default_rng(2).normal(50, 1, (80, 80))
    mask = np.zeros((80, 80), bool)
    mask[10:70, 10:70] = True
    image[mask] = 1e5
    made = repair(image, mask, method=method)
    sky = np.float32(image)[~mask]
    assert made.data[40, 40] == np.median(sky)
    assert made.variance[40, 40] == pytest.approx(50 + 1, abs=0.5)
    assert made.data[mask] == pytest.approx(50, abs=2.5)  # medians of five scatter by 0.54 and there are hundreds


def test_groups_that_are_too_large_or_lonely_keep_their_medians():
    image = plane((50, 50))
    mask = np.zeros(image.shape, bool)
    mask[5:26, 5:25] = True  # 420 pixels
    bad = np.zeros(image.shape, bool)
    bad[34:47, 34:47] = True
    mask[40, 40] = True  # nothing good within six pixels
    hit = np.where(mask | bad, 6e4, image)
    smooth, median = (repair(hit, mask, bad=bad, method=m).data for m in ("biharmonic", "median"))
    assert np.array_equal(smooth, median)
    assert smooth[40, 40] == np.median(image[~mask & ~bad])
    mask[5] = False
    hit[5] = image[5]
    made = repair(hit, mask, bad=bad, method="biharmonic").data
    assert made[6:26, 5:25] == pytest.approx(image[6:26, 5:25], abs=1e-2)  # 400 are not too many


def test_the_solver_sees_only_what_is_near_a_group(monkeypatch):
    # a slanted ray whose box is full of another detector defect: solving for all of it would take seconds
    solved = []

    def counted(image, mask, solver=restoration.inpaint_biharmonic):
        solved.append(mask.sum())
        return solver(image, mask)

    monkeypatch.setattr(restoration, "inpaint_biharmonic", counted)
    mask, bad = np.eye(120, dtype=bool), np.zeros((120, 120), bool)
    bad[30:110, 2:20] = True
    made = repair(np.where(mask | bad, 6e4, plane(mask.shape)), mask, bad=bad, method="biharmonic")
    assert len(solved) == 1
    assert solved[0] <= mask.sum()
    middle = np.arange(25, 115)
    assert made.data[middle, middle] == pytest.approx(plane(mask.shape)[middle, middle], abs=1e-2)


def test_many_pixels_in_pieces_are_as_in_one(monkeypatch):
    rng = np.random.default_rng(4)
    image, mask = rng.normal(300, 20, (60, 60)), rng.random((60, 60)) < 0.7
    whole = repair(image, mask, method="median")
    monkeypatch.setattr(crcore.repair, "_CHUNK", 200)
    pieces = repair(image, mask, method="median")
    assert np.array_equal(whole.data, pieces.data)
    assert np.array_equal(whole.variance, pieces.variance)


def test_nothing_flagged_is_nothing_changed():
    image = plane()
    made = repair(image, np.zeros(image.shape, bool), read_noise=2)
    assert np.array_equal(made.data, image)
    assert np.array_equal(made.variance, image + 4)
    assert not made.replaced.any()
    assert not np.shares_memory(made.data, image)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(METHODS))
def test_any_image_gets_values_between_those_it_was_made_from(data, method):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    dtype = np.dtype(data.draw(st.sampled_from(["u1", ">i2", "<u2", "i4", ">f4", "f4", "f8", "bool"])))
    elements = st.integers(0, 100) if dtype.kind in "ui" else None
    if dtype.kind == "f":
        elements = st.floats(-1e5, 1e5, width=32) | st.just(np.nan)
    image = data.draw(hnp.arrays(dtype, shape, elements=elements))
    mask = data.draw(hnp.arrays(bool, shape))
    bad = data.draw(hnp.arrays(bool, shape))
    good = np.isfinite(image) & ~mask & ~bad
    if mask.any() and not good.any():
        with pytest.raises(InputError, match="no good pixel"):
            repair(image, mask, bad=bad, method=method)
        return
    made = repair(image, mask, bad=bad, read_noise=1, method=method)
    assert np.array_equal(made.data[~mask], image[~mask].astype(np.float32), equal_nan=True)
    if mask.any():
        low, high = image[good].min(), image[good].max()
        slack = 1e-6 * max(abs(float(low)), abs(float(high)))  # of a scaled float32
        assert (made.data[mask] >= low - slack).all()
        assert (made.data[mask] <= high + slack).all()
    assert (made.variance >= 1).all()


GOOD, CENTRE = np.zeros((4, 4)), at((4, 4), (1, 1))


@pytest.mark.parametrize(
    ("image", "mask", "options", "message"),
    [
        (GOOD, CENTRE[:3], {}, "mask has shape"),
        (np.zeros(4), np.zeros(4, bool), {}, "two-dimensional"),
        (np.zeros((0, 4)), np.zeros((0, 4), bool), {}, "two-dimensional"),
        (GOOD + 1j, CENTRE, {}, "complex128"),
        (np.full((4, 4), "a"), CENTRE, {}, "numbers"),
        (GOOD, np.ones((4, 4), bool), {}, "no good pixel"),
        (GOOD, CENTRE, {"bad": np.ones((4, 4))}, "no good pixel"),
        (GOOD + np.nan, CENTRE, {}, "no good pixel"),
        (GOOD, CENTRE, {"method": "magic"}, "'magic' is unknown: use one of median, biharmonic"),
        (GOOD, CENTRE, {"bad": np.zeros((2, 2))}, "bad-pixel mask has shape"),
        (GOOD, CENTRE, {"variance": np.zeros((2, 2))}, "variance has shape"),
        (GOOD, ~CENTRE & CENTRE, {"variance": np.zeros((2, 2))}, "variance has shape"),
        (GOOD, CENTRE, {"variance": np.full((4, 4), np.nan)}, "no finite value"),
        (GOOD, CENTRE, {"read_noise": -1.0}, "read noise -1.0"),
        (GOOD, CENTRE, {"read_noise": np.nan}, "read noise nan"),
    ],
)
def test_bad_input_is_one_line(image, mask, options, message):
    with pytest.raises(InputError, match=message) as caught:
        repair(image, mask, **options)
    assert "\n" not in str(caught.value)
