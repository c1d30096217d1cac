"""What the detector of a spectrograph sees: echelle orders from fibres, or sky and objects along a slit.

`random_spectrum` draws a scene, `render` exposes it, as `crcore.simulate.sky` does for imaging (paper section 4.4).
Profiles are tabulated as cumulative functions, so that every pixel holds the integral over its area at any shift.
Wavelengths of sky lines: Osterbrock et al. 1996, doi:10.1086/133722 (OH, [O I]); mercury and sodium are street lamps.
Brightnesses are set by eye, from frames of FLOYDS and Kast.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline

from crcore.errors import InputError

__all__ = ["Spectrum", "random_spectrum", "render"]

# fmt: off
#: wavelengths in air (Å) and equivalent widths (Å) typical of a dark site
_SKY_LINES = np.array([
    4046.6, 4, 4358.3, 12, 5460.7, 20, 5577.3, 110, 5890.0, 30, 5895.9, 20, 6300.3, 70, 6363.8, 23, 6864.0, 15,
    6923.2, 12, 7276.4, 25, 7316.3, 20, 7340.9, 22, 7750.6, 30, 7794.1, 28, 7821.5, 24, 7913.7, 35, 7964.7, 30,
    7993.3, 30, 8025.8, 20, 8344.6, 50, 8382.4, 12, 8399.2, 50, 8415.2, 14, 8430.2, 45, 8465.4, 35, 8493.4, 12,
    8504.8, 18, 8778.3, 35, 8791.2, 16, 8827.1, 70, 8885.9, 65, 8903.1, 20, 8919.6, 55, 8943.4, 16, 8958.1, 45,
    8988.4, 15, 9001.3, 20, 9376.0, 70, 9419.7, 25, 9439.7, 60, 9458.5, 18, 9476.8, 50, 9502.8, 22, 9519.4, 30,
    9552.5, 15, 9567.3, 20,
]).reshape(-1, 2)
# fmt: on
#: emission lines of nebulae and galaxies at rest (Å, relative flux)
_NEBULAR = ((3727.5, 0.8), (4861.3, 0.4), (4958.9, 0.3), (5006.8, 0.9), (6562.8, 1.0), (6583.5, 0.35), (6716.4, 0.2))


@dataclass(frozen=True)
class Spectrum:
    """A scene. Rows are across the dispersion, and cubics in x scaled to -1..1 over the full frame."""

    full: tuple[int, int]  # rows and columns of the full frame
    origin: tuple[int, int]  # where the rendered sub-frame starts in it
    transposed: bool  # the dispersion runs along y
    line: tuple[np.ndarray, np.ndarray]  # profile of a line or fibre: offsets (px), cumulative light


@dataclass(frozen=True)
class Echelle(Spectrum):
    """Orders of a spectrograph fed by two fibres: a star's, and a lamp's or the sky's or a dark one."""

    rows: np.ndarray  # (n, 4) row of each order
    number: np.ndarray  # (n,) the order's number
    level_e: np.ndarray  # (n,) star's continuum where the blaze peaks, electrons per column
    gap_px: float  # from the star's fibre to the second one
    blaze: tuple[float, float]  # width (1 / free spectral range), centre (x scaled)
    dispersion: float  # ln(wavelength) per pixel
    star: tuple[np.ndarray, np.ndarray]  # (k,) ln(wavelength) less a constant; spectrum, continuum about 1
    lamp: tuple[np.ndarray, np.ndarray]  # (l,) ln(wavelength) of the lamp's lines; their electrons
    sky: float  # light of the sky in the second fibre, relative to the star's
    scattered: tuple[np.ndarray, np.ndarray]  # (H,) and (W,): their product is scattered light over the mean light


@dataclass(frozen=True)
class Source:
    """An object on the slit."""

    row: tuple[float, ...]  # from the slit's centre (px)
    flux_e: np.ndarray  # (W,) electrons per column; of an extended object, per pixel in the middle
    extent_px: float  # exponential scale length; 0 for a star
    emission: tuple[tuple[float, float], ...]  # extended lines: column, electrons per row in the middle
    rotation_px: tuple[float, float]  # velocity plateau along the dispersion, radius where it is reached
    clumps: np.ndarray  # (H,) brightness of the emission along the slit


@dataclass(frozen=True)
class Band:
    """The image of the slit in one order; a long slit has one, a cross-dispersed spectrograph two."""

    row: tuple[float, ...]  # centre of the slit
    half_px: float  # half the length of the slit
    tilt: tuple[float, float]  # shift of a line in x along the slit: px per px, px per px^2
    sky_e: np.ndarray  # (W,) continuum, electrons per pixel
    lines: tuple[np.ndarray, np.ndarray]  # (l,) columns of the sky's lines; their electrons per row
    illumination: np.ndarray  # (H,) relative light along the slit
    fringes: np.ndarray  # (W,) amplitude of the interference in the silicon
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class LongSlit(Spectrum):
    """Sky and objects along a slit."""

    bands: tuple[Band, ...]
    seeing: tuple[float, float]  # full width at half maximum (px) and Moffat's exponent of a star along the slit


def random_spectrum(camera, shape, *, exposure_s, rng):
    """Draw a scene for a spectrograph.

    Parameters
    ----------
    camera : crcore.instruments.Camera
        Of ``kind`` "echelle" or "slit".
    shape : tuple of int
        Rows and columns; smaller than the camera's, the frame is a random sub-frame.
    exposure_s : float
        Light grows with it, but observers keep stars below saturation.
    rng : numpy.random.Generator

    Returns
    -------
    Spectrum
        `Echelle` or `LongSlit`, for `render` with the same ``shape``.

    Raises
    ------
    InputError
        When the camera is not a spectrograph.

    Examples
    --------
    >>> from crcore.instruments import get_camera
    >>> scene = random_spectrum(get_camera("longslit"), (256, 512), exposure_s=900, rng=np.random.default_rng(1))
    >>> render(scene, (256, 512), throughput=0.8).shape
    (256, 512)
    """
    draw = {"echelle": _random_echelle, "slit": _random_slit}.get(camera.kind)
    if draw is None:
        raise InputError(f"camera {camera.name!r} is of kind {camera.kind!r}: a spectrum needs 'echelle' or 'slit'")
    ways = [way for way, s in ((False, shape), (True, shape[::-1])) if np.all(np.less_equal(s, camera.shape))]
    transposed = camera.kind == "slit" and bool(rng.choice(ways or [False]))  # if the frame fits the detector
    size = shape[::-1] if transposed else shape
    full = tuple(int(side) for side in np.maximum(size, camera.shape))
    origin = tuple(int(rng.integers(f - s + 1)) for f, s in zip(full, size, strict=True))
    fwhm = rng.uniform(*camera.fwhm_px)
    common = {"full": full, "origin": origin, "transposed": transposed, "line": _flat_topped(fwhm)}
    return draw(camera, exposure_s, fwhm, common, rng)


def render(spectrum, shape, *, shift_px=(0.0, 0.0), throughput=1.0, seeing_factor=1.0, sky_factor=1.0):
    """Expected electrons per pixel of one exposure, before noise.

    Parameters
    ----------
    spectrum : Spectrum
        From `random_spectrum`.
    shape : tuple of int
        Rows and columns, as the scene was drawn for.
    shift_px : tuple of float, optional
        Flexure (y, x): everything moves, the edges of the slit too.
    throughput, seeing_factor, sky_factor : float, optional
        Factors on stars and galaxies (clouds, losses at the slit; a lamp feels none), on the
        seeing (traces on a slit widen, a fibre loses light) and on the sky, which changes in minutes.

    Returns
    -------
    numpy.ndarray
        float32, ``shape``.
    """
    size, shift = (shape[::-1], shift_px[::-1]) if spectrum.transposed else (shape, shift_px)
    offset = np.subtract(shift, spectrum.origin)
    expose = _render_echelle if isinstance(spectrum, Echelle) else _render_slit
    image = expose(spectrum, size, offset, throughput, seeing_factor, sky_factor)
    return np.ascontiguousarray(np.maximum(image.T if spectrum.transposed else image, 0.0))


def _smooth(n, rng, knots, scatter):
    """A smooth random positive function on ``n`` points, about 1."""
    return np.exp(CubicSpline(np.linspace(0, 1, knots), rng.normal(0, scatter, knots))(np.linspace(0, 1, n)))


def _between(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _table(u, profile):
    """Cumulative light of a profile sampled at the offsets ``u`` (px)."""
    cumulative = np.cumsum(profile) - profile / 2
    return u, (cumulative - cumulative[0]) / (cumulative[-1] - cumulative[0])


def _flat_topped(fwhm):
    """A fibre or slit: a box of 0.7 FWHM, blurred by the optics, with 1 % in faint wings."""
    u, shift = np.arange(-5 * fwhm - 1, 5 * fwhm + 1, 1 / 32), np.linspace(-0.35, 0.35, 15) * fwhm
    core = np.exp(-0.5 * ((u[:, None] + shift) / (0.36 * fwhm)) ** 2).mean(1)
    return _table(u, core + 0.01 / (1 + (u / fwhm) ** 2) ** 1.5)


def _in_pixel(table, offset):
    """Part of the light in a pixel whose centre is ``offset`` px from the profile's."""
    return np.interp(offset + 0.5, *table) - np.interp(offset - 0.5, *table)


def _lines(x, positions, flux, table):
    """Unresolved lines on the uniform samples ``x`` (px): electrons per pixel."""
    step, reach = x[1] - x[0], table[0][-1]
    near = (positions > x[0] - reach) & (positions < x[-1] + reach)
    positions, flux = positions[near, None], flux[near, None]
    index = np.round((positions - x[0]) / step).astype(int) + np.arange(-int(reach / step), int(reach / step) + 1)
    light = flux * _in_pixel(table, x[0] + index * step - positions)
    inside = (index >= 0) & (index < len(x))
    return np.bincount(index[inside], light[inside], minlength=len(x))


def _stellar(n, rng, *, lines, width, resolution):
    """Spectrum of a star on ``n`` samples, continuum about 1; mean number of lines, widths in samples."""
    depth, glow = np.zeros(n), np.zeros(n)
    for number, sigma, strength in ((rng.poisson(lines), width, 0.3), (rng.poisson(3), 4 * width, 0.3)):
        comb = np.bincount(rng.integers(0, n, number), rng.exponential(strength, number), minlength=n)
        depth += ndimage.gaussian_filter1d(comb * np.sqrt(2 * np.pi) * sigma, sigma)
    if rng.random() < 0.25:  # a star with emission lines
        glow[rng.integers(0, n, rng.integers(1, 8))] = _between(rng, 1, 20) * width
        glow = ndimage.gaussian_filter1d(glow, width)
    return ndimage.gaussian_filter1d(_smooth(n, rng, 8, 0.15) * (np.exp(-depth) + glow), resolution)


def _random_echelle(camera, exposure_s, fwhm, common, rng):
    height, columns = common["full"]
    low, high = np.sort(rng.uniform(22, 60, 2))  # px between orders, from one end to the other
    rows = [-150.0]
    while rows[-1] < height + 150:
        rows.append(rows[-1] + low + (high - low) * np.clip(rows[-1] / height, 0, 1))
    n, place = len(rows), np.linspace(-1, 1, len(rows))
    bend = rng.normal(0, (3, 50, 25)) * (1 + rng.uniform(-0.3, 0.3, 3) * place[:, None])  # cubic, sagitta, tilt (px)
    number = rng.integers(50, 70) + np.arange(n)
    dispersion = 0.016 / columns  # a frame spans 1.6 %: R = 60,000 at 4 px
    grid = np.arange(-np.log(number[-1]) - 0.02, -np.log(number[0]) + 0.02, dispersion / 2)
    star = _stellar(len(grid), rng, lines=_between(rng, 300, 2e4), width=_between(rng, 3, 25), resolution=0.85 * fwhm)
    level = _smooth(n, rng, 5, 0.3) * np.exp(-rng.uniform(0, 1.2) * place)  # fainter in the blue
    peak = min(_between(rng, 0.02, 40) * exposure_s, 0.8 * camera.saturation_e)
    second = rng.choice(["lamp", "lamp", "lamp", "sky", "dark"])
    lines = int(n * rng.uniform(25, 60)) if second == "lamp" else 0
    lamp = rng.uniform(grid[0], grid[-1], lines)
    argon = np.clip(3 * (lamp - grid[0]) / (grid[-1] - grid[0]) - 2, 0, 1)  # in the red, stronger than thorium
    return Echelle(
        **common,
        rows=np.column_stack([bend, rows]),
        number=number,
        level_e=1.06 * fwhm * peak * level / level.max(),
        gap_px=float(rng.choice([-1, 1]) * np.clip(rng.uniform(0.35, 0.5) * low, 2.2 * fwhm, 25)),
        blaze=(rng.uniform(0.75, 0.95), rng.normal(0, 0.08)),
        dispersion=dispersion,
        star=(grid, star),
        lamp=(lamp, 10 ** (rng.normal(3.0, 0.9, lines) + rng.normal(0, 0.2) + argon * rng.uniform(0, 1, lines))),
        sky=_between(rng, 0.001, 0.05) if second == "sky" else 0.0,
        scattered=(rng.uniform(0.01, 0.08) * _smooth(height, rng, 5, 0.3), _smooth(columns, rng, 5, 0.3)),
    )


def _render_echelle(scene, shape, offset, throughput, seeing_factor, sky_factor):
    height, width = shape
    x = np.arange(width) - offset[1]
    scaled = x / (scene.full[1] / 2) - 1
    span = scene.dispersion * scene.full[1] / 2  # in ln(wavelength), from the centre to the edge
    half = int(scene.line[0][-1] / 2)  # fibres are drawn this far across
    padded = np.zeros((height + 4 * half, width), dtype=np.float32)  # so that traces may cross the border
    for polynomial, number, level in zip(scene.rows, scene.number, scene.level_e, strict=True):
        row = np.polyval(polynomial, scaled) + offset[0]
        if row.max() < -half - abs(scene.gap_px) or row.min() > height + half + abs(scene.gap_px):
            continue
        blaze = np.sinc(scene.blaze[0] * number * span * (scaled - scene.blaze[1])) ** 2
        star = level * blaze * np.interp(scaled * span - np.log(number), *scene.star)
        columns = ((scene.lamp[0] + np.log(number)) / span + 1) * scene.full[1] / 2
        second = _lines(x, columns, scene.lamp[1], scene.line) * blaze + star * scene.sky * sky_factor
        for centre, light in ((row, star * throughput / seeing_factor), (row + scene.gap_px, second)):
            nearest = np.round(centre).astype(int)
            here = np.flatnonzero((nearest >= -half) & (nearest < height + half) & (light > 1e-4))
            edges = np.arange(-half, half + 2)[:, None] - 0.5 + (nearest - centre)[here]
            part = np.diff(np.interp(edges, *scene.line), axis=0)
            target = np.arange(-half, half + 1)[:, None] + nearest[here] + 2 * half
            padded.ravel()[target * width + here] += (part * light[here]).astype(np.float32)
    image = padded[2 * half : height + 2 * half]
    y = np.arange(height) - offset[0]
    across, along = (np.interp(at, np.arange(len(s)), s) for at, s in zip((y, x), scene.scattered, strict=True))
    return image + np.outer(image.mean() * across, along).astype(np.float32)


def _random_slit(camera, exposure_s, fwhm, common, rng):
    height, width = common["full"]
    seeing = float(np.clip(rng.lognormal(np.log(1.4), 0.3) / camera.pixel_scale_arcsec, 1.8, 12.0))
    x, stretch = np.arange(width), 2048 / width
    if rng.random() < 0.3:  # cross-dispersed and curved: red, and blue at half its wavelengths
        half, bend = height * rng.uniform(0.07, 0.11), rng.normal(0, (8, 40, 40))
        first = rng.uniform(2700, 3200) + 1.1 * stretch * x
        waves, rows = (2 * first, first), (rng.uniform(0.25, 0.35) * height, rng.uniform(0.65, 0.75) * height)
    else:
        half, bend = height * rng.uniform(0.27, 0.46), rng.normal(0, (0.3, 2, 3))
        waves = (rng.uniform(3200, 7400) + _between(rng, 0.5, 2.6) * stretch * x,)
        rows = (rng.uniform(0.48, 0.52) * height,)
    tilt = rng.normal(0, 0.03), rng.normal(0, 2e-5)
    illumination = _smooth(int(2 * half) + 41, rng, 9, 0.02)
    sky, variation = _between(rng, 0.003, 0.2) * exposure_s, rng.lognormal(0, 0.35)
    objects = []  # peak (e/px), track, scale length or 0, redshift, rotation, clumps
    for _ in range(1 + rng.poisson(0.8)):
        peak = min(_between(rng, 0.001, 10) * exposure_s, 0.8 * camera.saturation_e)
        track = rng.normal(0, (0.4, 1.0, 0.35 * half))
        extent = _between(rng, 2, 15) * seeing if rng.random() < 0.3 else 0.0
        rotation = rng.normal(0, 4), _between(rng, 1, 5) * seeing
        objects.append((peak, track, extent, rng.uniform(0, 0.15), rotation, _smooth(len(illumination), rng, 25, 0.8)))
    bands = []
    for wave, row in zip(waves, rows, strict=True):
        response = _smooth(width, rng, 5, 0.15) / (1 + np.exp((3650 - wave) / 150)) / (1 + np.exp((wave - 9700) / 250))
        step = wave[1] - wave[0]
        lines = np.append(_SKY_LINES[:, 0], rng.uniform(3000, 11_000, 300))  # most of the faint ones are OH too
        widths = np.append(_SKY_LINES[:, 1], rng.exponential(np.maximum(0.5, lines[len(_SKY_LINES) :] / 800 - 6)))
        columns = (lines - wave[0]) / step
        lines_e = sky * variation * rng.lognormal(0, 0.3, len(lines)) * widths / step * np.interp(columns, x, response)
        continuum = sky * response * _smooth(width, rng, 60, 0.1)
        fringes = rng.uniform(0, 0.08) / (1 + np.exp((8000 - wave) / 300))
        sources = []
        for peak, track, extent, redshift, rotation, clumps in objects:
            star = _stellar(width, rng, lines=_between(rng, 5, 120), width=_between(rng, 1, 5), resolution=fwhm / 2.35)
            flux = peak * response * star * (0.1 if extent else 1.2 * seeing)
            at = [((w * (1 + redshift) - wave[0]) / step, s) for w, s in _NEBULAR] if extent else []
            emission = tuple((c, peak * s * np.interp(c, x, response, 0, 0)) for c, s in at if 0 < c < width)
            sources.append(Source(tuple(track), flux, extent, emission, rotation, clumps))
        sky_light = continuum, (columns, lines_e), illumination, fringes
        bands.append(Band((*bend, row), half, tilt, *sky_light, tuple(sources)))
    return LongSlit(**common, bands=tuple(bands), seeing=(seeing, rng.uniform(2.6, 4.5)))


def _render_slit(scene, shape, offset, throughput, seeing_factor, sky_factor):
    height, width = shape
    fwhm, power = scene.seeing[0] * seeing_factor, scene.seeing[1] - 0.5  # integrated across the slit
    core = fwhm / 2 / np.sqrt(2 ** (1 / power) - 1)
    seeing = _table(u := np.arange(-12 * fwhm, 12 * fwhm, 1 / 32), (1 + (u / core) ** 2) ** -power)
    x, full = np.arange(width) - offset[1], np.arange(scene.full[1])
    scaled = x / (scene.full[1] / 2) - 1
    image = np.zeros(shape, dtype=np.float32)
    for band in scene.bands:
        centre = np.polyval(band.row, scaled) + offset[0]
        top = int(np.clip(np.floor(centre.min() - band.half_px) - 3, 0, height))
        bottom = int(np.clip(np.ceil(centre.max() + band.half_px) + 4, top, height))
        along = np.arange(top, bottom)[:, None] - centre  # (h, W) px from the slit's centre
        column = x - along * band.tilt[0] - along**2 * band.tilt[1]  # of the same wavelength at the slit's centre
        fine = np.arange(column.min() - 1, column.max() + 1, 0.25) if along.size else np.arange(2.0)
        sky = np.interp(fine, full, band.sky_e) + _lines(fine, *band.lines, scene.line)
        light = sky_factor * np.interp(column, fine, sky)
        middle = np.arange(len(band.illumination)) - len(band.illumination) / 2
        for source in band.sources:
            away = along - np.polyval(source.row, scaled)
            across = np.exp((fwhm - np.hypot(away, fwhm)) / e) if (e := source.extent_px) else _in_pixel(seeing, away)
            light += throughput * across * np.interp(x, full, source.flux_e)
            for place, electrons in source.emission:  # tilted as the sky's lines, and by rotation
                near = np.abs(x - place) < 80
                moved = column[:, near] - place - source.rotation_px[0] * np.tanh(away[:, near] / source.rotation_px[1])
                spots = np.interp(along[:, near], middle, source.clumps) * _in_pixel(scene.line, moved)
                light[:, near] += throughput * electrons * across[:, near] * spots
        light *= np.interp(along, middle, band.illumination)
        light *= 1 + np.interp(x, full, band.fringes) * np.sin(column / 5 + 3 * np.sin(along / 40 + column / 300))
        image[top:bottom] += light * np.clip((band.half_px - np.abs(along)) / 1.5 + 0.5, 0, 1)  # the slit's jaws
    return image
