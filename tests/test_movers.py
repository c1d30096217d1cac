from dataclasses import replace

import numpy as np
import pytest

from crcore.simulate.movers import Asteroid, Streak, add_asteroid, add_streak, random_asteroid, random_streak
from crcore.simulate.psf import draw_psf

PSF = draw_psf(3.0, beta=4.5)
ASTEROID = Asteroid(y=60.0, x=70.0, speed_px_per_s=0.1, angle_deg=0.0, flux_e_per_s=50.0)


def streaked(streak, shape=(140, 200), fwhm_px=4.0):
    image = np.zeros(shape, "f4")
    assert add_streak(image, streak, fwhm_px) is None
    return image


def passed(asteroid, *, begin_s=0.0, exposure_s=100.0, shape=(140, 160), **options):
    image = np.zeros(shape, "f4")
    add_asteroid(image, asteroid, PSF, begin_s=begin_s, exposure_s=exposure_s, **options)
    return image


def centre(image):
    rows, columns = np.indices(image.shape)
    return np.array([(image * rows).sum(), (image * columns).sum()]) / image.sum()


def spread(image):
    """Variance along rows and along columns, px^2."""
    y, x = centre(image)
    rows, columns = np.indices(image.shape)
    return np.array([(image * (rows - y) ** 2).sum(), (image * (columns - x) ** 2).sum()]) / image.sum()


def test_flux_of_a_streak_is_per_pixel_of_its_length():
    along = streaked(Streak(70.0, 100.0, 0.0, 30.0))
    np.testing.assert_allclose(along.sum(axis=0), 30.0, rtol=1e-3)
    slanted = streaked(Streak(70.0, 100.0, 30.0, 30.0))
    np.testing.assert_allclose(slanted[:, 50:150].sum(axis=0), 30.0 / np.cos(np.radians(30)), rtol=1e-3)
    upright = streaked(Streak(70.0, 100.0, 90.0, 30.0))
    np.testing.assert_allclose(upright.sum(axis=1), 30.0, rtol=1e-3)


@pytest.mark.parametrize(("fwhm", "drawn"), [(4.0, 4.0), (8.0, 8.0), (1.5, 1.5), (0.4, 1.0)])
def test_width_of_a_streak_is_that_of_the_stars(fwhm, drawn):
    image = streaked(Streak(70.3, 100.0, 0.0, 30.0), fwhm_px=fwhm)
    rows = np.arange(140)
    profile = image[:, 40] / image[:, 40].sum()
    middle = (profile * rows).sum()
    assert middle == pytest.approx(70.3, abs=0.03 if fwhm > 1 else 0.1)
    width = 2.3548 * np.sqrt((profile * (rows - middle) ** 2).sum())
    assert width == pytest.approx(drawn, rel=0.03 if fwhm > 1 else 0.2)


@pytest.mark.parametrize("angle", [0.0, 25.0, 100.0, 160.0])
def test_a_streak_runs_through_its_point_along_its_angle(angle):
    image = streaked(Streak(65.0, 95.0, angle, 1000.0))
    for way in (-40, -15, 0, 30):
        y, x = 65 + way * np.sin(np.radians(angle)), 95 + way * np.cos(np.radians(angle))
        assert image[round(y), round(x)] > 0.8 * image.max()
    y, x = 65 + 12 * np.cos(np.radians(angle)), 95 - 12 * np.sin(np.radians(angle))
    assert image[round(y), round(x)] < 1e-3 * image.max()


def test_an_aeroplane_has_parallel_lines_of_the_same_light():
    image = streaked(Streak(70.0, 100.0, 0.0, 30.0, lines=(-25.0, 0.0, 25.0)))
    for row in (45, 70, 95):
        assert image[row - 12 : row + 13, 30].sum() == pytest.approx(30.0, rel=1e-3)
        assert image[:, 30][row] == image[row - 12 : row + 13, 30].max()
    assert image[:, 30].sum() == pytest.approx(90.0, rel=1e-3)


def test_a_blinking_streak_is_dark_every_other_length():
    image = streaked(Streak(70.0, 100.0, 0.0, 30.0, blink_px=20.0))
    light = image.sum(axis=0)
    assert light[102:119] == pytest.approx(30.0, rel=1e-3)
    assert not light[122:139].any()
    assert light[142:159] == pytest.approx(30.0, rel=1e-3)
    assert not light[82:99].any()
    assert (light > 0).mean() == pytest.approx(0.5, abs=0.03)


def test_streaks_add_to_what_is_there():
    image = np.full((140, 200), 7.0, "f4")
    streak = Streak(70.0, 100.0, 10.0, 30.0)
    add_streak(image, streak, 4.0)
    np.testing.assert_allclose(image - 7.0, streaked(streak), atol=1e-5)


def test_satellites_and_aeroplanes_are_drawn_as_promised():
    rng = np.random.default_rng(1)
    streaks = [random_streak((300, 500), 10.0, rng) for _ in range(1500)]
    planes = [s for s in streaks if len(s.lines) > 1]
    satellites = [s for s in streaks if len(s.lines) == 1]
    assert len(planes) == pytest.approx(1500 / 8, abs=45)
    assert {len(s.lines) for s in planes} == {2, 3}
    assert all(np.allclose(np.add(s.lines, s.lines[::-1]), 0) and 15 <= s.lines[-1] <= 60 for s in planes)
    assert all(10 * 10**0.5 <= s.flux_e_per_px <= 10 * 10**2.5 for s in satellites)
    assert all(100 <= s.flux_e_per_px <= 1e4 for s in planes)
    assert all(0 < s.y < 300 and 0 < s.x < 500 and 0 <= s.angle_deg < 180 for s in streaks)
    assert np.mean([s.blink_px > 0 for s in satellites]) == pytest.approx(1 / 3, abs=0.05)
    assert np.mean([s.blink_px > 0 for s in planes]) == pytest.approx(1 / 2, abs=0.15)


def test_every_streak_crosses_the_frame():
    rng = np.random.default_rng(2)
    for _ in range(50):
        streak = replace(random_streak((100, 140), 10.0, rng), blink_px=0.0, lines=(0.0,))
        lit = streaked(streak, (100, 140), 2.0) > 0.1
        edge = np.concatenate([lit[0], lit[-1], lit[:, 0], lit[:, -1]])
        assert edge.any()
        assert lit.any(axis=0).sum() + lit.any(axis=1).sum() > 100


def test_asteroids_are_drawn_as_promised():
    rng = np.random.default_rng(3)
    asteroids = [random_asteroid((300, 500), 10.0, 200.0, rng) for _ in range(500)]
    motion = np.array([a.speed_px_per_s for a in asteroids]) * 200
    flux = np.array([a.flux_e_per_s for a in asteroids]) * 200
    assert 0.1 <= motion.min() < 0.12
    assert 8 < motion.max() <= 10
    assert 100 <= flux.min() < 120
    assert 2.5e4 < flux.max() <= 10 * 10**3.5
    assert all(0 <= a.y <= 300 and 0 <= a.x <= 500 and 0 <= a.angle_deg <= 360 for a in asteroids)


@pytest.mark.parametrize("speed", [1e-4, 0.05, 0.3])
def test_an_asteroid_keeps_its_flux(speed):
    image = passed(replace(ASTEROID, speed_px_per_s=speed))
    assert image.sum() == pytest.approx(50.0 * 100.0, rel=5e-3)
    assert image.min() >= 0


@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0, 200.0])
def test_an_asteroid_moves_between_and_during_exposures(angle):
    asteroid = replace(ASTEROID, angle_deg=angle)
    way = np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    for begin in (0.0, 130.0, 260.0):
        image = passed(asteroid, begin_s=begin)
        np.testing.assert_allclose(centre(image), (60, 70) + 0.1 * (begin + 50) * way, atol=0.03)


def test_a_trail_is_as_long_as_the_motion_and_along_it():
    still = spread(passed(replace(ASTEROID, speed_px_per_s=1e-4)))
    along = spread(passed(replace(ASTEROID, speed_px_per_s=0.2))) - still
    np.testing.assert_allclose(along, (0, 20**2 / 12), atol=0.6)
    across = spread(passed(replace(ASTEROID, speed_px_per_s=0.2, angle_deg=90.0))) - still
    np.testing.assert_allclose(across, (20**2 / 12, 0), atol=0.6)


def test_a_slanted_trail_points_along_its_angle():
    image = passed(replace(ASTEROID, speed_px_per_s=0.3, angle_deg=30.0))
    y, x = centre(image)
    rows, columns = np.indices(image.shape)
    mixed = (image * (rows - y) * (columns - x)).sum() / image.sum()
    vy, vx = spread(image)
    assert np.degrees(0.5 * np.arctan2(2 * mixed, vx - vy)) == pytest.approx(30.0, abs=0.5)


def test_an_asteroid_moves_with_the_pointing():
    moved = passed(ASTEROID, shift_px=(2.25, -3.5))
    np.testing.assert_allclose(centre(moved) - centre(passed(ASTEROID)), (2.25, -3.5), atol=0.02)


def test_an_asteroid_beyond_the_edge_gives_what_falls_inside():
    assert not passed(replace(ASTEROID, x=400.0)).any()
    half = passed(replace(ASTEROID, x=-0.5, speed_px_per_s=1e-4))
    assert half.sum() == pytest.approx(2500.0, rel=0.01)
    assert not half[:, 80:].any()
