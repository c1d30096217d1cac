"""Cosmic rays as a CCD records them: muons, delta rays, Compton electrons.

A ray is followed through the silicon in short steps. Each step frees charge,
each bit of charge drifts to the surface and spreads on its way, and the pixels
collect what lands on them. Only the physics below is put in; track lengths,
straight tracks, worms and spots come out of it.

- Muons arrive with intensity proportional to cos²(zenith angle), about one per
  cm² and minute through a horizontal plane at sea level (Particle Data Group,
  Review of Particle Physics 2024, section 30.3.1), more at altitude.
- The energy a fast particle leaves in a thin layer follows Landau's
  distribution (PDG section 34.2.9, equation 34.12, with the density effect).
- Electrons freed by gamma rays of the surroundings slow down by the Bethe
  formula and scatter by Highland's (PDG equation 34.16): they curl up into worms
  whose charge grows towards their end.
- 3.65 eV free one electron-hole pair in silicon (Janesick 2001,
  doi:10.1117/3.374903).
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

__all__ = ["Track", "charge_map", "compton_electrons", "landau_loss_ev", "muon_flux", "muons", "rays_in_exposure"]

EV_PER_ELECTRON = 3.65
ELECTRON_MASS_EV = 0.511e6
XI_EV_PER_UM = 17.8  # (K/2)(Z/A) rho for silicon, beta = 1
PLASMA_EV = 31.05
MEAN_EXCITATION_EV = 173.0
RADIATION_LENGTH_UM = 93_700.0
SCIPY_LANDAU_MODE = -0.42931453


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
        ``"muon"`` or ``"electron"``.
    """

    x_um: np.ndarray
    y_um: np.ndarray
    depth_um: np.ndarray
    charge_e: np.ndarray
    kind: str


def muon_flux(altitude_m):
    """Muons through a horizontal detector, per cm² and second.

    One per minute at sea level; the vertical intensity grows by about
    exp(altitude / 4500 m) over the heights of observatories
    (Hebbeker & Timmermans 2002, doi:10.1016/S0927-6505(01)00180-3).
    """
    return np.exp(altitude_m / 4500.0) / 60.0


def tilted_flux_ratio(tilt_rad):
    """Muons through a plane tilted by ``tilt_rad``, relative to a horizontal one.

    The mean projected area over the cos² intensity of the upper hemisphere; 1 for a
    horizontal and 1/2 for a vertical plane.
    """
    cos = (np.arange(400) + 0.5) / 400  # equal solid angles
    azimuth = (np.arange(400) + 0.5) * 2 * np.pi / 400
    sin = np.sqrt(1 - cos**2)[:, None]
    projected = np.abs(sin * np.cos(azimuth) * np.sin(tilt_rad) + cos[:, None] * np.cos(tilt_rad))
    return float((cos[:, None] ** 2 * projected).mean() / (cos**3).mean())


def landau_loss_ev(path_um, rng):
    """Energy that a minimum-ionising particle leaves on each path, in eV.

    Parameters
    ----------
    path_um : numpy.ndarray
        Lengths of the steps. Landau's law is stable under addition, so the sum
        over steps has the distribution of the whole path.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        Losses in eV, never negative. Energies that only a delta ray longer
        than the detector is thick could carry are cut at 60 keV a step.
    """
    xi = XI_EV_PER_UM * np.maximum(path_um, 1e-6)
    most_probable = xi * (np.log(2 * ELECTRON_MASS_EV * xi / PLASMA_EV**2) + 0.2)
    # scipy's Landau is the stable law of unit scale: Landau's own unit is pi/2 wider, its peak at SCIPY_LANDAU_MODE.
    standard = stats.landau.rvs(size=np.shape(path_um), random_state=rng) - SCIPY_LANDAU_MODE
    loss = most_probable + xi * np.pi / 2 * standard
    return np.clip(loss, 0.0, 60e3)


def _muon_directions(n, tilt_rad, rng):
    """Unit vectors (n, 3) of muons through a plane tilted from the horizontal by ``tilt_rad``."""
    kept = []
    missing = n
    while missing > 0:
        tries = 4 * missing + 16
        cos_zenith = rng.random(tries) ** (1 / 3)  # intensity cos², per solid angle
        azimuth = rng.uniform(0, 2 * np.pi, tries)
        sin_zenith = np.sqrt(1 - cos_zenith**2)
        lab = np.stack([sin_zenith * np.cos(azimuth), sin_zenith * np.sin(azimuth), cos_zenith], axis=1)
        c, s = np.cos(tilt_rad), np.sin(tilt_rad)
        ccd = np.stack([lab[:, 0] * c - lab[:, 2] * s, lab[:, 1], lab[:, 0] * s + lab[:, 2] * c], axis=1)
        accepted = ccd[rng.random(tries) < np.abs(ccd[:, 2])]  # the plane's projected area
        kept.append(accepted[:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept) if kept else np.empty((0, 3))


def muons(n, *, size_um, thickness_um, tilt_rad, rng, step_um=2.0):
    """Follow ``n`` muons through a detector.

    Parameters
    ----------
    n : int
        How many.
    size_um : tuple of float
        Height and width of the detector.
    thickness_um : float
        Thickness of the silicon; the path is ``thickness / |cos|``.
    tilt_rad : float
        Angle between the detector's normal and the vertical (the telescope's
        zenith distance).
    rng : numpy.random.Generator
        Source of randomness.
    step_um : float, optional
        Length of a step.

    Returns
    -------
    list of Track
    """
    tracks = []
    for direction in _muon_directions(n, tilt_rad, rng):
        path = min(thickness_um / max(abs(direction[2]), 1e-4), float(np.hypot(*size_um)))
        steps = max(2, int(np.ceil(path / step_um)))
        along = (np.arange(steps) + 0.5) / steps
        charge = landau_loss_ev(np.full(steps, path / steps), rng) / EV_PER_ELECTRON
        y0, x0 = rng.uniform(0, size_um[0]), rng.uniform(0, size_um[1])
        azimuth = np.arctan2(direction[1], direction[0])
        run = np.sqrt(max(path**2 - thickness_um**2, 0.0))
        tracks.append(
            Track(
                x0 + run * np.cos(azimuth) * along,
                y0 + run * np.sin(azimuth) * along,
                thickness_um * along,
                charge,
                "muon",
            )
        )
        tracks.extend(_delta_rays(tracks[-1], path, thickness_um, rng))
    return tracks


def _delta_rays(track, path_um, thickness_um, rng, threshold_ev=60e3):
    """Electrons knocked on with more than ``threshold_ev``: K/E² per length (PDG 34.2.6)."""
    n = rng.poisson(XI_EV_PER_UM * path_um / threshold_ev)
    if n == 0:
        return []
    start = rng.integers(0, len(track.x_um), n)
    energy = threshold_ev / (1 - rng.random(n) * (1 - threshold_ev / 5e6))
    origin = np.stack([track.x_um[start], track.y_um[start], track.depth_um[start]], axis=1)
    return _follow_electrons(energy, origin, thickness_um, rng)


def compton_electrons(n, *, size_um, thickness_um, rng):
    """Follow ``n`` electrons freed by ambient gamma rays: worms, and spots where they are slow.

    The gamma rays are those of potassium-40, the thorium and the uranium series
    and what concrete scatters of them (0.05 to 2.6 MeV, about 1/E); the electron's
    energy follows the Klein-Nishina formula. Parameters as in `muons`.

    Returns
    -------
    list of Track
    """
    gamma = 0.05e6 * (2.6e6 / 0.05e6) ** rng.random(n)
    energy = _klein_nishina_electron_ev(gamma, rng)
    origin = rng.random((n, 3)) * np.array([size_um[1], size_um[0], thickness_um])
    # Most electrons come in from the package above or below rather than from the thin silicon.
    from_outside = rng.random(n) < 0.5
    origin[from_outside, 2] = np.where(rng.random(n) < 0.5, 0.0, thickness_um)[from_outside]
    return _follow_electrons(energy, origin, thickness_um, rng)


def _klein_nishina_electron_ev(gamma_ev, rng):
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


def _stopping_power_ev_per_um(energy_ev):
    """Bethe's formula for electrons in silicon (Berger & Seltzer form without shell terms)."""
    tau = np.maximum(energy_ev, 1e3) / ELECTRON_MASS_EV
    beta2 = 1 - 1 / (tau + 1) ** 2
    f = 1 - beta2 + (tau**2 / 8 - (2 * tau + 1) * np.log(2)) / (tau + 1) ** 2
    bethe = np.log(tau**2 * (tau + 2) / (2 * (MEAN_EXCITATION_EV / ELECTRON_MASS_EV) ** 2)) + f
    return XI_EV_PER_UM / beta2 * np.maximum(bethe, 1.0)


def _follow_electrons(energy_ev, origin_um, thickness_um, rng, max_steps=400):
    """Let electrons slow down and scatter until they stop or leave; all of them step together."""
    n = len(energy_ev)
    if n == 0:
        return []
    energy = np.array(energy_ev, dtype=float)
    position = np.array(origin_um, dtype=float)
    cos = rng.uniform(-1, 1, n)
    azimuth = rng.uniform(0, 2 * np.pi, n)
    sin = np.sqrt(1 - cos**2)
    direction = np.stack([sin * np.cos(azimuth), sin * np.sin(azimuth), cos], axis=1)
    outward = ((position[:, 2] <= 0) & (direction[:, 2] < 0)) | (
        (position[:, 2] >= thickness_um) & (direction[:, 2] > 0)
    )
    direction[outward, 2] *= -1
    index, places, charges = [], [], []
    alive = np.arange(n)
    for _ in range(max_steps):
        if len(alive) == 0:
            break
        power = _stopping_power_ev_per_um(energy[alive])
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
    bounds = np.searchsorted(index[order], np.arange(n + 1))
    tracks = []
    for begin, end in itertools.pairwise(bounds):
        if end > begin:
            part = order[begin:end]
            tracks.append(Track(*places[part].T, charges[part], "electron"))
    return tracks


def _scatter(direction, energy_ev, step_um, rng):
    """Turn each direction by Highland's multiple-scattering angle (PDG equation 34.16)."""
    total = np.maximum(energy_ev, 1e3) + ELECTRON_MASS_EV
    momentum2 = total**2 - ELECTRON_MASS_EV**2
    beta_p = momentum2 / total
    layer = step_um / RADIATION_LENGTH_UM
    theta = 13.6e6 / beta_p * np.sqrt(layer) * np.maximum(1 + 0.038 * np.log(layer), 0.3)
    kick = rng.normal(size=direction.shape) * np.minimum(theta, 2.0)[:, None]
    turned = direction + kick - direction * np.sum(kick * direction, axis=1, keepdims=True)
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def charge_map(tracks, shape, *, pixel_um, thickness_um, diffusion_um):
    """Collect the charge of tracks in pixels.

    Charge freed at depth z from the collecting surface lands there as a
    Gaussian of RMS ``diffusion_um * sqrt(z / thickness_um)``: a diffusing cloud
    whose drift time grows with the distance (Janesick 2001).

    Parameters
    ----------
    tracks : list of Track
        From `muons` or `compton_electrons`.
    shape : tuple of int
        Rows and columns.
    pixel_um, thickness_um, diffusion_um : float
        Geometry; see `crcore.instruments.Instrument`.

    Returns
    -------
    numpy.ndarray
        Electrons per pixel, float32, ``shape``; the charge that leaves the frame is lost.
    """
    image = np.zeros(shape, dtype=np.float64)
    if not tracks:
        return image.astype(np.float32)
    x = np.concatenate([t.x_um for t in tracks]) / pixel_um
    y = np.concatenate([t.y_um for t in tracks]) / pixel_um
    depth = np.concatenate([t.depth_um for t in tracks])
    charge = np.concatenate([t.charge_e for t in tracks])
    sigma = np.maximum(diffusion_um * np.sqrt(np.clip(depth / thickness_um, 0, 1)) / pixel_um, 0.02)
    half = int(np.ceil(4 * sigma.max())) + 1
    offsets = np.arange(-half, half + 1)
    columns = np.floor(x).astype(int)[:, None] + offsets  # (n, k)
    rows = np.floor(y).astype(int)[:, None] + offsets
    share_x = _pixel_share(columns, x, sigma)
    share_y = _pixel_share(rows, y, sigma)
    deposit = charge[:, None, None] * share_y[:, :, None] * share_x[:, None, :]  # (n, k, k)
    rows = np.broadcast_to(rows[:, :, None], deposit.shape)
    columns = np.broadcast_to(columns[:, None, :], deposit.shape)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1]) & (deposit > 0)
    np.add.at(image, (rows[inside], columns[inside]), deposit[inside])
    return image.astype(np.float32)


def _pixel_share(pixels, position, sigma):
    """The part of a Gaussian at ``position`` that falls on each of ``pixels``."""
    scale = 1 / (np.sqrt(2) * sigma[:, None])
    left = (pixels - position[:, None]) * scale
    return 0.5 * (special.erf(left + scale) - special.erf(left))


def rays_in_exposure(instrument, shape, exposure_s, rng, *, rate_factor=1.0, tilt_rad=None):
    """All rays of one exposure.

    Parameters
    ----------
    instrument : crcore.instruments.Instrument
        The camera.
    shape : tuple of int
        Rows and columns of the frame.
    exposure_s : float
        Exposure time.
    rng : numpy.random.Generator
        Source of randomness.
    rate_factor : float, optional
        Multiplies the natural rate of rays.
    tilt_rad : float, optional
        Zenith distance of the telescope; drawn between 0 and 60 degrees when omitted.

    Returns
    -------
    charge : numpy.ndarray
        Electrons per pixel, float32, ``shape``.
    n_rays : int
        Particles that freed charge.
    """
    if tilt_rad is None:
        tilt_rad = np.arccos(rng.uniform(0.5, 1.0))
    horizontal = rate_factor * muon_flux(instrument.altitude_m) * instrument.area_cm2(shape) * exposure_s
    size_um = tuple(side * instrument.pixel_um for side in shape)
    tracks = muons(
        rng.poisson(horizontal * tilted_flux_ratio(tilt_rad)),
        size_um=size_um,
        thickness_um=instrument.thickness_um,
        tilt_rad=tilt_rad,
        rng=rng,
    )
    tracks += compton_electrons(
        rng.poisson(horizontal * instrument.electrons_per_muon),
        size_um=size_um,
        thickness_um=instrument.thickness_um,
        rng=rng,
    )
    charge = charge_map(
        tracks,
        shape,
        pixel_um=instrument.pixel_um,
        thickness_um=instrument.thickness_um,
        diffusion_um=instrument.diffusion_um,
    )
    return charge, len(tracks)
