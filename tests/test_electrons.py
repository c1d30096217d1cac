import numpy as np
import pytest
from conftest import ELECTRON_MASS
from scipy import integrate

from crcore.simulate import electrons, losses, rays
from crcore.simulate.rays import Track, compton_electrons


@pytest.mark.parametrize("gamma", [0.3e6, 0.662e6, 1.461e6])
def test_recoil_energy_ends_at_the_compton_edge(gamma):
    edge = gamma * (2 * gamma / ELECTRON_MASS) / (1 + 2 * gamma / ELECTRON_MASS)
    energy = electrons.klein_nishina_electron_ev(np.full(20_000, gamma), np.random.default_rng(12))
    assert energy.max() <= edge * (1 + 1e-9)
    assert energy.max() > 0.999 * edge


@pytest.mark.parametrize("gamma", [0.1e6, 0.511e6, 2.0e6])
def test_mean_recoil_energy_is_that_of_the_klein_nishina_formula(gamma):
    k = gamma / ELECTRON_MASS

    def cross_section(cos):
        ratio = 1 / (1 + k * (1 - cos))
        return ratio**2 * (ratio + 1 / ratio - 1 + cos**2)

    total = integrate.quad(cross_section, -1, 1)[0]
    mean = integrate.quad(lambda c: cross_section(c) * (1 - 1 / (1 + k * (1 - c))), -1, 1)[0] / total
    energy = electrons.klein_nishina_electron_ev(np.full(40_000, gamma), np.random.default_rng(13))
    assert energy.mean() / gamma == pytest.approx(mean, rel=0.02)


def stopped(energy_ev, n=60, block_um=3000.0):
    """Electrons that start in the middle of a block from which they cannot get out."""
    origin = np.full((n, 3), block_um / 2)
    return electrons.follow_electrons(np.full(n, energy_ev), origin, block_um, np.random.default_rng(14))


def cut(track, n):
    return Track(track.x_um[:n], track.y_um[:n], track.depth_um[:n], track.charge_e[:n], track.kind)


def followed_um(track):
    return np.sqrt(sum(np.diff(a) ** 2 for a in (track.x_um, track.y_um, track.depth_um))).sum()


# CSDA ranges of electrons in silicon: NIST ESTAR, over 2.33 g/cm3
@pytest.mark.parametrize(("energy", "range_um"), [(50e3, 23.0), (100e3, 78.0), (300e3, 434.0)])
def test_electron_path_is_its_csda_range(energy, range_um):
    paths = [followed_um(t) for t in stopped(energy)]
    assert np.mean(paths) == pytest.approx(range_um, rel=0.25)


def test_electron_wanders_less_far_than_its_path():
    for track in stopped(100e3, n=20):
        far = np.sqrt(sum((a - a[0]) ** 2 for a in (track.x_um, track.y_um, track.depth_um))).max()
        assert far < 0.95 * followed_um(track)


@pytest.mark.parametrize("energy", [20e3, 100e3, 300e3])
def test_stopped_electron_leaves_all_its_energy(energy):
    for track in stopped(energy, n=10):
        assert track.charge_e.sum() == pytest.approx(energy / 3.65, rel=2e-3)


def test_electron_charge_per_length_grows_towards_its_end():
    first, last = 0.0, 0.0
    for track in stopped(200e3):
        steps = np.sqrt(sum(np.diff(a) ** 2 for a in (track.x_um, track.y_um, track.depth_um)))
        density = track.charge_e[1:] / steps
        first += density[:10].mean()
        last += density[-20:-5].mean()
    assert last > 2 * first


def test_stopping_power_is_near_the_tables():
    # NIST ESTAR, collision stopping power of silicon times 2.33 g/cm3: 0.1, 1 MeV
    power = electrons.stopping_power_ev_per_um(np.array([0.1e6, 1e6]))
    np.testing.assert_allclose(power, [758.0, 350.0], rtol=0.05)


def test_compton_electrons_stay_inside_the_silicon():
    made = compton_electrons(400, size_um=(900.0, 900.0), thickness_um=15.0, rng=np.random.default_rng(15))
    depth = np.concatenate([t.depth_um for t in made])
    assert depth.min() >= 0.0
    assert depth.max() <= 15.0
    assert {t.kind for t in made} == {"electron"}


def test_compton_charge_is_never_more_than_the_highest_edge():
    made = compton_electrons(400, size_um=(900.0, 900.0), thickness_um=15.0, rng=np.random.default_rng(16))
    k = 2.6e6 / ELECTRON_MASS
    assert max(t.charge_e.sum() for t in made) <= 2.6e6 * 2 * k / (1 + 2 * k) / 3.65


def test_electrons_from_outside_are_more_of_all_in_thinner_silicon():
    thick, thin = (electrons.outside_fraction(t, 300.0) for t in (200.0, 15.0))
    assert 0 < thick < thin < 1
    assert electrons.outside_fraction(1e9, 300.0) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("energy", "range_um"), [(100e3, 78.0), (300e3, 434.0), (1e6, 2350.0)])
def test_csda_range_is_that_of_the_tables(energy, range_um):
    # NIST ESTAR, 0.0182, 0.1012 and 0.5479 g/cm2
    assert electrons.csda_range_um(energy) == pytest.approx(range_um, rel=0.1)


def test_gamma_rays_follow_their_power_law(monkeypatch):
    low, high = electrons.GAMMA_EV
    for slope, middle in ((1.0, np.sqrt(low * high)), (0.0, (low + high) / 2)):
        monkeypatch.setattr(electrons, "GAMMA_SLOPE", slope)
        energy = electrons.gamma_energies_ev(20_000, np.random.default_rng(32))
        assert low <= energy.min() < energy.max() <= high
        assert (energy < middle).mean() == pytest.approx(0.5, abs=0.015)


def test_bound_electrons_widen_the_losses_but_keep_their_mean():
    # Shulek et al.: 5.8 keV RMS for 300 um, on top of Landau's law; there are 150 steps of 2 um
    loss = np.full((4000, 150), 2.0 * 285.0)  # eV, the mean below 20 keV
    spread = losses.bound_electrons_ev(loss, np.random.default_rng(35)).sum(axis=1)
    assert spread.mean() == pytest.approx(300 * 285.0, rel=0.01)
    assert spread.std() == pytest.approx(5.8e3, rel=0.05)


def test_fast_delta_rays_go_forward_and_slow_ones_aside():
    # PDG 34.2.6: cos = (T / p) (p_max / T_max), for T_max >> m: sqrt(T / (T + 2m))
    n = 100_000
    entry, whole = np.zeros((n, 3)), np.tile([0.0, 0.0, 1e4], (n, 1))
    made = rays._delta_rays(entry, whole, np.full(n, 2.0), np.ones(n), 1e4, np.random.default_rng(24))
    energy = np.array([t.charge_e.sum() for t in made]) * rays.EV_PER_ELECTRON
    cos = np.array([(t.depth_um[1] - t.depth_um[0]) / followed_um(cut(t, 2)) for t in made if len(t.x_um) > 1])
    energy = energy[[len(t.x_um) > 1 for t in made]]
    slow, fast = (energy > 20e3) & (energy < 40e3), energy > 300e3
    assert np.median(cos[slow]) == pytest.approx(0.16, abs=0.08)
    assert np.median(cos[fast]) > 0.5
