from dataclasses import replace

import numpy as np
import pytest
from conftest import ELECTRON_MASS, THICKNESS, path_um, run_um

from crcore.instruments import CAMERAS
from crcore.simulate import rays
from crcore.simulate.rays import landau_loss_ev, proton_energies_ev, protons


@pytest.mark.parametrize("kinetic", [0.1e9, 0.5e9, 2e9, 10e9])
def test_losses_of_protons_follow_bethe(kinetic):
    # PDG equation 34.12, restricted to 20 keV: what a long path loses on the average with the rest cut away
    gamma = 1 + kinetic / rays.PROTON_MASS_EV
    beta2 = 1 - 1 / gamma**2
    bg2 = beta2 * gamma**2
    x = np.log10(np.sqrt(bg2))
    density = 0.0 if x < 0.2014 else 2 * np.log(10) * x - 4.4351 + 0.14921 * max(2.8715 - x, 0) ** 3.2546
    cut_ev = 20e3
    bracket = np.log(2 * ELECTRON_MASS * bg2 * cut_ev / 173.0**2) / 2 - beta2 / 2 - density / 2
    mean = 2 * rays.XI_EV_PER_UM / beta2 * bracket
    loss = landau_loss_ev(np.full(400_000, 2.0), np.random.default_rng(26), beta=np.sqrt(beta2), cut_ev=cut_ev) / 2.0
    assert loss.mean() == pytest.approx(mean, rel=0.03)


def test_the_limit_of_fast_particles_is_reached_smoothly():
    fast = landau_loss_ev(np.full(50_000, 100.0), np.random.default_rng(27), beta=0.99999)
    limit = landau_loss_ev(np.full(50_000, 100.0), np.random.default_rng(27))
    np.testing.assert_allclose(fast, limit, rtol=0.02)


def test_proton_energies_are_those_of_the_galaxy():
    energy = proton_energies_ev(20_000, np.random.default_rng(28))
    assert energy.min() >= 0.1e9
    assert energy.max() <= 10e9
    # a middling Sun: most flux per energy at a few hundred MeV, half of the protons above about 1.5 GeV
    counts, edges = np.histogram(energy, np.linspace(0.1e9, 10e9, 34))
    assert edges[counts.argmax()] < 1e9
    assert 1e9 < np.median(energy) < 2.5e9


def test_protons_come_from_everywhere():
    made = protons(4000, size_um=(5e4, 5e4), thickness_um=THICKNESS, rng=np.random.default_rng(29))
    crossing = [t for t in made if t.kind == "proton"]
    assert len(crossing) == 4000
    cos = THICKNESS / np.array([path_um(t) for t in crossing])
    # isotropic: density 2 cos of the cosine through a plane
    assert cos.mean() == pytest.approx(2 / 3, abs=4 * np.sqrt((1 / 2 - 4 / 9) / 4000))
    assert (cos**2).mean() == pytest.approx(1 / 2, abs=4 * np.sqrt((1 / 3 - 1 / 4) / 4000))


def test_grazing_protons_leave_the_long_tracks():
    made = protons(4000, size_um=(5e4, 5e4), thickness_um=15.0, rng=np.random.default_rng(30))
    run = np.array([run_um(t) for t in made if t.kind == "proton"])
    # run > 10 thicknesses: cos < 1 / sqrt(101), of which there are 1/101
    assert (run > 150.0).mean() == pytest.approx(1 / 101, abs=4 * np.sqrt(1 / 101 / 4000))


def test_rays_in_orbit_are_as_many_as_hubble_counts():
    camera = CAMERAS["acs_wfc"]
    charge, count = rays.rays_in_exposure(camera, (512, 512), 1000.0, np.random.default_rng(31))
    expected = 0.96 * (512 * 15e-4) ** 2 * 1000.0
    assert count == pytest.approx(expected, abs=4 * np.sqrt(expected))
    # about 1.5 % of the pixels of 1000 s: ACS Instrument Handbook, section 7.4 (1.5 to 3 %)
    assert 0.005 < (charge > 30).mean() < 0.04
    again = rays.rays_in_exposure(
        replace(camera, electrons_per_muon=9.0), (512, 512), 1000.0, np.random.default_rng(31)
    )
    np.testing.assert_array_equal(charge, again[0])
