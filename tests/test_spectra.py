from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from crcore.errors import InputError
from crcore.instruments import CAMERAS
from crcore.simulate.spectra import Band, Echelle, LongSlit, Source, random_spectrum, render

NRES, SLIT = CAMERAS["nres"], CAMERAS["longslit"]
SHAPES = {"nres": (300, 400), "longslit": (512, 1024)}


def scene_of(camera, shape, seed, exposure_s=1200.0):
    return random_spectrum(camera, shape, exposure_s=exposure_s, rng=np.random.default_rng(seed))


@cache
def echelle(shape=(300, 400), second="lamp"):
    """A scene whose second fibre is what we ask for, with a bright star and no scattered light."""
    for seed in range(50):
        scene = scene_of(NRES, shape, seed)
        found = "lamp" if len(scene.lamp[0]) else "sky" if scene.sky else "dark"
        if found == second:
            nothing = np.zeros_like(scene.scattered[0]), scene.scattered[1]
            return replace(scene, scattered=nothing, level_e=np.full_like(scene.level_e, 1e4))
    raise AssertionError(f"no scene with {second}")


def slit(*sources, tilt=0.0, lines=((500.0, 1e5),), sky_e=0.0, half_px=100.0):
    """A plain slit in the middle of a frame of 300 x 1000."""
    line = scene_of(SLIT, (512, 2048), 0).line
    columns, electrons = np.array(lines).reshape(-1, 2).T
    sky, ones = np.full(1000, sky_e), np.ones(300)
    band = Band((0.0, 0.0, 0.0, 150.0), half_px, (tilt, 0.0), sky, (columns, electrons), ones, np.zeros(1000), sources)
    return LongSlit((300, 1000), (0, 0), False, line, (band,), (4.0, 3.5))


def star(electrons, row=0.0):
    return Source((0.0, 0.0, row), np.full(1000, electrons), 0.0, (), (0.0, 1.0), np.ones(300))


def order_rows(scene, shape):
    """Row of every order in the sub-frame, (n, W)."""
    scaled = (np.arange(shape[1]) + scene.origin[1]) / (scene.full[1] / 2) - 1
    return np.array([np.polyval(polynomial, scaled) for polynomial in scene.rows]) - scene.origin[0]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", range(8))
def test_electrons_are_finite_and_not_negative(name, seed):
    shape = SHAPES[name]
    image = render(scene_of(CAMERAS[name], shape, seed), shape, shift_px=(0.3, -1.2), seeing_factor=1.3)
    assert image.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() > 0


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_seed_gives_the_same_scene(name):
    shape = SHAPES[name]
    images = [render(scene_of(CAMERAS[name], shape, seed), shape) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_imaging_cameras_are_refused():
    with pytest.raises(InputError, match="Sinistro.*imaging"):
        scene_of(CAMERAS["sinistro"], (64, 64), 0)


def test_orders_keep_their_physical_spacing_in_a_small_frame():
    for seed in range(5):
        scene = scene_of(NRES, (100, 100), seed)
        spacing = np.diff(scene.rows[:, 3])
        assert spacing.min() > 20
        assert spacing.max() < 62
        assert scene.rows[-1, 3] > NRES.shape[0]


def test_light_of_an_order_lies_on_its_trace():
    shape = (300, 400)
    scene = echelle(shape, second="dark")
    image = render(scene, shape)
    rows = order_rows(scene, shape)
    y = np.arange(shape[0])[:, None]
    distance = np.abs(y - rows[:, None, :]).min(axis=0)  # (H, W) px from the nearest order
    assert image[distance < 5].sum() > 0.98 * image.sum()
    inner = rows[(rows.min(axis=1) > 12) & (rows.max(axis=1) < shape[0] - 12)]
    for row in inner:
        near = np.where(np.abs(y - row) < 8, image, 0)
        centroid = (near * y).sum(axis=0) / near.sum(axis=0)
        np.testing.assert_allclose(centroid, row, atol=0.02)


def test_the_second_fibre_shows_unresolved_lines_of_the_lamp():
    shape = (300, 400)
    scene = echelle()
    dark = replace(scene, lamp=(np.empty(0), np.empty(0)))
    lamp = render(scene, shape) - render(dark, shape)
    y = np.arange(shape[0])[:, None]
    distance = np.abs(y - order_rows(scene, shape)[:, None, :] - scene.gap_px).min(axis=0)
    assert lamp[distance < 6].sum() > 0.98 * lamp.sum()
    r, c = np.unravel_index(np.argmax(np.where((y > 20) & (y < 280), lamp, 0)[:, 20:-20]), (300, 360))
    spot = lamp[r - 6 : r + 7, c + 20 - 6 : c + 20 + 7]
    widths = [np.sum(spot.sum(axis=axis) > spot.sum(axis=axis).max() / 2) for axis in (0, 1)]
    assert max(widths) <= 6
    assert abs(widths[0] - widths[1]) <= 2


def test_clouds_dim_the_star_and_not_the_lamp():
    shape = (300, 400)
    scene = echelle()
    clear, cloudy, dark = (render(scene, shape, throughput=t) for t in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(cloudy - dark, 0.5 * (clear - dark), rtol=1e-3, atol=0.05)
    assert dark.sum() > 0
    np.testing.assert_allclose(render(scene, shape, seeing_factor=2.0), cloudy, rtol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", [0, 5])
def test_flexure_of_whole_pixels_moves_the_image(name, seed):
    shape = SHAPES[name]
    scene = scene_of(CAMERAS[name], shape, seed)
    if name == "nres":
        scene = replace(scene, scattered=(np.zeros(4096), np.ones(4096)))
    moved = render(scene, shape, shift_px=(3.0, -2.0))
    same = render(scene, shape)
    np.testing.assert_allclose(moved[23:-20, 20:-22], same[20:-23, 22:-20], rtol=2e-3, atol=0.05)


def test_flexure_below_a_pixel_moves_the_centroid():
    image, moved = (render(slit(star(1e4)), (300, 1000), shift_px=(s, s)) for s in (0.0, 0.37))
    for axis, cut in ((0, np.s_[100:200, 100:400]), (1, np.s_[60:120, 485:515])):
        first, second = (ndimage.center_of_mass(frame[cut])[axis] for frame in (image, moved))
        assert second - first == pytest.approx(0.37, abs=0.01), axis


def test_a_slit_is_dark_beyond_its_jaws():
    image = render(slit(star(1e4), sky_e=100.0, half_px=80.0), (300, 1000))
    assert image[:68].max() == 0
    assert image[233:].max() == 0
    np.testing.assert_allclose(image[75:100, 100], 100, rtol=0.01)


def test_sky_lines_are_narrow_along_the_dispersion_and_long_across():
    image = render(slit(), (300, 1000))
    spectrum, length = image.sum(axis=0), image[:, 500]
    assert SLIT.fwhm_px[0] - 1 <= np.sum(spectrum > spectrum.max() / 2) <= SLIT.fwhm_px[1] + 1
    assert np.sum(length > length.max() / 2) == pytest.approx(200, abs=2)
    np.testing.assert_allclose(image[100:200].sum(axis=1), 1e5, rtol=1e-3)


def test_a_tilted_line_shifts_along_the_slit():
    image = render(slit(tilt=0.05), (300, 1000))
    centre = [np.average(np.arange(1000), weights=image[row]) for row in (90, 210)]
    assert centre[1] - centre[0] == pytest.approx(0.05 * 120, abs=0.02)


def test_a_star_keeps_its_electrons_and_widens_with_the_seeing():
    sharp, blurred = (render(slit(star(1e4), lines=()), (300, 1000), seeing_factor=f)[:, 300] for f in (1.0, 2.0))
    assert sharp.sum() == pytest.approx(1e4, rel=0.01)
    assert blurred.sum() == pytest.approx(1e4, rel=0.02)
    fwhm = [np.sum(profile > profile.max() / 2) for profile in (sharp, blurred)]
    assert fwhm[0] in (3, 4, 5)
    assert fwhm[1] in (7, 8, 9)


def test_emission_of_a_rotating_galaxy_bends_from_side_to_side():
    galaxy = Source((0.0, 0.0, 0.0), np.zeros(1000), 30.0, ((600.0, 1e4),), (5.0, 6.0), np.ones(300))
    image = render(slit(galaxy, lines=()), (300, 1000))
    peaks = [np.average(np.arange(1000), weights=image[row]) for row in (120, 150, 180)]
    np.testing.assert_allclose(peaks, [595, 600, 605], atol=0.1)


def test_dispersion_runs_along_y_when_the_frame_allows_it():
    scenes = [scene_of(SLIT, (256, 256), seed) for seed in range(20)]
    assert {scene.transposed for scene in scenes} == {False, True}
    assert not any(scene_of(SLIT, (512, 2048), seed).transposed for seed in range(10))
    assert scene_of(SLIT, (2048, 512), 0).transposed
    plain = slit(star(1e4))
    turned = render(replace(plain, transposed=True), (1000, 300), shift_px=(1.5, 2.0))
    np.testing.assert_array_equal(turned.T, render(plain, (300, 1000), shift_px=(2.0, 1.5)))


def test_scenes_are_of_the_kind_of_the_camera():
    assert isinstance(scene_of(NRES, (64, 64), 0), Echelle)
    assert isinstance(scene_of(SLIT, (64, 64), 0), LongSlit)
