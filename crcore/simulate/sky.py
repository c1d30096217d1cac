"""The sky that a camera sees, drawn with GalSim: stars, galaxies and a sloping background.

A `Field` holds what is on the sky, `render` exposes it. Star positions lie on a
grid of 1/8 pixel, so that a point-spread function drawn once for each of the 64
phases serves every star of every exposure exactly.
"""

from dataclasses import dataclass

import galsim
import numpy as np

__all__ = ["Field", "Galaxy", "draw_psf", "random_field", "render"]

PHASES = 8  # sub-pixel grid of star positions, per pixel
_SMALL, _LARGE = 25, 129  # sides of the stamps for faint and for bright stars
_BRIGHT_E = 2e5  # stars with more electrons get the large stamp


@dataclass(frozen=True)
class Galaxy:
    """A Sersic galaxy; positions and radius in pixels, flux in electrons per exposure."""

    x: float
    y: float
    flux_e: float
    half_light_px: float
    sersic: float
    axis_ratio: float
    angle_deg: float


@dataclass(frozen=True)
class Field:
    """What is on the sky.

    Attributes
    ----------
    star_x, star_y, star_flux_e : numpy.ndarray, shape (n,)
        Stars: positions in pixels of the undithered frame, electrons per exposure.
    galaxies : tuple of Galaxy
    sky_e : float
        Background in the middle of the frame, electrons per pixel and exposure.
    slope : tuple of float
        Relative change of the background from edge to edge, along y and x.
    """

    star_x: np.ndarray
    star_y: np.ndarray
    star_flux_e: np.ndarray
    galaxies: tuple[Galaxy, ...]
    sky_e: float
    slope: tuple[float, float]


def random_field(shape, *, sky_e, stars_per_mpix, galaxies_per_mpix, rng, margin_px=24):
    """Draw a field.

    Star fluxes follow number counts that double every magnitude (10^0.3m), from
    barely above the noise to saturated; galaxies are smaller in number and fainter.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    sky_e : float
        Background, electrons per pixel and exposure.
    stars_per_mpix, galaxies_per_mpix : float
        Mean numbers per million pixels.
    rng : numpy.random.Generator
        Source of randomness.
    margin_px : int, optional
        Objects are placed this far beyond the edges too, for dithers.

    Returns
    -------
    Field
    """
    height, width = (side + 2 * margin_px for side in shape)
    mpix = height * width / 1e6
    n = rng.poisson(stars_per_mpix * mpix)
    faintest = 20.0 * np.sqrt(sky_e + 100.0)
    flux = faintest * np.minimum((1 - rng.random(n)) ** (-1 / 0.75), 3e7 / faintest)
    x = np.round(PHASES * (rng.uniform(0, width, n) - margin_px)) / PHASES
    y = np.round(PHASES * (rng.uniform(0, height, n) - margin_px)) / PHASES
    galaxies = tuple(
        Galaxy(
            x=rng.uniform(-margin_px, shape[1] + margin_px),
            y=rng.uniform(-margin_px, shape[0] + margin_px),
            flux_e=3 * faintest * min((1 - rng.random()) ** (-1 / 0.75), 3e3),
            half_light_px=float(np.clip(rng.lognormal(1.1, 0.5), 1.0, 18.0)),
            sersic=rng.choice([1.0, 2.5, 4.0]),
            axis_ratio=rng.uniform(0.25, 1.0),
            angle_deg=rng.uniform(0, 180),
        )
        for _ in range(rng.poisson(galaxies_per_mpix * mpix))
    )
    slope = tuple(rng.normal(0, 0.01, 2))
    return Field(x, y, flux, galaxies, float(sky_e), slope)


def draw_psf(fwhm_px, *, beta=3.0, ellipticity=(0.0, 0.0)):
    """A Moffat point-spread function (GalSim object, pixel units, unit flux).

    Parameters
    ----------
    fwhm_px : float
        Full width at half maximum, pixels.
    beta : float, optional
        Moffat's exponent; 2.5 to 4.5 for seeing.
    ellipticity : tuple of float, optional
        Reduced shear (g1, g2): guiding errors and coma.
    """
    return galsim.Moffat(beta=beta, fwhm=fwhm_px, trunc=0).shear(g1=ellipticity[0], g2=ellipticity[1])


def _psf_bank(psf, side):
    """The PSF on ``side`` x ``side`` pixels at each phase: array (PHASES, PHASES, side, side)."""
    bank = np.empty((PHASES, PHASES, side, side), dtype=np.float32)
    for i in range(PHASES):
        for j in range(PHASES):
            stamp = psf.drawImage(nx=side, ny=side, scale=1.0, offset=(j / PHASES, i / PHASES))
            bank[i, j] = stamp.array
    return bank


def render(field, shape, *, psf, shift_px=(0.0, 0.0), transparency=1.0, sky_factor=1.0):
    """Expected electrons per pixel of one exposure, before noise.

    Parameters
    ----------
    field : Field
        The sky.
    shape : tuple of int
        Rows and columns.
    psf : galsim.GSObject
        From `draw_psf`.
    shift_px : tuple of float, optional
        Pointing offset (y, x) of this exposure, rounded to 1/8 pixel.
    transparency, sky_factor : float, optional
        Factors on the objects and on the background.

    Returns
    -------
    numpy.ndarray
        float32, ``shape``.
    """
    rows = np.linspace(-0.5, 0.5, shape[0])[:, None]
    columns = np.linspace(-0.5, 0.5, shape[1])[None, :]
    sky = field.sky_e * sky_factor * (1 + field.slope[0] * rows + field.slope[1] * columns)
    image = sky.astype(np.float32)
    bright = field.star_flux_e > _BRIGHT_E
    for side, chosen in ((_SMALL, ~bright), (_LARGE, bright)):
        if chosen.any():
            _add_stars(image, field, chosen, _psf_bank(psf, side), shift_px, transparency)
    for galaxy in field.galaxies:
        _add_galaxy(image, galaxy, psf, shift_px, transparency)
    return np.maximum(image, 0.0)


def _add_stars(image, field, chosen, bank, shift_px, transparency):
    half = bank.shape[-1] // 2
    y8 = np.round((field.star_y[chosen] + shift_px[0]) * PHASES).astype(int)
    x8 = np.round((field.star_x[chosen] + shift_px[1]) * PHASES).astype(int)
    flux = (field.star_flux_e[chosen] * transparency).astype(np.float32)
    for y, x, f in zip(y8, x8, flux, strict=True):
        stamp = bank[y % PHASES, x % PHASES]
        top, left = y // PHASES - half, x // PHASES - half
        _add_clipped(image, stamp, f, top, left)


def _add_clipped(image, stamp, factor, top, left):
    """Add ``factor * stamp`` at (top, left), leaving out what falls outside the image."""
    r0, c0 = max(top, 0), max(left, 0)
    r1, c1 = min(top + stamp.shape[0], image.shape[0]), min(left + stamp.shape[1], image.shape[1])
    if r0 < r1 and c0 < c1:
        image[r0:r1, c0:c1] += factor * stamp[r0 - top : r1 - top, c0 - left : c1 - left]


def _add_galaxy(image, galaxy, psf, shift_px, transparency):
    profile = galsim.Sersic(n=galaxy.sersic, half_light_radius=galaxy.half_light_px, flux=galaxy.flux_e * transparency)
    profile = profile.shear(q=galaxy.axis_ratio, beta=galaxy.angle_deg * galsim.degrees)
    side = int(np.clip(12 * galaxy.half_light_px, 33, 129)) // 2 * 2 + 1
    y, x = galaxy.y + shift_px[0], galaxy.x + shift_px[1]
    top, left = int(np.round(y)) - side // 2, int(np.round(x)) - side // 2
    offset = (x - np.round(x), y - np.round(y))
    stamp = galsim.Convolve(profile, psf).drawImage(nx=side, ny=side, scale=1.0, offset=offset)
    _add_clipped(image, stamp.array, np.float32(1.0), top, left)
