import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import SHAPE, SHIFTS, dithered, exposures, field, frames_of, moved, sky_header
from reproject import reproject_interp

from crcore import alignment
from crcore.alignment import align, wcs_map
from crcore.errors import InputError
from crcore.frame import Frame


def numbered(seed=0):
    """An image in which no two pixels are the same."""
    return np.random.default_rng(seed).permutation(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype("f4")


def pair(header, image=None):
    """A first frame on the sky, and an image with another header."""
    image = numbered() if image is None else image
    return [Frame(np.ones(SHAPE), header=sky_header(), name="first"), Frame(image, header=header, name="other")]


def shifted_frames(shifts, images):
    return [Frame(i, header=sky_header(*s)) for i, s in zip(images, shifts, strict=True)]


def sip_header(shift_x=0.0, strength=2e-4):
    header = sky_header(shift_x)
    header.update(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=strength, B_0_2=strength)
    return header


def by_reproject(frame, target):
    wcs = [WCS(header, fix=False).celestial for header in (frame.header, target.header)]
    return reproject_interp((frame.data, wcs[0]), wcs[1], target.shape, order="nearest-neighbor")[0]


def test_alignment_moves_whole_pixels_without_changing_their_values():
    frames = shifted_frames(SHIFTS, dithered())
    aligned = align(frames)
    assert aligned.methods == ("none", "wcs", "wcs")
    inner = np.s_[8:-8, 8:-8]
    for frame, (x, y), image in zip(frames, SHIFTS, aligned.stack, strict=True):
        np.testing.assert_array_equal(image[inner], moved(frame.data, -x, -y)[inner])


def test_pixels_that_an_exposure_does_not_cover_have_no_data_and_hold_its_typical_value():
    frames = shifted_frames(SHIFTS, dithered())
    aligned = align(frames)
    expected = np.zeros(SHAPE, bool)
    expected[2 : SHAPE[0] - 5, 4 : SHAPE[1] - 3] = True
    np.testing.assert_array_equal(aligned.valid, expected)
    blank = np.unique(aligned.stack[1][:2])
    assert blank.size == 1
    assert blank[0] == pytest.approx(np.median(frames[1].data), abs=2.0)


def test_bad_pixels_move_with_their_exposure_and_count_for_all():
    images = dithered()
    bad = np.zeros(SHAPE, bool)
    bad[50, 60] = True
    frames = shifted_frames(SHIFTS, images)
    frames[1] = Frame(images[1], header=sky_header(*SHIFTS[1]), bad=bad)
    valid = align(frames).valid[10:-10, 10:-10]
    assert np.argwhere(~valid).tolist() == [[50 + 2 - 10, 60 - 3 - 10]]


def test_frames_under_half_a_pixel_apart_are_not_resampled():
    frames = shifted_frames([(0, 0), (0.3, -0.3), (-0.45, 0.1)], exposures())
    aligned = align(frames)
    assert aligned.methods == ("none",) * 3
    np.testing.assert_array_equal(aligned.stack, [f.data for f in frames])
    assert aligned.valid.all()


def test_aligned_stack_is_a_copy():
    frames = shifted_frames([(0, 0)] * 3, exposures())
    before = frames[0].data.copy()
    align(frames).stack[:] = 0
    np.testing.assert_array_equal(frames[0].data, before)


@pytest.mark.parametrize("shift", [(0.6, 0.0), (3.3, -2.4), (0.0, -7.7)])
def test_shift_by_a_fraction_takes_the_nearest_pixel(shift):
    image = numbered()
    stack = align([*pair(sky_header(*shift), image)]).stack
    x, y = (int(np.round(s)) for s in shift)
    inner = np.s_[10:-10, 10:-10]
    np.testing.assert_array_equal(stack[1][inner], moved(image, -x, -y)[inner])


def test_without_resampling_every_exposure_stays_where_it_is():
    frames = shifted_frames(SHIFTS, dithered())
    aligned = align(frames, resample=False)
    assert aligned.methods == ("none",) * 3
    np.testing.assert_array_equal(aligned.stack, [f.data for f in frames])


@pytest.mark.parametrize("angle", [0.4, 3.0, -20.0, 90.0, 180.0])
def test_rotated_exposure_is_resampled_as_by_reproject(angle):
    first, other = pair(sky_header(1.2, -0.7, angle=angle))
    aligned = align([first, other])
    assert aligned.methods[1] == "wcs"
    expected = by_reproject(other, first)
    both = aligned.valid & np.isfinite(expected)
    assert both.mean() > 0.6
    assert (aligned.valid != np.isfinite(expected)).mean() < 0.01
    different = both & (aligned.stack[1] != expected)
    assert different.mean() < 0.01
    place = {value: position for position, value in np.ndenumerate(other.data)}
    for y, x in np.argwhere(different):  # never further than the neighbouring pixel
        a, b = place[aligned.stack[1][y, x]], place[np.float32(expected[y, x])]
        assert max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1


def test_affine_map_of_a_rotation_is_what_the_two_wcs_say():
    first, other = pair(sky_header(5.0, -3.0, angle=10.0))
    params, residual = wcs_map(first, other)
    assert residual < 0.01
    x, y = np.array([3.0, 100.0]), np.array([20.0, 111.0])
    there = WCS(other.header).world_to_pixel(WCS(first.header).pixel_to_world(x, y))
    np.testing.assert_allclose(params @ [x, y, [1, 1]], there, atol=0.01)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, 4.0), (-0.25, 0.0)])
def test_affine_map_of_a_shift_is_the_shift(shift):
    params, residual = wcs_map(*pair(sky_header(*shift)))
    np.testing.assert_allclose(params, [[1, 0, shift[0]], [0, 1, shift[1]]], atol=1e-4)
    assert residual < 1e-3


@pytest.mark.parametrize("header", [fits.Header(), sky_header(WCSERR=4)], ids=["none", "WCSERR"])
def test_there_is_no_map_without_a_good_wcs(header):
    first, other = pair(header)
    assert wcs_map(first, other)[0] is None
    assert wcs_map(other, first)[0] is None
    assert wcs_map(first, pair(sky_header(WCSERR=0))[1])[0] is not None


def test_distorted_wcs_goes_through_reproject():
    first, other = pair(sip_header(4.0))
    assert wcs_map(first, other)[1] > 0.1
    aligned = align([first, other])
    expected = by_reproject(other, first)
    assert aligned.methods[1] == "wcs"
    same = aligned.stack[1] == expected
    assert same[aligned.valid & np.isfinite(expected)].mean() > 0.99
    y = np.arange(SHAPE[0])[:, None] - SHAPE[0] / 2
    x = np.arange(SHAPE[1])[None] - SHAPE[1] / 2
    assert np.hypot(2e-4 * x**2, 2e-4 * y**2).max() > 1  # the distortion moves pixels, so a shift would not do
    shift_only = moved(other.data, -4, 0)
    assert (aligned.stack[1] == shift_only)[aligned.valid].mean() < 0.9


def test_two_exposures_with_one_distortion_are_a_mere_shift(monkeypatch):
    monkeypatch.setattr(alignment, "reproject_interp", None)
    frames = [Frame(numbered(i), header=sip_header(), name=str(i)) for i in range(2)]
    assert align(frames).methods == ("none", "none")


def test_another_projection_goes_through_reproject():
    first, other = pair(sky_header(2.0, CDELT1=-0.2, CDELT2=0.2))
    first.header.update(CTYPE1="RA---SIN", CTYPE2="DEC--SIN", CDELT1=-0.2, CDELT2=0.2)
    assert 0.5 < wcs_map(first, other)[1] < 20
    aligned = align([first, other])
    expected = by_reproject(other, first)
    both = aligned.valid & np.isfinite(expected)
    assert both.mean() > 0.5
    assert (aligned.stack[1] == expected)[both].mean() > 0.99
    assert (aligned.stack[1] == moved(other.data, -2, 0))[both].mean() < 0.9


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "LATPOLE": 2.0},
        {"PC1_1": 0.0, "PC2_2": 0.0, "PC1_2": 0.0, "PC2_1": 0.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "RA---TAN"},
    ],
    ids=["pole", "singular", "twice the same axis"],
)
def test_wcs_that_astropy_refuses_falls_back_to_the_stars(cards):
    images = dithered(light=field(14))
    frames = frames_of(images)
    frames[1].header.update(cards)
    assert align(frames).methods[1] == "stars"


@pytest.mark.parametrize("stars", [14, 40])
def test_frames_without_wcs_are_aligned_by_their_stars(stars):
    light = field(stars)
    aligned = align(frames_of(dithered(light=light), fits.Header()))
    assert aligned.methods == ("none", "stars", "stars")
    inner = np.s_[10:-10, 10:-10]
    level = aligned.stack - np.median(aligned.stack, axis=(1, 2), keepdims=True)
    bright = light[inner] > 1000
    assert np.corrcoef(level[0][inner][bright], level[1][inner][bright])[0, 1] > 0.98
    assert np.corrcoef(level[0][inner][bright], level[2][inner][bright])[0, 1] > 0.98


def test_frames_aligned_by_stars_keep_whole_pixel_values():
    images = dithered(light=field(14))
    aligned = align(frames_of(images, fits.Header()))
    inner = np.s_[10:-10, 10:-10]
    for (x, y), image, moved_image in zip(SHIFTS, images, aligned.stack, strict=True):
        np.testing.assert_array_equal(moved_image[inner], moved(image.astype("f4"), -x, -y)[inner])


def test_bad_wcs_falls_back_to_the_stars():
    frames = frames_of(dithered(light=field(14)), sky_header(WCSERR=4))
    assert align(frames).methods == ("none", "stars", "stars")


@pytest.mark.parametrize("n_bad", [1, 60])
def test_stars_match_despite_pixels_without_data(n_bad):
    images = dithered(light=field(14))
    rng = np.random.default_rng(0)
    for image in images[:2]:
        image[rng.integers(0, SHAPE[0], n_bad), rng.integers(0, SHAPE[1], n_bad)] = np.nan
    assert align(frames_of(images, fits.Header())).methods == ("none", "stars", "stars")


def test_frames_without_wcs_and_stars_are_reported():
    with pytest.raises(InputError, match=r"^frame1: has no usable WCS and its stars do not match frame0[^\n]*$"):
        align(frames_of(exposures(light=np.zeros(SHAPE)), fits.Header()))


@pytest.mark.parametrize("shift", [(90.0, 0.0), (0.0, -80.0), (500.0, 500.0)])
def test_exposures_that_hardly_overlap_are_reported(shift):
    with pytest.raises(InputError, match=r"^other: shares \d+% of the frame with first[^\n]*$"):
        align(pair(sky_header(*shift)))


def test_exposure_on_the_other_side_of_the_sky_is_reported():
    with pytest.raises(InputError, match=r"^other: "):
        align(pair(sky_header(CRVAL1=330.0, CRVAL2=-2.0)))


def test_exposure_with_a_bad_half_is_not_said_to_miss_the_field():
    first, other = pair(sky_header(2.0))
    bad = np.zeros(SHAPE, bool)
    bad[:, :90] = True
    other = Frame(other.data, bad=bad, header=other.header)
    valid = align([first, other]).valid
    assert valid[:, 90:-4].all()
    assert not valid[:, :87].any()


def test_shapes_that_differ_are_reported():
    with pytest.raises(InputError, match=r"^odd: has \(128, 128\) pixels, first has \(128, 144\)"):
        align([pair(sky_header())[0], Frame(np.zeros((128, 128)), name="odd")])


def test_frame_without_a_good_pixel_is_reported():
    with pytest.raises(InputError, match=r"^other: every pixel is bad"):
        align(pair(sky_header(), np.full(SHAPE, np.nan)))


def test_mover_puts_any_array_where_its_exposure_is():
    for header in (sky_header(3.0, -2.0), sky_header(angle=5.0), sip_header(4.0)):
        aligned = align(pair(header))
        again = aligned.movers[1](numbered())
        np.testing.assert_array_equal(np.isfinite(again), aligned.valid)
        np.testing.assert_array_equal(again[aligned.valid], aligned.stack[1][aligned.valid])
