"""Harm beyond single stars: crowds, donuts, spikes, trails, asteroids, satellites, galaxies, lines and traces.

All is simulated without a single ray: every flag on an object is harm.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import signal

from crcore.errors import InputError
from crcore.frame import Frame
from crcore.harm import CORE_PX, core_flagged, star_field
from crcore.instruments import Camera
from crcore.simulate import movers, sky, spectra
from crcore.simulate.detector import expose, random_detector, saturation_level
from crcore.simulate.psf import draw_psf

__all__ = ["OBJECTS", "Objects", "draw", "harm_by_object"]

#: light this many times the noise above its surroundings is an object
VISIBLE_SIGMA = 5.0


@dataclass(frozen=True)
class Objects:
    """Places in a frame that belong to no ray.

    Attributes
    ----------
    x, y : numpy.ndarray of float, shape (n,)
        Pixels, counted from 0.
    owner : numpy.ndarray of int, shape (n,)
        Which object a place belongs to: 0, 1, 2, ...
    radius_px : float
        A flagged pixel this near to one of its places harms an object.
    """

    x: np.ndarray
    y: np.ndarray
    owner: np.ndarray
    radius_px: float = CORE_PX

    def __len__(self):
        """How many objects there are."""
        return int(self.owner.max(initial=-1)) + 1

    def harmed(self, mask):
        """Which objects a mask (H, W) harms; bool, one for each."""
        harmed = np.zeros(len(self), dtype=bool)
        np.logical_or.at(harmed, self.owner, core_flagged(mask, self, radius_px=self.radius_px))
        return harmed


def _one_each(x, y, radius_px=CORE_PX):
    return Objects(np.asarray(x, float), np.asarray(y, float), np.arange(len(x)), radius_px)


def _star_field(fwhm_px, psf, radius_px, rng, side):
    width = rng.uniform(*fwhm_px)
    frame, stars = star_field(width, rng, side=side, kind=psf)
    return frame, _one_each(stars.x, stars.y, radius_px * width if psf == "donut" else radius_px)


def _camera_and_sky(rng, kind="imaging"):
    camera = Camera.random(rng, kind)
    sky_e = float(min(10 ** rng.uniform(0.5, 3.7), 0.2 * camera.saturation_e))
    return camera, sky_e, float(np.sqrt(sky_e + camera.read_noise_e**2))


def _frame(camera, light, rng, name):
    data = expose(light, np.zeros_like(light), random_detector(camera, light.shape, rng), rng)
    return Frame(data, read_noise=camera.read_noise_e, saturation=saturation_level(camera), name=name)


def _crowd(rng, side):
    camera, sky_e, noise = _camera_and_sky(rng)
    width = rng.uniform(*camera.fwhm_px)
    psf = draw_psf(width, beta=rng.uniform(2.6, 4.5))
    field = sky.random_field(
        (side, side), sky_e=sky_e, stars_per_mpix=3000, galaxies_per_mpix=10, rng=rng, kind="crowded", fwhm_px=width
    )
    light = sky.render(field, (side, side), psf=psf)
    share = psf.drawImage(nx=9, ny=9, scale=1.0).array.max()
    x, y = field.star_x, field.star_y
    seen = (field.star_flux_e * share > VISIBLE_SIGMA * noise) & (x >= 0) & (y >= 0) & (x < side) & (y < side)
    return _frame(camera, light, rng, "crowded field"), _one_each(x[seen], y[seen])


def _asteroids(rng, side, n=60, exposure_s=300.0):
    camera, sky_e, noise = _camera_and_sky(rng)
    psf = draw_psf(rng.uniform(*camera.fwhm_px), beta=rng.uniform(2.6, 4.5))
    light = np.full((side, side), sky_e, dtype=np.float32)
    places, owner, number = [], [], 0
    for _ in range(n):
        one = movers.random_asteroid(light.shape, noise, exposure_s, rng)
        alone = np.zeros_like(light)
        movers.add_asteroid(alone, one, psf, begin_s=0.0, exposure_s=exposure_s)
        light += alone
        if alone.max() < VISIBLE_SIGMA * noise:
            continue
        length = one.speed_px_per_s * exposure_s
        along = np.arange(0.0, length + 1e-6, 1.0)[:, None] if length > 1 else np.array([[length / 2]])
        angle = np.radians(one.angle_deg)
        places.append([one.x, one.y] + along * [np.cos(angle), np.sin(angle)])
        owner += [number] * len(along)
        number += 1
    x, y = np.concatenate([np.zeros((0, 2)), *places]).T
    return _frame(camera, light, rng, "asteroids"), Objects(x, y, np.array(owner, dtype=int))


def _satellites(rng, side, n=3, step_px=12.0):
    camera, sky_e, noise = _camera_and_sky(rng)
    width = rng.uniform(*camera.fwhm_px)
    light = np.full((side, side), sky_e, dtype=np.float32)
    places = []
    for _ in range(n):
        streak = dataclasses.replace(movers.random_streak(light.shape, noise, rng), lines=(0.0,), blink_px=0.0)
        alone = np.zeros_like(light)
        movers.add_streak(alone, streak, width)
        light += alone
        if alone.max() > VISIBLE_SIGMA * noise:
            along = np.arange(-2.0 * side, 2.0 * side, step_px)[:, None]
            angle = np.radians(streak.angle_deg)
            line = [streak.x, streak.y] + along * [np.cos(angle), np.sin(angle)]
            places.append(line[((line >= 0) & (line < side)).all(axis=1)])
    x, y = np.concatenate([np.zeros((0, 2)), *places]).T
    return _frame(camera, light, rng, "satellites"), _one_each(x, y)


def _edge_on(rng, side):
    camera, sky_e, noise = _camera_and_sky(rng)
    psf = draw_psf(rng.uniform(*camera.fwhm_px), beta=rng.uniform(2.6, 4.5))
    field = sky.random_field(
        (side, side), sky_e=sky_e, stars_per_mpix=0, galaxies_per_mpix=60, rng=rng, kind="galaxies"
    )
    discs = tuple(
        dataclasses.replace(g, sersic=1.0, axis_ratio=rng.uniform(0.15, 0.3))
        for g in field.galaxies
        if 0 <= g.x < side - 1 and 0 <= g.y < side - 1
    )
    light = sky.render(dataclasses.replace(field, galaxies=discs), (side, side), psf=psf)
    x, y = np.array([[g.x, g.y] for g in discs]).reshape(-1, 2).T
    seen = light[np.round(y).astype(int), np.round(x).astype(int)] - sky_e > VISIBLE_SIGMA * noise
    return _frame(camera, light, rng, "galaxies"), _one_each(x[seen], y[seen])


def _spectrum(across, rng, side, step_px=8):
    """Peaks of a spectrum along the dispersion (lines), or across it (traces and orders), in every eighth row."""
    kind = str(rng.choice(["slit", "echelle"]))
    camera = Camera.random(rng, kind)
    exposure_s = float(rng.uniform(900, 1800))
    scene = spectra.random_spectrum(camera, (side, side), exposure_s=exposure_s, rng=rng)
    light = spectra.render(scene, (side, side)) + np.float32(camera.dark_e_per_s * exposure_s)
    turned = scene.transposed != across  # so that peaks lie along rows
    rows, noise = (light.T if turned else light), np.sqrt(np.median(light) + camera.read_noise_e**2)
    y, x = [], []
    for row in range(step_px // 2, side, step_px):
        found = signal.find_peaks(rows[row], prominence=VISIBLE_SIGMA * noise)[0]
        x += list(found)
        y += [row] * len(found)
    x, y = (y, x) if turned else (x, y)
    return _frame(camera, light, rng, f"{kind} spectrum"), _one_each(x, y)


#: what is drawn, by name: ``draw(rng, side) -> frame, Objects``
OBJECTS = {
    "stars": lambda rng, side: _star_field((2.0, 4.0), "moffat", CORE_PX, rng, side),
    "stars, crowded": _crowd,
    "stars with spikes": lambda rng, side: _star_field((2.0, 4.0), "spikes", 12.0, rng, side),
    "stars out of focus": lambda rng, side: _star_field((5.0, 8.0), "donut", 0.9, rng, side),
    "stars drawn out": lambda rng, side: _star_field((2.0, 4.0), "trailed", CORE_PX, rng, side),
    "asteroids": _asteroids,
    "satellites, each 12 px": _satellites,
    "spectral lines, each 8 px": lambda rng, side: _spectrum(False, rng, side),
    "traces, each 8 px": lambda rng, side: _spectrum(True, rng, side),
    "galaxies, edge-on": _edge_on,
}


def draw(name, rng, *, side=512):
    """A simulated exposure without a ray, and what is in it.

    Parameters
    ----------
    name : str
        One of `OBJECTS`.
    rng : numpy.random.Generator
    side : int, optional
        Rows and columns.

    Returns
    -------
    frame : crcore.frame.Frame
        Of a camera drawn at random.
    objects : Objects
        Those whose light is more than 5 times the noise.

    Raises
    ------
    InputError
        For an unknown name.
    """
    if name not in OBJECTS:
        raise InputError(f"object {name!r} is unknown: use one of {', '.join(OBJECTS)}")
    return OBJECTS[name](rng, side)


def harm_by_object(detectors, rng, *, fields=4, side=512, names=tuple(OBJECTS)):
    """How many objects of each kind each detector harms.

    Parameters
    ----------
    detectors : dict
        Name to detector, ``detector(frame) -> Detection``.
    rng : numpy.random.Generator
    fields : int, optional
        Exposures of each kind; all detectors see the same.
    side : int, optional
        Rows and columns of each.
    names : sequence of str, optional
        Kinds, of `OBJECTS`.

    Returns
    -------
    list of dict
        ``detector``, ``object``, ``n``, ``harmed``.
    """
    rows = {}
    for name in names:
        for _ in range(fields):
            frame, objects = draw(name, rng, side=side)
            for detector, look in detectors.items():
                row = rows.setdefault((detector, name), {"detector": detector, "object": name, "n": 0, "harmed": 0})
                row["n"] += len(objects)
                row["harmed"] += int(objects.harmed(look(frame).mask).sum())
    return list(rows.values())
