"""The sky that a camera sees, drawn with GalSim: stars, galaxies, diffuse light and a sloping background.

A `Field` holds what is on the sky, `render` exposes it through a point-spread
function (`crcore.simulate.psf.draw_psf`). GalSim: doi:10.1016/j.ascom.2015.02.002.
"""

from dataclasses import dataclass, replace

import galsim
import numpy as np
from scipy import fft, signal

from crcore.errors import InputError
from crcore.simulate.psf import PHASES, REACH, Stamps

__all__ = ["FIELD_KINDS", "Field", "Galaxy", "random_field", "render"]

FIELD_KINDS = ("sparse", "crowded", "cluster", "galaxies", "resolved_galaxy", "nebula")

_EDGE = 0.1  # what a stamp leaves out at its edge, in sigma of the sky's noise
_COUNTS = 0.75  # N(> flux) ~ flux^-0.75: counts that double every magnitude
_THICKNESS = {1.0: 0.15, 2.5: 0.25, 4.0: 0.5}  # of a galaxy seen edge-on, by Sersic index: discs are thin
_CARPET = 20.0  # unresolved stars reach this factor below the faintest single ones


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
    diffuse : numpy.ndarray or None, shape (H + 2 margin, W + 2 margin)
        Nebulae, discs and unresolved stars before the point-spread function,
        electrons per pixel and exposure.
    """

    star_x: np.ndarray
    star_y: np.ndarray
    star_flux_e: np.ndarray
    galaxies: tuple[Galaxy, ...]
    sky_e: float
    slope: tuple[float, float]
    diffuse: np.ndarray | None = None


# Fields --------------------------------------------------------------------------------------------------------------


def random_field(shape, *, sky_e, stars_per_mpix, galaxies_per_mpix, rng, kind="sparse", fwhm_px=4.0, margin_px=24):
    """Draw a field.

    Star fluxes follow number counts that double every magnitude (10^0.3m), from
    barely above the noise to saturated; galaxies are smaller in number and fainter.
    Unresolved stars, ten for each single one, go into `Field.diffuse`.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frame.
    sky_e : float
        Background, electrons per pixel and exposure.
    stars_per_mpix, galaxies_per_mpix : float
        Mean numbers per million pixels, of a sparse field.
    rng : numpy.random.Generator
        Source of randomness.
    kind : str, optional
        One of `FIELD_KINDS`: ``"sparse"``; ``"crowded"``, ten times the stars and what lies below the noise;
        ``"cluster"``, a globular cluster (Plummer's profile, doi:10.1093/mnras/71.5.460); ``"galaxies"``, four times
        the galaxies, brighter, and few stars; ``"resolved_galaxy"``, a spiral with an exponential disc
        (doi:10.1086/150474), its stars and its star clusters; ``"nebula"``, filaments and clouds with the power
        spectrum k^-3 of the interstellar medium (doi:10.1086/116144).
    fwhm_px : float, optional
        Seeing, pixels: clusters are resolved, star clusters in another galaxy hardly.
    margin_px : int, optional
        Objects are placed this far beyond the edges too, for dithers.

    Returns
    -------
    Field

    Raises
    ------
    InputError
        When ``kind`` is unknown.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> field = random_field((64, 64), sky_e=100, stars_per_mpix=500, galaxies_per_mpix=10, rng=rng, kind="nebula")
    >>> field.diffuse.shape
    (112, 112)
    """
    if kind not in FIELD_KINDS:
        raise InputError(f"field {kind!r} is unknown: use one of {', '.join(FIELD_KINDS)}")
    if kind == "galaxies":
        stars_per_mpix, galaxies_per_mpix = 0.3 * stars_per_mpix, 4 * galaxies_per_mpix
    grid = height, width = tuple(side + 2 * margin_px for side in shape)
    mpix = height * width / 1e6
    n = rng.poisson(stars_per_mpix * mpix)
    noise = np.sqrt(sky_e + 100.0)
    faintest = 20.0 * noise
    flux = faintest * np.minimum((1 - rng.random(n)) ** (-1 / _COUNTS), 3e7 / faintest)
    x = np.round(PHASES * (rng.uniform(0, width, n) - margin_px)) / PHASES
    y = np.round(PHASES * (rng.uniform(0, height, n) - margin_px)) / PHASES
    faintest_galaxy = (9 if kind == "galaxies" else 3) * faintest
    galaxies = tuple(
        _random_galaxy(shape, faintest_galaxy, margin_px, rng) for _ in range(rng.poisson(galaxies_per_mpix * mpix))
    )
    slope = tuple(rng.normal(0, 0.01, 2))
    field = Field(x, y, flux, galaxies, float(sky_e), slope)
    if kind == "crowded":
        clouds = np.exp(0.3 * _gaussian_field(grid, rng))
        return _add_population(field, clouds, 9 * stars_per_mpix * mpix, faintest, 3e3 * faintest, rng, margin_px)
    if kind == "cluster":
        core = max(rng.uniform(0.05, 0.18) * min(shape), 4 * fwhm_px)
        radius = np.hypot(*_offsets(grid, rng))
        plummer = (1 + (radius / core) ** 2) ** -2
        n = rng.uniform(3e3, 1.2e4) * mpix
        # The tip of the red giant branch ends the counts.
        return _add_population(field, plummer, n, faintest, 10 ** rng.uniform(2.3, 3.2) * faintest, rng, margin_px)
    if kind == "resolved_galaxy":
        return _add_spiral(field, grid, noise, fwhm_px, rng, margin_px)
    if kind == "nebula":
        return replace(field, diffuse=noise * rng.uniform(1.0, 10.0) * _nebula(grid, rng))
    return field


def _random_galaxy(shape, faintest, margin_px, rng):
    """A galaxy anywhere, a spheroid seen from a random direction (Hubble 1926, doi:10.1086/143018)."""
    x = rng.uniform(-margin_px, shape[1] + margin_px)
    y = rng.uniform(-margin_px, shape[0] + margin_px)
    flux_e = faintest * min((1 - rng.random()) ** (-1 / _COUNTS), 3e3)
    half_light_px = float(np.clip(rng.lognormal(1.1, 0.5), 1.0, 18.0))
    sersic = float(rng.choice(list(_THICKNESS)))
    cosine = rng.random()  # of the inclination: uniform for random directions
    axis_ratio = float(np.sqrt(cosine**2 + (_THICKNESS[sersic] * (1 - cosine**2) ** 0.5) ** 2))
    return Galaxy(x, y, flux_e, half_light_px, sersic, axis_ratio, angle_deg=rng.uniform(0, 180))


def _offsets(grid, rng):
    """Rows and columns of the pixels from a centre somewhere in the middle of the grid: (H, 1) and (1, W)."""
    y, x = rng.uniform(0.25, 0.75, 2) * grid
    return np.arange(grid[0])[:, None] - y, np.arange(grid[1])[None, :] - x


def _gaussian_field(grid, rng):
    """A Gaussian random field with the power spectrum k^-3, zero mean and unit variance."""
    # Twice the side: the field of a transform is periodic, that of the sky is not.
    double = tuple(fft.next_fast_len(2 * side, real=True) for side in grid)
    k = np.hypot(fft.fftfreq(double[0])[:, None], fft.rfftfreq(double[1])[None, :])
    k[0, 0] = np.inf
    white = fft.rfft2(rng.standard_normal(double, dtype=np.float32))
    clouds = fft.irfft2(white * k.astype(np.float32) ** -1.5, s=double)[: grid[0], : grid[1]]
    return (clouds - clouds.mean()) / clouds.std()


def _nebula(grid, rng):
    """Log-normal clouds and filaments, where a second field passes zero; mean brightness about 1."""
    clouds = np.exp(0.9 * _gaussian_field(grid, rng))
    filaments = np.exp(-np.abs(_gaussian_field(grid, rng)) / rng.uniform(0.1, 0.3))
    light = clouds * (0.4 + filaments)
    return light / light.mean()


def _add_spiral(field, grid, noise, fwhm_px, rng, margin_px):
    """Add a spiral galaxy: disc and bulge, single and unresolved stars, star clusters."""
    length = rng.uniform(0.1, 0.22) * min(grid)
    tilt, angle = rng.uniform(0.35, 1.0), rng.uniform(0, np.pi)
    dy, dx = _offsets(grid, rng)
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / length
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / (length * tilt)
    radius = np.hypot(along, across)
    turn = 2 * (np.arctan2(across, along) - np.log(radius + 0.1) / np.tan(np.radians(rng.uniform(12, 25))))
    arms = 1 + 0.7 * np.minimum(radius, 1.0) * np.cos(turn)
    disc = np.exp(-radius) * arms * np.exp(0.4 * _gaussian_field(grid, rng))
    bright = noise * 10 ** rng.uniform(0.7, 1.7)
    n = rng.uniform(3e3, 1e4) * disc.size / 1e6
    field = _add_population(field, disc, n, 20 * noise, 2e3 * noise, rng, margin_px)
    x, y = (float(-d.flat[0] - margin_px) for d in (dx, dy))
    bulge = Galaxy(x, y, 0.2 * bright * disc.sum(), 0.25 * length, 2.0, max(tilt, 0.6), np.degrees(angle))
    places = _sample(disc * arms**2, rng.poisson(100 * disc.size / 1e6), rng)
    clusters = tuple(
        Galaxy(
            x=places[i] % grid[1] - margin_px + rng.uniform(-0.5, 0.5),
            y=places[i] // grid[1] - margin_px + rng.uniform(-0.5, 0.5),
            flux_e=float(_fluxes(1, 100 * noise, 1e4 * noise, rng)[0]),
            half_light_px=fwhm_px * rng.uniform(0.3, 1.0),
            sersic=1.0,
            axis_ratio=rng.uniform(0.8, 1.0),
            angle_deg=rng.uniform(0, 180),
        )
        for i in range(len(places))
    )
    diffuse = field.diffuse + (bright * disc).astype(np.float32)
    return replace(field, galaxies=(*field.galaxies, bulge, *clusters), diffuse=diffuse)


def _fluxes(n, low, high, rng):
    """Draw ``n`` fluxes between ``low`` and ``high`` from the number counts."""
    return low * (1 - rng.random(n) * (1 - (low / high) ** _COUNTS)) ** (-1 / _COUNTS)


def _sample(density, n, rng):
    """Draw ``n`` flat pixel indices with probability proportional to ``density``."""
    total = np.cumsum(density, dtype=np.float64)
    return np.searchsorted(total, rng.random(n) * total[-1], side="right")


def _add_population(field, density, n, faintest, brightest, rng, margin_px):
    """Add on average ``n`` stars that follow ``density``, and the unresolved ones below ``faintest``."""
    place = _sample(density, rng.poisson(n), rng)
    y, x = np.divmod(place, density.shape[1])
    y8, x8 = (rng.integers(-PHASES // 2, PHASES // 2, len(place)) + PHASES * (p - margin_px) for p in (y, x))
    # Neighbours a fraction of a pixel apart blend in any telescope: unresolved stars may lie on whole pixels.
    faint = _sample(density, rng.poisson(n * (_CARPET**_COUNTS - 1)), rng)
    carpet = np.bincount(faint, _fluxes(len(faint), faintest / _CARPET, faintest, rng), density.size)
    return replace(
        field,
        star_x=np.append(field.star_x, x8 / PHASES),
        star_y=np.append(field.star_y, y8 / PHASES),
        star_flux_e=np.append(field.star_flux_e, _fluxes(len(place), faintest, brightest, rng)),
        diffuse=carpet.reshape(density.shape).astype(np.float32),
    )


# Exposures -----------------------------------------------------------------------------------------------------------


def render(field, shape, *, psf, shift_px=(0.0, 0.0), transparency=1.0, sky_factor=1.0):
    """Expected electrons per pixel of one exposure, before noise.

    A star's stamp reaches to where the star is 0.1 sigma of the sky's noise, and holds 98 % of its light.

    Parameters
    ----------
    field : Field
        The sky.
    shape : tuple of int
        Rows and columns.
    psf : galsim.GSObject
        From `crcore.simulate.psf.draw_psf`.
    shift_px : tuple of float, optional
        Pointing offset (y, x) of this exposure; stars round it to 1/8 pixel.
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
    edge_e = _EDGE * np.sqrt(field.sky_e + 100.0)
    _add_stars(image, field, psf, edge_e, shift_px, transparency)
    if field.galaxies or field.diffuse is not None:
        light = _extended_light(field, shape, edge_e)
        image += np.float32(transparency) * _seen_through(psf, light, shape, shift_px)
    return np.maximum(image, 0.0)


def _add_stars(image, field, psf, edge_e, shift_px, transparency):
    at = np.stack([field.star_y + shift_px[0], field.star_x + shift_px[1]])
    near = np.all((at > -REACH) & (at < np.array([image.shape]).T + REACH), axis=0)
    if not near.any():
        return
    (y8, x8), flux = np.round(at[:, near] * PHASES).astype(int), field.star_flux_e[near]
    stamps = Stamps(psf, flux.max(), edge_e)
    halves = stamps.halves(flux)
    order = np.argsort(halves, kind="stable")
    stars = (a[order].tolist() for a in (y8, x8, halves))
    for y, x, half, f in zip(*stars, (flux * transparency).astype(np.float32)[order], strict=True):
        stamp = stamps.stamp(half, (y % PHASES, x % PHASES))
        _add_clipped(image, stamp, f, y // PHASES - half, x // PHASES - half)


def _add_clipped(image, stamp, factor, top, left):
    """Add ``factor * stamp`` at (top, left), leaving out what falls outside the image."""
    r0, c0 = max(top, 0), max(left, 0)
    r1, c1 = min(top + stamp.shape[0], image.shape[0]), min(left + stamp.shape[1], image.shape[1])
    if r0 < r1 and c0 < c1:
        image[r0:r1, c0:c1] += factor * stamp[r0 - top : r1 - top, c0 - left : c1 - left]


def _extended_light(field, shape, edge_e):
    """Diffuse light and galaxies before the point-spread function: (H + 2 margin, W + 2 margin)."""
    if field.diffuse is None:
        light = np.zeros([side + 64 for side in shape], dtype=np.float32)
    else:
        light = field.diffuse.astype(np.float32)
    margin = (light.shape[0] - shape[0]) // 2
    for galaxy in field.galaxies:
        _add_galaxy(light, galaxy, margin, edge_e)
    return light


def _add_galaxy(light, galaxy, margin, edge_e):
    profile = galsim.Sersic(n=galaxy.sersic, half_light_radius=galaxy.half_light_px, flux=galaxy.flux_e)
    profile = profile.shear(q=galaxy.axis_ratio, beta=galaxy.angle_deg * galsim.degrees)
    # Where a Sersic profile falls to edge_e: Graham & Driver 2005, doi:10.1071/AS05001, equations 1 and 4.
    n, b = galaxy.sersic, 2 * galaxy.sersic - 1 / 3
    at_half_light = profile.xValue(0, galaxy.half_light_px) or 1e-30
    radius = galaxy.half_light_px * max(1 + np.log(at_half_light / edge_e) / b, 1.0) ** n / np.sqrt(galaxy.axis_ratio)
    half = int(np.clip(radius, 16, 400))
    y, x = galaxy.y + margin, galaxy.x + margin
    row, column = int(np.round(y)), int(np.round(x))
    offset = np.array([x - column, y - row])
    stamp = profile.drawImage(nx=2 * half + 1, ny=2 * half + 1, scale=1.0, offset=offset, method="no_pixel").array
    # The cusp: mean of 11 x 11 points in each of the 11 x 11 pixels of the middle.
    fine = profile.drawImage(nx=121, ny=121, scale=1 / 11, offset=11 * offset, method="no_pixel").array
    stamp[half - 5 : half + 6, half - 5 : half + 6] = fine.reshape(11, 11, 11, 11).sum(axis=(1, 3))
    _add_clipped(light, stamp, np.float32(1.0), row - half, column - half)


def _seen_through(psf, light, shape, shift_px, half=64):
    """``light`` (with margins) moved by ``shift_px`` and convolved with the PSF: array of ``shape``."""
    margin = (light.shape[0] - shape[0]) // 2
    whole = [int(np.floor(s)) for s in shift_px]
    offset = shift_px[1] - whole[1], shift_px[0] - whole[0]
    kernel = psf.drawImage(nx=2 * half + 1, ny=2 * half + 1, scale=1.0, offset=offset).array
    # Beyond its margin the light goes on as it ends.
    r, c = (
        np.clip(np.arange(-half, n + half) + margin - w, 0, size - 1)
        for n, w, size in zip(shape, whole, light.shape, strict=True)
    )
    return signal.fftconvolve(light[np.ix_(r, c)], kernel / kernel.sum(), mode="valid")
