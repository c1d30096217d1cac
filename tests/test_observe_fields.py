"""What frames of a simulated sequence show: stars, blemishes, streaks, asteroids, recorded rays, any camera."""

from dataclasses import replace

import numpy as np
import pytest
import sep
from astropy.wcs import WCS

from crcore.instruments import CAMERAS, Camera
from crcore.simulate import movers, observe, sky
from crcore.simulate.detector import Detector, saturation_level
from crcore.simulate.movers import Asteroid, Streak
from crcore.simulate.observe import simulate_sequence

SINISTRO = CAMERAS["sinistro"]
SHARP = replace(SINISTRO, fwhm_px=(3.5, 4.5), optics=("moffat",), fields=("sparse",))
STARS = [(40.25, 50.5), (110.0, 45.125), (60.75, 120.0), (125.5, 118.375)]  # x, y


def simulated(seed, camera=SINISTRO, **options):
    options = {"shape": (96, 96), "exposure_s": 600.0, "n_frames": 2} | options
    return simulate_sequence(camera, rng=np.random.default_rng(seed), **options)


def arrays(sequence):
    return np.array([f.data for f in sequence.frames])


@pytest.fixture
def noiseless(monkeypatch):
    """Frames show what is expected, without noise and rays."""
    monkeypatch.setattr(observe, "expose", lambda expected, *args, **options: expected.astype("f4"))


@pytest.fixture
def empty(monkeypatch):
    """The sky is dark blue and flat, with nothing on it."""
    nothing = np.empty(0)
    monkeypatch.setattr(
        sky, "random_field", lambda *a, sky_e, **o: sky.Field(nothing, nothing, nothing, (), sky_e, (0.0, 0.0))
    )


def world(frame, x, y):
    return WCS(frame.header).pixel_to_world(x, y)


def test_stars_are_where_the_wcs_of_each_frame_says(noiseless, monkeypatch):
    x, y = np.array(STARS).T
    field = sky.Field(x, y, np.full(4, 1e5), (), 100.0, (0.0, 0.0))
    monkeypatch.setattr(sky, "random_field", lambda *args, **options: field)
    frames = simulated(3, SHARP, shape=(160, 170), n_frames=4, crossings=False).frames
    centres = []
    for frame in frames:
        px, py = WCS(frame.header).world_to_pixel(world(frames[0], x, y))
        light = frame.data - np.median(frame.data)
        fx, fy, flag = sep.winpos(light, px + 0.3, py - 0.3, 2.0)
        assert (flag == 0).all()
        np.testing.assert_allclose(np.hypot(fx - px, fy - py), 0, atol=0.02)
        centres.append((fx, fy))
    np.testing.assert_allclose(centres[0], (x, y), atol=0.02)
    moved = np.array(centres) - centres[0]
    np.testing.assert_allclose(moved, moved[:, :, :1] + np.zeros(4), atol=0.02)  # all the same way
    assert np.hypot(*moved[:, :, 0].T).max() > 0.8


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_stars_found_in_noisy_dithered_frames_agree_on_the_sky(seed):
    frames = simulated(
        seed, SHARP, shape=(400, 400), n_frames=3, exposure_s=300.0, rate_factor=0.0, field="sparse", crossings=False
    ).frames
    found = []
    for frame in frames:
        level = frame.data - np.median(frame.data)
        stars = sep.extract(level, 20.0, err=1.4826 * np.median(np.abs(level)), minarea=9)
        x, y, flag = sep.winpos(level, stars["x"], stars["y"], 1.7)
        inside = (flag == 0) & (np.abs(x - 200) < 180) & (np.abs(y - 200) < 180) & (stars["peak"] < 5e4)
        round_ = (stars["a"] < 1.3 * stars["b"]) & (stars["a"] < 3.0)
        found.append((x[inside & round_], y[inside & round_]))
    x, y = found[0]
    assert len(x) >= 5
    for frame, (fx, fy) in zip(frames[1:], found[1:], strict=True):
        px, py = WCS(frame.header).world_to_pixel(world(frames[0], x, y))
        apart = np.hypot(fx[:, None] - px, fy[:, None] - py).min(axis=0)
        assert np.median(apart) < 0.05


CAMERA_IDS = [*CAMERAS, "random 1", "random 2", "random 3", "random 4"]


@pytest.fixture(scope="module", params=CAMERA_IDS)
def any_camera(request):
    name = request.param
    camera = CAMERAS.get(name) or Camera.random(np.random.default_rng(int(name.split()[1])))
    return camera, simulated(5, camera, exposure_s=900.0, rate_factor=5.0)


def test_every_camera_simulates(any_camera):
    camera, made = any_camera
    for frame, truth, charge in zip(made.frames, made.truth, made.charge, strict=True):
        assert frame.shape == truth.shape == charge.shape == (96, 96)
        assert np.isfinite(frame.data).all()
        assert frame.data.dtype == np.float32
        assert set(np.unique(truth)) <= {0, 1, 2}
        assert np.ptp(frame.data) > 0
        assert (frame.read_noise, frame.saturation) == (camera.read_noise_e, saturation_level(camera))
        assert frame.header["CAMERA"] == camera.name
        assert frame.data.max() <= 1.4 * camera.saturation_e  # a full well divided by the flat
        assert charge[truth == 1].min(initial=1) > 0
        assert not truth[charge == 0].any()
    assert (sum(made.n_rays) > 0) == any(c.any() for c in made.charge)


def test_every_camera_makes_the_same_from_the_same_seed(any_camera):
    camera, made = any_camera
    again = simulated(5, camera, exposure_s=900.0, rate_factor=5.0)
    np.testing.assert_array_equal(arrays(made), arrays(again))
    np.testing.assert_array_equal(made.truth, again.truth)
    np.testing.assert_array_equal(made.charge, again.charge)
    assert [f.header.tostring() for f in made.frames] == [f.header.tostring() for f in again.frames]


def test_images_have_a_celestial_wcs_and_spectra_have_none(any_camera):
    camera, made = any_camera
    imaging = camera.kind == "imaging"
    for frame in made.frames:
        assert WCS(frame.header).has_celestial == imaging
        assert ("CRVAL1" in frame.header) == imaging
        assert frame.header["OBSTYPE"] == ("EXPOSE" if imaging else "SPECTRUM")
        assert frame.header["FIELD"] in (camera.fields if imaging else (camera.kind,))
        assert frame.header["OPTICS"] in (camera.optics if imaging else ("",))


@pytest.mark.parametrize(("optics", "expected"), [("donut", observe.DONUT_LEAST_PX), ("moffat", 1.6)])
def test_stars_out_of_focus_are_no_narrower_than_seeing_makes_them(optics, expected):
    sharp = replace(SINISTRO, fwhm_px=(1.6, 1.6), optics=(optics,), fields=("sparse",))
    made = simulated(4, sharp, n_frames=1)
    width = made.frames[0].header["L1FWHM"] / made.frames[0].header["PIXSCALE"]
    assert width == pytest.approx(expected, rel=0.3)


def test_rays_in_orbit_are_as_many_as_hubble_counts():
    hst = CAMERAS["acs_wfc"]
    made = simulated(8, hst, exposure_s=1000.0, rate_factor=15.0, n_frames=3)
    exposed = 3 * 1000 * 15 * hst.area_cm2((96, 96))
    assert sum(made.n_rays) == pytest.approx(0.96 * exposed, abs=4 * np.sqrt(0.96 * exposed))


def test_kind_of_field_can_be_chosen():
    assert {f.header["FIELD"] for f in simulated(1, field="nebula").frames} == {"nebula"}


def marked(camera, shape, rng, prnu=0.0):
    """A chip with a hot pixel, a hot column, a dead pixel and a dead column, two of them known."""
    assert prnu == 0
    zero, one = np.zeros(shape, "f4"), np.ones(shape, "f4")
    hot, sensitivity, bad = zero.copy(), one.copy(), zero.astype(bool)
    hot[20, 30], hot[:, 60] = 20.0, 5.0
    sensitivity[50, 12], sensitivity[40:, 80] = 0.1, 0.2
    bad[20, 30] = bad[40:, 80] = True
    return Detector(camera, one * np.float32(camera.read_noise_e), zero, sensitivity, one, hot, bad)


def test_blemishes_stay_in_place_while_the_sky_moves(empty, monkeypatch):
    chips = []
    monkeypatch.setattr(observe, "random_detector", lambda *args: chips.append(marked(*args)) or chips[-1])
    made = simulated(4, n_frames=3, rate_factor=0.0, crossings=False)
    shifts = {(f.header["CRPIX1"], f.header["CRPIX2"]) for f in made.frames}
    assert len(shifts) == 3
    assert len(chips) == 1  # one for all exposures
    for frame in made.frames:
        level = np.median(frame.data)
        assert frame.data[20, 30] - level == pytest.approx(20 * 600, rel=0.1)
        assert np.median(frame.data[:, 60]) - level == pytest.approx(5 * 600, rel=0.1)
        assert frame.data[50, 12] < 0.3 * level
        assert np.median(frame.data[40:, 80]) == pytest.approx(0.2 * level, rel=0.15)
        assert np.median(frame.data[:40, 80]) == pytest.approx(level, rel=0.1)
        np.testing.assert_array_equal(frame.bad, marked(SINISTRO, (96, 96), None).bad)
    assert not np.any(made.truth)


def test_streaks_are_in_the_data_and_not_in_the_truth(empty, monkeypatch):
    monkeypatch.setattr(movers, "random_streak", lambda *args: Streak(48.0, 48.0, 0.0, 1e5))
    made = simulated(6, rate_factor=0.0, streak_share=1.0)
    for frame in made.frames:
        across = frame.data.sum(axis=0) - 96 * np.median(frame.data[:20])
        assert np.median(across) == pytest.approx(1e5, rel=0.05)
        assert frame.data[48].min() > frame.data[:20].max()
    assert not np.any(made.truth)
    assert made.n_rays == (0, 0)


def test_a_share_of_exposures_has_streaks(monkeypatch, noiseless, empty):
    drawn = []
    monkeypatch.setattr(movers, "add_streak", lambda *args: drawn.append(args))
    simulated(6, shape=(16, 16), rate_factor=0.0, n_frames=100, streak_share=0.3)
    assert len(drawn) == pytest.approx(30, abs=18)


def test_nothing_crosses_when_told(monkeypatch, noiseless, empty):
    monkeypatch.setattr(observe, "ASTEROID_SHARE", 1.0)
    drawn = []
    for name in ("add_streak", "add_asteroid"):
        monkeypatch.setattr(movers, name, lambda *args, **options: drawn.append(args))
    simulated(6, crossings=False, streak_share=1.0)
    assert not drawn
    simulated(6, crossings=True, streak_share=1.0)
    assert len(drawn) == 4


def test_an_asteroid_moves_over_the_sky_and_is_not_in_the_truth(noiseless, empty, monkeypatch):
    monkeypatch.setattr(observe, "ASTEROID_SHARE", 1.0)
    speed = 10 / 630  # px per second: 10 px from exposure to exposure
    monkeypatch.setattr(movers, "random_asteroid", lambda *args: Asteroid(60.0, 30.0, speed, 0.0, 500.0))
    made = simulated(7, SHARP, shape=(120, 120), n_frames=3, rate_factor=0.0, streak_share=0.0)
    for k, frame in enumerate(made.frames):
        light = (frame.data - np.median(frame.data)).clip(0)
        rows, columns = np.indices(light.shape)
        px, py = WCS(frame.header).world_to_pixel(world(made.frames[0], 30 + speed * 300 + 10 * k, 60.0))
        assert (light * columns).sum() / light.sum() == pytest.approx(px, abs=0.1)
        assert (light * rows).sum() / light.sum() == pytest.approx(py, abs=0.1)
        assert light.sum() == pytest.approx(500 * 600, rel=0.03)
    assert not np.any(made.truth)


def test_recorded_rays_take_the_place_of_simulated_ones():
    ray = np.array([[5000.0, 7000.0]])
    plain = simulated(10, rate_factor=6.0, crossings=False)
    made = simulated(10, rate_factor=6.0, crossings=False, footprints=[ray])
    assert made.n_rays[0] == plain.n_rays[0] > 0
    for frame, charge, truth, n in zip(made.frames, made.charge, made.truth, made.n_rays, strict=True):
        assert charge.sum() <= 12_000 * n
        assert charge.sum() >= 12_000 * (n - 3)  # some may be cut at the edge
        assert set(np.unique(charge)) <= {0.0, 5000.0, 7000.0, 10_000.0, 12_000.0, 14_000.0}
        assert (truth[charge > 0] == 1).all()
        assert not truth[charge == 0].any()
        assert (frame.data[charge > 0] > 4000).all()


def test_charge_of_recorded_rays_appears_in_the_data(empty):
    made = simulated(10, rate_factor=10.0, crossings=False, footprints=[np.array([[5000.0, 7000.0]])])
    for frame, charge in zip(made.frames, made.charge, strict=True):
        excess = frame.data - np.median(frame.data)
        assert charge.any()
        np.testing.assert_allclose(excess[charge > 0], charge[charge > 0], rtol=0.3)
        assert excess[charge > 0].sum() == pytest.approx(charge.sum(), rel=0.15)
        assert np.median(np.abs(excess[charge == 0])) < 500


def test_truth_is_of_the_charge_against_the_noise_of_the_rest(empty, monkeypatch):
    monkeypatch.setattr(observe, "random_detector", marked)
    made = simulated(11, rate_factor=30.0, crossings=False)
    for frame, charge, truth in zip(made.frames, made.charge, made.truth, strict=True):
        noise = np.sqrt(np.median(frame.data) + SINISTRO.read_noise_e**2)
        assert (truth[charge > 6 * noise] == 1).all()
        assert (charge[truth == 1] > 2.2 * noise).all()
        assert (charge[truth == 0] < 0.6 * noise).all()
        assert (truth == 1).any()
