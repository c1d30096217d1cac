"""Electrons in silicon: set free by gamma rays or knocked on by a faster particle.

They slow down by Bethe's formula and scatter by Highland's (Particle Data Group,
Review of Particle Physics 2024, section 34): fast ones leave long, gently bending
tracks, slow ones worms whose charge grows towards their end, and spots.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["Track", "compton_electrons", "follow_electrons", "klein_nishina_electron_ev", "stopping_power_ev_per_um"]

EV_PER_ELECTRON = 3.65  # one electron-hole pair in silicon: Janesick 2001, doi:10.1117/3.374903
ELECTRON_MASS_EV = 0.511e6
XI_EV_PER_UM = 17.8  # (K/2)(Z/A) rho for silicon, beta = 1
MEAN_EXCITATION_EV = 173.0
RADIATION_LENGTH_UM = 93_700.0
# Tuned to rays recorded by two thick CCDs (benchmarks/rays.py), which see few electrons that slow gamma rays free:
GAMMA_EV = (0.12e6, 2.6e6)
GAMMA_SLOPE = 1.25  # photons per energy: what concrete scatters lies below the natural lines
#: how much of what is next to the silicon is solid: 1 on both sides, 0 in a vacuum
SURROUNDED = 0.2


@dataclass(frozen=True)
class Track:
    """The path of one particle inside the silicon.

    Attributes
    ----------
    x_um, y_um, depth_um : numpy.ndarray, shape (n,)
        Positions of the charge; ``depth_um`` is measured from the surface that
        collects it.
    charge_e : numpy.ndarray, shape (n,)
        Electrons freed at each position.
    kind : str
        ``"muon"``, ``"proton"``, ``"electron"`` (from a gamma ray) or ``"delta"``
        (an electron knocked on; it belongs to the ray that did it).
    """

    x_um: np.ndarray
    y_um: np.ndarray
    depth_um: np.ndarray
    charge_e: np.ndarray
    kind: str


def compton_electrons(n, *, size_um, thickness_um, rng):
    """Follow ``n`` electrons freed by ambient gamma rays: worms, and spots where they are slow.

    The gamma rays are those of potassium-40, the thorium and the uranium series
    and what concrete scatters of them (0.12 to 2.6 MeV, about 1/E); the electron's
    energy follows the Klein-Nishina formula. Some start in the silicon; others come
    in from the package above and below, where they have lost part of their energy:
    as many as an electron's range there is deep (`outside_fraction`). Parameters as
    in `crcore.simulate.rays.muons`.

    Returns
    -------
    list of Track
    """
    pool = klein_nishina_electron_ev(gamma_energies_ev(4 * n + 1000, rng), rng)
    reach = csda_range_um(pool)
    energy = pool[:n].copy()
    origin = rng.random((n, 3)) * np.array([size_um[1], size_um[0], thickness_um])
    direction = _isotropic(n, rng)
    outside = rng.random(n) < outside_fraction(thickness_um, reach.mean())
    count = int(outside.sum())
    # Every electron on its way in the package passes the surface as often as its range is long.
    start = rng.choice(reach, count, p=reach / reach.sum())
    energy[outside] = np.interp(start * rng.random(count), *_range_table()[::-1])
    below = rng.random(count) < 0.5
    origin[outside, 2] = np.where(below, thickness_um, 0.0)
    cos = np.sqrt(1 - rng.random(count))  # through a surface: as its projected area says
    azimuth = rng.uniform(0, 2 * np.pi, count)
    sin = np.sqrt(1 - cos**2)
    direction[outside] = np.stack([sin * np.cos(azimuth), sin * np.sin(azimuth), np.where(below, -cos, cos)], axis=1)
    return follow_electrons(energy, origin, thickness_um, rng, direction=direction)


def gamma_energies_ev(n, rng):
    """Energies of ``n`` ambient gamma rays: a power law of slope `GAMMA_SLOPE` over `GAMMA_EV`."""
    low, high = GAMMA_EV
    u = rng.random(n)
    if GAMMA_SLOPE == 1:
        return low * (high / low) ** u
    power = 1 - GAMMA_SLOPE
    return (low**power + u * (high**power - low**power)) ** (1 / power)


def outside_fraction(thickness_um, mean_range_um):
    """The part of the electrons that starts outside of the silicon.

    Gamma rays free the same number per volume everywhere; of those freed outside a
    quarter of the mean range passes each of the two surfaces inwards (isotropic flux).
    """
    around = SURROUNDED * mean_range_um / 2
    return around / (thickness_um + around)


@cache
def _range_table():
    """Energies (eV) and the path (um) on which electrons lose them."""
    energy = np.geomspace(500.0, 5e6, 600)
    inverse = 1 / stopping_power_ev_per_um(energy)
    path = np.concatenate([[0.0], np.cumsum((inverse[1:] + inverse[:-1]) / 2 * np.diff(energy))])
    return energy, path


def csda_range_um(energy_ev):
    """Path on which electrons of some energy stop: the stopping power integrated."""
    return np.interp(energy_ev, *_range_table())


def klein_nishina_electron_ev(gamma_ev, rng):
    """Energy of the recoil electron for each photon, by rejection from the Klein-Nishina formula."""
    energy = np.zeros_like(gamma_ev)
    open_ = np.arange(len(gamma_ev))
    while len(open_):
        k = gamma_ev[open_] / ELECTRON_MASS_EV
        cos = rng.uniform(-1, 1, len(open_))
        ratio = 1 / (1 + k * (1 - cos))
        weight = ratio**2 * (ratio + 1 / ratio - (1 - cos**2)) / 2
        take = rng.random(len(open_)) < weight
        energy[open_[take]] = (gamma_ev[open_] * (1 - ratio))[take]
        open_ = open_[~take]
    return np.maximum(energy, 500.0)


def stopping_power_ev_per_um(energy_ev):
    """Bethe's formula for electrons in silicon (Berger & Seltzer form without shell terms)."""
    tau = np.maximum(energy_ev, 1e3) / ELECTRON_MASS_EV
    beta2 = 1 - 1 / (tau + 1) ** 2
    f = 1 - beta2 + (tau**2 / 8 - (2 * tau + 1) * np.log(2)) / (tau + 1) ** 2
    bethe = np.log(tau**2 * (tau + 2) / (2 * (MEAN_EXCITATION_EV / ELECTRON_MASS_EV) ** 2)) + f
    return XI_EV_PER_UM / beta2 * np.maximum(bethe, 1.0)


def follow_electrons(energy_ev, origin_um, thickness_um, rng, *, direction=None, kind="electron", max_steps=2000):
    """Let electrons slow down and scatter until they stop or leave; all of them step together.

    Parameters
    ----------
    energy_ev : numpy.ndarray, shape (n,)
        Kinetic energies.
    origin_um : numpy.ndarray, shape (n, 3)
        Where they start: x, y, depth.
    thickness_um : float
        Thickness of the silicon; it has no sides.
    rng : numpy.random.Generator
        Source of randomness.
    direction : numpy.ndarray, shape (n, 3), optional
        Unit vectors; isotropic when omitted.
    kind : str, optional
        What to call the tracks.
    max_steps : int, optional
        Steps after which an electron is given up; a step is 4 um at most.

    Returns
    -------
    list of Track
        One for each electron that left charge.
    """
    n = len(energy_ev)
    if n == 0:
        return []
    energy = np.array(energy_ev, dtype=float)
    position = np.array(origin_um, dtype=float)
    direction = _isotropic(n, rng) if direction is None else np.array(direction, dtype=float)
    index, places, charges = [], [], []
    alive = np.arange(n)
    for _ in range(max_steps):
        if len(alive) == 0:
            break
        power = stopping_power_ev_per_um(energy[alive])
        step = np.clip(0.08 * energy[alive] / power, 0.2, 4.0)
        spent = np.minimum(np.where(energy[alive] < 2e3, energy[alive], power * step), energy[alive])
        middle = position[alive] + direction[alive] * (step / 2)[:, None]
        inside = (middle[:, 2] >= 0) & (middle[:, 2] <= thickness_um)
        index.append(alive[inside])
        places.append(middle[inside])
        charges.append(spent[inside] / EV_PER_ELECTRON)
        position[alive] += direction[alive] * step[:, None]
        energy[alive] -= spent
        direction[alive] = _scatter(direction[alive], energy[alive], step, rng)
        z = position[alive, 2]
        alive = alive[(energy[alive] > 50.0) & (z >= 0) & (z <= thickness_um)]
    index, places, charges = np.concatenate(index), np.concatenate(places), np.concatenate(charges)
    order = np.argsort(index, kind="stable")
    places, charges = places[order].T, charges[order]
    bounds = np.searchsorted(index[order], np.arange(n + 1))
    return [
        Track(*places[:, begin:end], charges[begin:end], kind)
        for begin, end in itertools.pairwise(bounds)
        if end > begin
    ]


def _isotropic(n, rng):
    """Unit vectors (n, 3) in all directions."""
    cos = rng.uniform(-1, 1, n)
    azimuth = rng.uniform(0, 2 * np.pi, n)
    sin = np.sqrt(1 - cos**2)
    return np.stack([sin * np.cos(azimuth), sin * np.sin(azimuth), cos], axis=1)


def _scatter(direction, energy_ev, step_um, rng):
    """Turn each direction by Highland's multiple-scattering angle (PDG equation 34.16).

    The formula's logarithm does not add up over short steps: it is taken for the
    100 um that matter, and the angle grows with the square root of the step.
    """
    total = np.maximum(energy_ev, 1e3) + ELECTRON_MASS_EV
    momentum2 = total**2 - ELECTRON_MASS_EV**2
    beta_p = momentum2 / total
    logarithm = 1 + 0.038 * np.log(100.0 / RADIATION_LENGTH_UM)
    theta = 13.6e6 / beta_p * np.sqrt(step_um / RADIATION_LENGTH_UM) * logarithm
    kick = rng.normal(size=direction.shape) * np.minimum(theta, 2.0)[:, None]
    turned = direction + kick - direction * np.sum(kick * direction, axis=1, keepdims=True)
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)
