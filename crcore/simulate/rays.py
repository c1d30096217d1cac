"""Cosmic rays as a CCD records them: muons or protons, delta rays, Compton electrons.

A ray is followed through the silicon in short steps. Each step frees charge,
each bit of charge drifts to the surface and spreads on its way, and the pixels
collect what lands on them. Only the physics below is put in; track lengths,
straight tracks, worms and spots come out of it.

- On the ground muons arrive with intensity proportional to cos²(zenith angle), about
  one per cm² and minute through a horizontal plane at sea level (Particle Data Group,
  Review of Particle Physics 2024, section 30.3.1), more at altitude.
- In orbit protons arrive from everywhere, 0.96 rays per s and cm² (Miles et al. 2020,
  arXiv:2006.00909).
- The energy a fast particle leaves in a thin layer follows Landau's
  distribution (PDG section 34.2.9, equations 34.11 and 34.12, with the density effect).
- Electrons that it knocks on with more than 20 keV, and those freed by gamma rays of
  the surroundings, are followed on their own (`crcore.simulate.electrons`).
- 3.65 eV free one electron-hole pair in silicon (Janesick 2001,
  doi:10.1117/3.374903).
"""

import itertools

import numpy as np
from scipy import special

from crcore.simulate.electrons import (
    ELECTRON_MASS_EV,
    EV_PER_ELECTRON,
    XI_EV_PER_UM,
    Track,
    compton_electrons,
    follow_electrons,
)
from crcore.simulate.losses import bound_electrons_ev, landau_loss_ev

__all__ = [
    "Track",
    "charge_map",
    "compton_electrons",
    "landau_loss_ev",
    "muon_flux",
    "muons",
    "proton_energies_ev",
    "protons",
    "rays_in_exposure",
    "tilted_flux_ratio",
]

PROTON_MASS_EV = 938.272e6
ORBIT_RAYS_PER_S_CM2 = 0.96  # Miles et al. 2020, arXiv:2006.00909
DELTA_EV = 20e3  # electrons knocked on with more are followed: they get 5 um far
_CHUNK = 2_000_000  # shares of charge worked on at a time


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
        ccd = np.stack([lab[:, 1], lab[:, 0] * c - lab[:, 2] * s, lab[:, 0] * s + lab[:, 2] * c], axis=1)
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
        zenith distance); it tilts towards rows, so that tracks follow columns.
    rng : numpy.random.Generator
        Source of randomness.
    step_um : float, optional
        Length of a step.

    Returns
    -------
    list of Track
        The muons, then the electrons they knocked on.

    Examples
    --------
    >>> tracks = muons(3, size_um=(900, 900), thickness_um=15, tilt_rad=0, rng=np.random.default_rng(1))
    >>> [t.kind for t in tracks]
    ['muon', 'muon', 'muon']
    """
    return _cross(
        _muon_directions(n, tilt_rad, rng),
        np.ones(n),
        size_um=size_um,
        thickness_um=thickness_um,
        rng=rng,
        step_um=step_um,
        kind="muon",
    )


def proton_energies_ev(n, rng, *, modulation_ev=600e6, least_ev=0.1e9, most_ev=10e9):
    """Kinetic energies of galactic cosmic-ray protons.

    The interstellar spectrum in the force field of the Sun (Usoskin et al. 2005,
    doi:10.1029/2005JA011250, equations 1 and 2). The Earth's field keeps slow
    primaries from low orbits; secondaries of the same energies, made in the
    atmosphere and the spacecraft, come in their place.

    Parameters
    ----------
    n : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.
    modulation_ev : float, optional
        Modulation potential, that of a middling Sun.
    least_ev, most_ev : float, optional
        Range of energies.

    Returns
    -------
    numpy.ndarray
        Energies in eV.
    """
    edges = np.geomspace(least_ev, most_ev, 401)
    middle = np.sqrt(edges[1:] * edges[:-1])
    outside = middle + modulation_ev
    momentum2 = outside * (outside + 2 * PROTON_MASS_EV)
    rigidity = np.sqrt(momentum2) / 1e9
    flux = rigidity**-2.78 / (1 + 0.4866 * rigidity**-2.51) * middle * (middle + 2 * PROTON_MASS_EV) / momentum2
    total = np.concatenate([[0.0], np.cumsum(flux * np.diff(edges))])
    return np.interp(rng.random(n) * total[-1], total, edges)


def protons(n, *, size_um, thickness_um, rng, step_um=2.0):
    """Follow ``n`` protons that come from everywhere, as in orbit.

    The flux through a plane goes as the cosine of incidence: few graze it, but those
    leave the long, shallow tracks. Slow protons leave more charge. Parameters and
    result as in `muons`.
    """
    cos = np.sqrt(1 - rng.random(n))
    azimuth = rng.uniform(0, 2 * np.pi, n)
    sin = np.sqrt(1 - cos**2)
    gamma = 1 + proton_energies_ev(n, rng) / PROTON_MASS_EV
    return _cross(
        np.stack([sin * np.cos(azimuth), sin * np.sin(azimuth), cos], axis=1),
        np.sqrt(1 - 1 / gamma**2),
        size_um=size_um,
        thickness_um=thickness_um,
        rng=rng,
        step_um=step_um,
        kind="proton",
    )


def _cross(direction, beta, *, size_um, thickness_um, rng, step_um, kind):
    """Straight tracks through the whole thickness, and the electrons knocked on; all at once."""
    n = len(direction)
    if n == 0:
        return []
    path = np.minimum(thickness_um / np.maximum(np.abs(direction[:, 2]), 1e-4), float(np.hypot(*size_um)))
    steps = np.maximum(2, np.ceil(path / step_um).astype(int))
    bounds = np.concatenate([[0], np.cumsum(steps)])
    ray = np.repeat(np.arange(n), steps)
    along = (np.arange(bounds[-1]) - bounds[ray] + 0.5) / steps[ray]
    loss = landau_loss_ev((path / steps)[ray], rng, beta=beta[ray], cut_ev=DELTA_EV)
    charge = bound_electrons_ev(loss, rng) / EV_PER_ELECTRON
    entry = np.stack([rng.uniform(0, size_um[1], n), rng.uniform(0, size_um[0], n), np.zeros(n)], axis=1)
    azimuth = np.arctan2(direction[:, 1], direction[:, 0])
    run = np.sqrt(np.maximum(path**2 - thickness_um**2, 0.0))
    whole = np.stack([run * np.cos(azimuth), run * np.sin(azimuth), np.full(n, thickness_um)], axis=1)  # (n, 3)
    places = (entry[ray] + whole[ray] * along[:, None]).T  # (3, steps)
    tracks = [Track(*places[:, a:b], charge[a:b], kind) for a, b in itertools.pairwise(bounds)]
    return tracks + _delta_rays(entry, whole, path, beta, thickness_um, rng)


def _delta_rays(entry, whole, path_um, beta, thickness_um, rng):
    """Electrons knocked on with more than `DELTA_EV`, about 1/E² each (PDG sections 34.2.6 and 34.2.7)."""
    gamma2 = 1 / (1 - np.minimum(beta, 0.99) ** 2)
    most = np.maximum(2 * ELECTRON_MASS_EV * beta**2 * gamma2, DELTA_EV)  # 50 MeV at 0.99: more leaves any silicon
    expected = XI_EV_PER_UM / beta**2 * path_um * (1 / DELTA_EV - 1 / most)
    ray = np.repeat(np.arange(len(beta)), rng.poisson(expected))
    energy = DELTA_EV / (1 - rng.random(len(ray)) * (1 - DELTA_EV / most[ray]))
    origin = entry[ray] + whole[ray] * rng.random((len(ray), 1))
    cos = np.sqrt(energy / (energy + 2 * ELECTRON_MASS_EV) * (1 + 2 * ELECTRON_MASS_EV / most[ray]))
    cos = np.minimum(cos, 1.0)
    forward = whole[ray] / np.linalg.norm(whole[ray], axis=1, keepdims=True)
    aside = rng.normal(size=forward.shape)
    aside -= forward * np.sum(aside * forward, axis=1, keepdims=True)
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    direction = forward * cos[:, None] + aside * np.sqrt(1 - cos**2)[:, None]
    return follow_electrons(energy, origin, thickness_um, rng, direction=direction, kind="delta")


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
        Geometry; see `crcore.instruments.Camera`.

    Returns
    -------
    numpy.ndarray
        Electrons per pixel, float32, ``shape``; the charge that leaves the frame is lost.
    """
    image = np.zeros(shape[0] * shape[1])
    if not tracks:
        return image.reshape(shape).astype(np.float32)
    x = np.concatenate([t.x_um for t in tracks]) / pixel_um
    y = np.concatenate([t.y_um for t in tracks]) / pixel_um
    depth = np.concatenate([t.depth_um for t in tracks])
    charge = np.concatenate([t.charge_e for t in tracks])
    sigma = np.maximum(diffusion_um * np.sqrt(np.clip(depth / thickness_um, 0, 1)) / pixel_um, 0.02)
    half = int(np.ceil(4 * sigma.max()))
    near = (x > -half) & (x < shape[1] + half) & (y > -half) & (y < shape[0] + half) & (charge > 0)
    x, y, sigma, charge = x[near], y[near], sigma[near], charge[near]
    chunk = max(1, _CHUNK // (2 * half + 1) ** 2)
    for begin in range(0, len(x), chunk):
        part = slice(begin, begin + chunk)
        columns, share_x = _pixel_shares(x[part], sigma[part], half, shape[1])
        rows, share_y = _pixel_shares(y[part], sigma[part], half, shape[0])
        deposit = (charge[part, None] * share_y)[:, :, None] * share_x[:, None, :]  # (n, k, k)
        flat = rows[:, :, None] * shape[1] + columns[:, None, :]
        first, last = int(flat.min()), int(flat.max())
        if last - first < 4 * flat.size:
            image[first : last + 1] += np.bincount((flat - first).ravel(), deposit.ravel(), last - first + 1)
        else:
            np.add.at(image, flat.ravel(), deposit.ravel())
    return image.reshape(shape).astype(np.float32)


def _pixel_shares(position, sigma, half, size):
    """The pixels (n, k) around each position and the part of its Gaussian on each; 0 outside of 0 to ``size``."""
    edges = np.floor(position)[:, None] + np.arange(-half, half + 2)  # (n, k + 1)
    share = np.diff(special.ndtr((edges - position[:, None]) / sigma[:, None]), axis=1)
    pixels = edges[:, :-1].astype(np.int64)
    share[(pixels < 0) | (pixels >= size)] = 0.0
    return np.clip(pixels, 0, size - 1), share


def rays_in_exposure(instrument, shape, exposure_s, rng, *, rate_factor=1.0, tilt_rad=None):
    """All rays of one exposure: muons and Compton electrons on the ground, protons in orbit.

    Parameters
    ----------
    instrument : crcore.instruments.Camera
        The camera; its ``site`` says which rays come.
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
        Without meaning in orbit.

    Returns
    -------
    charge : numpy.ndarray
        Electrons per pixel, float32, ``shape``.
    n_rays : int
        Particles that freed charge; an electron knocked on belongs to the ray that did it.

    Examples
    --------
    >>> from crcore.instruments import CAMERAS
    >>> charge, n = rays_in_exposure(CAMERAS["acs_wfc"], (64, 64), 500.0, np.random.default_rng(1))
    >>> charge.shape, n > 0
    ((64, 64), True)
    """
    exposed = rate_factor * instrument.area_cm2(shape) * exposure_s
    detector = {
        "size_um": tuple(side * instrument.pixel_um for side in shape),
        "thickness_um": instrument.thickness_um,
        "rng": rng,
    }
    if instrument.site == "orbit":
        tracks = protons(rng.poisson(ORBIT_RAYS_PER_S_CM2 * exposed), **detector)
    else:
        if tilt_rad is None:
            tilt_rad = np.arccos(rng.uniform(0.5, 1.0))
        horizontal = muon_flux(instrument.altitude_m) * exposed
        tracks = muons(rng.poisson(horizontal * tilted_flux_ratio(tilt_rad)), tilt_rad=tilt_rad, **detector)
        tracks += compton_electrons(rng.poisson(horizontal * instrument.electrons_per_muon), **detector)
    charge = charge_map(
        tracks,
        shape,
        pixel_um=instrument.pixel_um,
        thickness_um=instrument.thickness_um,
        diffusion_um=instrument.diffusion_um,
    )
    return charge, sum(track.kind != "delta" for track in tracks)
