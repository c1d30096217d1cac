import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from conftest import ELECTRON_MASS, THICKNESS, path_um, run_um
from scipy import integrate, spatial

from crcore.instruments import CAMERAS
from crcore.simulate import rays
from crcore.simulate.rays import (
    Track,
    charge_map,
    landau_loss_ev,
    muon_flux,
    muons,
    tilted_flux_ratio,
)

SINISTRO = CAMERAS["sinistro"]


@pytest.fixture(scope="module")
def tracks():
    """Muons through a horizontal detector that is much wider than thick, with their delta rays."""
    rng = np.random.default_rng(1)
    return muons(4000, size_um=(50_000.0, 50_000.0), thickness_um=THICKNESS, tilt_rad=0.0, rng=rng)


@pytest.fixture(scope="module")
def straight(tracks):
    return [t for t in tracks if t.kind == "muon"]


def point(x, y, depth, charge=1000.0):
    return Track(np.array([x]), np.array([y]), np.array([depth]), np.array([charge]), "muon")


def peak(samples):
    """Where a sample that peaks near 0 with a width of a few is most dense: a cubic through the log of a histogram."""
    counts, edges = np.histogram(samples, bins=np.linspace(-1.2, 1.5, 28))
    fit = np.polynomial.Polynomial.fit((edges[:-1] + edges[1:]) / 2, np.log(counts), 3)
    places = np.linspace(-1.2, 1.5, 2701)
    return places[np.argmax(fit(places))]


def test_every_muon_crosses_the_whole_thickness(straight):
    for track in straight[:200]:
        n = len(track.depth_um)
        assert np.ptp(track.depth_um) * n / (n - 1) == pytest.approx(THICKNESS)


def test_muon_tracks_are_straight(straight):
    for track in straight[:200]:
        places = np.stack([track.x_um, track.y_um, track.depth_um], axis=1) - [
            track.x_um[0],
            track.y_um[0],
            track.depth_um[0],
        ]
        np.testing.assert_allclose(np.cross(places, places[-1]), 0.0, atol=1e-6 * path_um(track) ** 2)


def test_steps_are_no_longer_than_asked_along_the_path(straight):
    for track in straight[:200]:
        step = np.sqrt(np.diff(track.x_um) ** 2 + np.diff(track.y_um) ** 2 + np.diff(track.depth_um) ** 2)
        assert step.max() <= 2.0 + 1e-6
        assert step.sum() * len(track.x_um) / (len(track.x_um) - 1) == pytest.approx(path_um(track))


def test_mean_path_is_four_thirds_of_the_thickness(straight):
    # density 4 cos³ of the cosine: the mean of 1/cos is 4/3, its variance 2 - 16/9
    paths = np.array([path_um(t) for t in straight]) / THICKNESS
    assert paths.mean() == pytest.approx(4 / 3, abs=4 * np.sqrt(2 / 9 / len(paths)))


def test_mean_projected_run_is_a_quarter_pi_of_the_thickness(straight):
    runs = np.array([run_um(t) for t in straight]) / THICKNESS
    assert runs.mean() == pytest.approx(np.pi / 4, abs=4 * np.sqrt((1 - np.pi**2 / 16) / len(runs)))


def test_track_azimuths_are_uniform(straight):
    azimuth = np.array([np.arctan2(t.y_um[-1] - t.y_um[0], t.x_um[-1] - t.x_um[0]) for t in straight])
    limit = 4 * np.sqrt(0.5 / len(azimuth))
    assert abs(np.cos(azimuth).mean()) < limit
    assert abs(np.sin(azimuth).mean()) < limit
    assert abs(np.cos(2 * azimuth).mean()) < limit


def test_muons_enter_uniformly_over_the_detector():
    entries = [
        (t.x_um[0], t.y_um[0])
        for t in muons(800, size_um=(3000.0, 6000.0), thickness_um=1.0, tilt_rad=0.0, rng=np.random.default_rng(2))
        if t.kind == "muon"
    ]
    x, y = np.array(entries).T
    assert x.mean() == pytest.approx(3000.0, abs=4 * 6000 / np.sqrt(12 * len(x)))
    assert y.mean() == pytest.approx(1500.0, abs=4 * 3000 / np.sqrt(12 * len(y)))


def test_zenith_cosine_moments_follow_the_cos_squared_law():
    cos = rays._muon_directions(40_000, 0.0, np.random.default_rng(3))[:, 2]
    assert cos.mean() == pytest.approx(4 / 5, abs=4 * np.sqrt((2 / 3 - 16 / 25) / len(cos)))
    assert (cos**2).mean() == pytest.approx(2 / 3, abs=4 * np.sqrt((1 / 2 - 4 / 9) / len(cos)))
    assert cos.min() >= 0


def test_directions_are_unit_vectors_and_as_many_as_asked():
    directions = rays._muon_directions(1000, 0.7, np.random.default_rng(4))
    assert directions.shape == (1000, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)


def test_vertical_detector_sees_flatter_muons_as_the_projected_area_says():
    # plane with a horizontal normal: |cos| of incidence is sin(zenith) |cos(azimuth)|
    def moment(power):
        zenith = integrate.quad(lambda c: c**2 * (1 - c**2) ** (power / 2), 0, 1)[0]
        return zenith * integrate.quad(lambda a: np.abs(np.cos(a)) ** power, 0, np.pi / 2)[0]

    cos = np.abs(rays._muon_directions(20_000, np.pi / 2, np.random.default_rng(5))[:, 2])
    assert cos.mean() == pytest.approx(moment(2) / moment(1), abs=0.008)


@pytest.mark.parametrize(("thickness", "electrons_per_um"), [(15.0, 62.2), (100.0, 71.4)])
def test_most_probable_charge_agrees_with_pdg_equation_34_12(thickness, electrons_per_um):
    xi = 0.5 * 0.307075e6 * 0.49848 * 2.329e-4 * thickness  # eV: K/2 Z/A rho x, rho in g/cm2 per um
    expected = xi * (np.log(2 * ELECTRON_MASS * xi / 31.05**2) + 0.2) / 3.65
    assert expected / thickness == pytest.approx(electrons_per_um, rel=0.01)
    charge = landau_loss_ev(np.full(400_000, thickness), np.random.default_rng(6)) / rays.EV_PER_ELECTRON
    assert peak((charge - expected) * 3.65 / xi) == pytest.approx(0.0, abs=0.05)


def test_landau_width_is_four_xi():
    # full width at half maximum of Landau's distribution: 4.018 xi
    xi = rays.XI_EV_PER_UM * 100.0
    loss = landau_loss_ev(np.full(400_000, 100.0), np.random.default_rng(7)) / xi
    counts, edges = np.histogram(loss, bins=np.arange(loss.min(), loss.min() + 20, 0.2))
    above = np.flatnonzero(counts >= counts.max() / 2)
    assert edges[above[-1] + 1] - edges[above[0]] == pytest.approx(4.018, abs=0.3)


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_sum_of_landau_steps_does_not_depend_on_the_step(step):
    rng = np.random.default_rng(8)
    whole = landau_loss_ev(np.full(20_000, 20.0), rng)
    parts = landau_loss_ev(np.full((20_000, int(20.0 / step)), step), rng).sum(axis=1)
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(np.quantile(parts, quantiles), np.quantile(whole, quantiles), rtol=0.015)


def test_losses_beyond_the_cut_become_the_most_probable():
    whole = landau_loss_ev(np.full(200_000, 15.0), np.random.default_rng(9))
    loss = landau_loss_ev(np.full(200_000, 15.0), np.random.default_rng(9), cut_ev=60e3)
    assert whole.min() > 0
    assert whole.max() > 1e6
    np.testing.assert_array_equal(loss[whole <= 60e3], whole[whole <= 60e3])
    xi = rays.XI_EV_PER_UM * 15.0
    np.testing.assert_allclose(loss[whole > 60e3], xi * (np.log(2 * ELECTRON_MASS * xi / 31.05**2) + 0.2))


def test_median_muon_charge_per_length_is_that_of_a_minimum_ionising_particle(straight):
    # the median of Landau's distribution lies 1.5785 xi above its peak (1.3558 - -0.2228)
    ratios = []
    for track in straight:
        xi = rays.XI_EV_PER_UM * path_um(track)
        median = xi * (np.log(2 * ELECTRON_MASS * xi / 31.05**2) + 0.2 + 1.5785) / 3.65
        ratios.append(track.charge_e.sum() / median)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)


def test_delta_rays_are_as_many_as_the_knock_on_cross_section_says(tracks, straight):
    expected = rays.XI_EV_PER_UM / rays.DELTA_EV * sum(path_um(t) for t in straight)
    deltas = sum(t.kind == "delta" for t in tracks)
    assert deltas == len(tracks) - len(straight)
    assert deltas == pytest.approx(expected, abs=4 * np.sqrt(expected) + 1)


def test_delta_rays_start_on_their_muon():
    made = muons(300, size_um=(2e4, 2e4), thickness_um=150.0, tilt_rad=0.5, rng=np.random.default_rng(10))
    crossing = [t for t in made if t.kind == "muon"]
    places = np.concatenate([np.stack([t.x_um, t.y_um, t.depth_um], axis=1) for t in crossing])
    starts = np.array([[t.x_um[0], t.y_um[0], t.depth_um[0]] for t in made if t.kind == "delta"])
    assert len(starts) > 20
    assert spatial.cKDTree(places).query(starts)[0].max() < 4.0


def test_charge_inside_the_frame_is_conserved():
    rng = np.random.default_rng(11)
    deposits = Track(
        rng.uniform(400, 600, 300),
        rng.uniform(300, 500, 300),
        rng.uniform(0, 15, 300),
        rng.uniform(10, 1000, 300),
        "electron",
    )
    image = charge_map([deposits], (60, 70), pixel_um=15.0, thickness_um=15.0, diffusion_um=10.0)
    assert image.sum() == pytest.approx(deposits.charge_e.sum(), rel=2e-4)


def test_charge_maps_of_tracks_add_up():
    geometry = {"pixel_um": 10.0, "thickness_um": 20.0, "diffusion_um": 8.0}
    one, two = point(100.0, 120.0, 20.0), point(130.0, 110.0, 5.0, charge=300.0)
    both = charge_map([one, two], (24, 24), **geometry)
    apart = charge_map([one], (24, 24), **geometry) + charge_map([two], (24, 24), **geometry)
    np.testing.assert_allclose(both, apart, atol=0.1)


def test_no_tracks_leave_no_charge():
    image = charge_map([], (3, 4), pixel_um=10.0, thickness_um=20.0, diffusion_um=5.0)
    assert image.shape == (3, 4)
    assert not image.any()


def test_deposit_at_the_surface_stays_in_its_pixel():
    image = charge_map([point(25.0, 45.0, 0.0)], (8, 8), pixel_um=10.0, thickness_um=20.0, diffusion_um=5.0)
    assert image[4, 2] == pytest.approx(1000.0, rel=1e-4)


@pytest.mark.parametrize("depth", [15.0, 60.0])
def test_diffusion_spreads_a_point_by_its_rms(depth):
    # RMS 30 um from the full depth of 60 um, growing with the square root of the depth; pixels add 1/12
    image = charge_map([point(505.0, 485.0, depth)], (100, 100), pixel_um=10.0, thickness_um=60.0, diffusion_um=30.0)
    rows, columns = np.mgrid[:100, :100]
    expected = (30.0 / 10.0) ** 2 * depth / 60.0 + 1 / 12
    for axis, centre in ((rows, 48.0), (columns, 50.0)):
        mean = (image * axis).sum() / image.sum()
        assert mean == pytest.approx(centre, abs=1e-3)
        assert (image * (axis - mean) ** 2).sum() / image.sum() == pytest.approx(expected, rel=0.01)


def test_charge_beyond_the_edge_is_lost():
    geometry = {"pixel_um": 10.0, "thickness_um": 20.0, "diffusion_um": 20.0}
    half = charge_map([point(0.0, 100.0, 20.0)], (20, 20), **geometry)
    quarter = charge_map([point(200.0, 200.0, 20.0)], (20, 20), **geometry)
    outside = charge_map([point(-300.0, 100.0, 20.0)], (20, 20), **geometry)
    assert half.sum() == pytest.approx(500.0, rel=1e-3)
    assert quarter.sum() == pytest.approx(250.0, rel=1e-3)
    assert outside.sum() == 0.0


def test_charge_does_not_wrap_to_the_other_side():
    image = charge_map([point(0.0, 100.0, 20.0)], (20, 20), pixel_um=10.0, thickness_um=20.0, diffusion_um=10.0)
    assert image[:, 15:].sum() == 0.0


def test_muon_flux_is_one_per_minute_at_sea_level_and_grows_with_altitude():
    assert muon_flux(0.0) == pytest.approx(1 / 60)
    assert muon_flux(4500.0) / muon_flux(0.0) == pytest.approx(np.e)


def mean_rays(*, shape=(48, 48), exposure_s=8e5, rate_factor=1.0, altitude_m=2200.0, seed=17):
    instrument = replace(SINISTRO, altitude_m=altitude_m)
    _, count = rays.rays_in_exposure(
        instrument, shape, exposure_s, np.random.default_rng(seed), rate_factor=rate_factor, tilt_rad=0.0
    )
    return count


def test_number_of_rays_is_flux_times_area_times_time():
    expected = muon_flux(2200.0) * (48 * 15e-4) ** 2 * 8e5 * (1 + SINISTRO.electrons_per_muon)
    assert mean_rays() == pytest.approx(expected, abs=4 * np.sqrt(expected))


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({"exposure_s": 1.6e6}, 2.0),
        ({"shape": (48, 96)}, 2.0),
        ({"rate_factor": 2.0}, 2.0),
        ({"altitude_m": 2200.0 + 4500.0 * np.log(2)}, 2.0),
        ({"altitude_m": 0.0}, float(np.exp(-2200 / 4500))),
    ],
    ids=["exposure", "area", "factor", "altitude", "sea level"],
)
def test_number_of_rays_scales(change, factor):
    before, after = mean_rays(seed=18), mean_rays(seed=19, **change)
    assert after / before == pytest.approx(factor, abs=4 * factor * np.sqrt(1 / before + 1 / after))


def test_no_exposure_has_no_rays():
    charge, count = rays.rays_in_exposure(SINISTRO, (16, 16), 0.0, np.random.default_rng(20))
    assert count == 0
    assert not charge.any()


def test_rays_are_the_same_for_the_same_seed_and_differ_for_another():
    def made(seed):
        return rays.rays_in_exposure(SINISTRO, (32, 32), 2e4, np.random.default_rng(seed))

    charge, count = made(21)
    again, count_again = made(21)
    np.testing.assert_array_equal(charge, again)
    assert count == count_again > 0
    assert not np.array_equal(charge, made(22)[0])


def test_total_charge_of_an_exposure_is_that_of_minimum_ionising_muons():
    instrument = replace(SINISTRO, electrons_per_muon=0.0)
    shape, exposure = (400, 400), 1500.0
    charge, count = rays.rays_in_exposure(instrument, shape, exposure, np.random.default_rng(23), tilt_rad=0.0)
    per_muon = charge.sum() / count
    # most probable 62 e/um, mean about 106 e/um (388 eV/um), over a mean path of 4/3 thickness
    assert 62 * 15 * 4 / 3 < per_muon < 1.6 * 106 * 15 * 4 / 3


def test_fewer_muons_cross_a_tilted_plane():
    assert tilted_flux_ratio(0.0) == pytest.approx(1.0, rel=1e-4)
    assert tilted_flux_ratio(np.pi / 2) == pytest.approx(0.5, rel=1e-3)
    assert tilted_flux_ratio(0.0) > tilted_flux_ratio(0.5) > tilted_flux_ratio(1.0)


def test_tracks_through_a_vertical_chip_follow_its_columns():
    made = muons(2000, size_um=(1e5, 1e5), thickness_um=10.0, tilt_rad=np.pi / 2, rng=np.random.default_rng(25))
    steep = [np.ptp(t.y_um) > np.ptp(t.x_um) for t in made if t.kind == "muon"]
    assert np.mean(steep) > 0.7


def test_pieces_of_the_work_do_not_change_the_charge_map(monkeypatch):
    made = muons(40, size_um=(900.0, 1200.0), thickness_um=200.0, tilt_rad=1.0, rng=np.random.default_rng(33))
    geometry = {"pixel_um": 15.0, "thickness_um": 200.0, "diffusion_um": 7.0}
    whole = charge_map(made, (60, 80), **geometry)
    monkeypatch.setattr(rays, "_CHUNK", 500)
    np.testing.assert_allclose(charge_map(made, (60, 80), **geometry), whole, rtol=1e-5, atol=1e-3)


def test_a_long_exposure_of_a_thick_chip_takes_little_memory():
    tracemalloc.start()
    charge, count = rays.rays_in_exposure(CAMERAS["gmosn_2x2"], (300, 300), 3600.0, np.random.default_rng(34))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 100
    assert peak_bytes < 400e6
