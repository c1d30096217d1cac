"""Real rays that a CCD recorded: read them, put them into frames, compare simulated ones with them."""

import gzip
import io
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from crcore import morphology
from crcore.errors import InputError
from crcore.results import atomic
from crcore.simulate.rays import rays_in_exposure

__all__ = [
    "Selection",
    "compare_with_recorded",
    "inject_rays",
    "read_rays",
    "simulate_recording",
    "write_rays",
]

_GZIP = b"\x1f\x8b"
_DAMAGED_FITS = (
    AstropyWarning,
    fits.VerifyError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
    zlib.error,
)
_COLUMNS = ("fp_id", "x0", "y0", "pixel_values")
_HINT = "give a .npz from crcore.simulate.recorded.write_rays or a FITS table of spans"


def read_rays(path):
    """Read recorded rays; the content, not the name, says in which format.

    Parameters
    ----------
    path : str or pathlib.Path
        Either a ``.npz`` with ``pixels`` (all rays, row by row, one after the other)
        and ``shape`` (n, 2), or a FITS table of spans, gzipped or not, with the columns
        ``fp_id``, ``x0``, ``y0``, ``pixel_values`` (LSSTDESC/imSim's format: each row
        is one run of pixels of the ray ``fp_id``).

    Returns
    -------
    list of numpy.ndarray
        One 2-D float32 array of electrons a ray, zero outside of it.

    Raises
    ------
    InputError
        When there is no such file, or it is truncated or something else.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): {_HINT}") from None
    if content[:2] == b"PK":
        return _read_npz(path, content)
    if content[:2] == _GZIP or content[:6] == b"SIMPLE":
        return _read_spans(path, content)
    raise InputError(f"{path}: holds neither a .npz nor a FITS file: {_HINT}")


def _read_npz(path, content):
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("pixels", "shape") if name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        # zipfile raises the last for a compression that it does not know
        raise InputError(f"{path}: is damaged or no .npz of numbers: {_HINT}") from None
    for name in ("pixels", "shape"):
        if name not in arrays:
            raise InputError(f"{path}: has no array {name!r}: {_HINT}")
    pixels, shape = arrays["pixels"], arrays["shape"]
    if pixels.ndim != 1 or pixels.dtype.kind not in "fiu":
        raise InputError(f"{path}: 'pixels' is {pixels.dtype} {pixels.shape}, not a row of numbers: {_HINT}")
    if shape.ndim != 2 or shape.shape[1:] != (2,) or shape.dtype.kind not in "iu":
        raise InputError(f"{path}: 'shape' is {shape.dtype} {shape.shape}, not (n, 2) whole numbers: {_HINT}")
    if (shape < 1).any() or (shape > max(len(pixels), 1)).any():
        raise InputError(f"{path}: 'shape' has sizes that no ray can have: {_HINT}")
    ends = np.cumsum(shape.astype(np.int64).prod(axis=1))
    total = int(ends[-1]) if len(ends) else 0
    if total != len(pixels):
        raise InputError(f"{path}: 'shape' sums up to {total} pixels but there are {len(pixels)}: write it again")
    if not np.isfinite(pixels).all():
        raise InputError(f"{path}: 'pixels' holds values that are not finite: write it again")
    pixels = pixels.astype(np.float32)
    return [part.reshape(s) for part, s in zip(np.split(pixels, ends[:-1]), shape, strict=True)] if total else []


def _read_spans(path, content):
    try:
        plain = gzip.decompress(content) if content[:2] == _GZIP else content
        with warnings.catch_warnings(), fits.open(io.BytesIO(plain), memmap=False) as hdus:
            warnings.simplefilter("ignore", AstropyWarning)
            warnings.filterwarnings("error", message="File may have been truncated")
            table = next((h.data for h in hdus if isinstance(h, fits.BinTableHDU)), None)
            if table is None:
                raise InputError(f"{path}: has no table: {_HINT}")
            missing = [c for c in _COLUMNS if c not in table.names]
            if missing:
                raise InputError(f"{path}: the table has no column {missing[0]!r}: {_HINT}")
            ids, x0, y0 = (np.asarray(table[c], dtype=np.int64) for c in _COLUMNS[:3])
            spans = [np.asarray(values, dtype=np.float32) for values in table["pixel_values"]]
    except _DAMAGED_FITS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged or no FITS table: {_HINT}") from None
    if any(s.ndim != 1 or not len(s) or not np.isfinite(s).all() for s in spans):
        raise InputError(f"{path}: 'pixel_values' has rows that are no run of numbers: {_HINT}")
    rays = []
    order = np.argsort(ids, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(ids) else []:
        left, top = x0[rows].min(), y0[rows].min()
        height = y0[rows].max() - top + 1
        width = max(x0[r] + len(spans[r]) for r in rows) - left
        if height * width > 10_000_000:
            raise InputError(f"{path}: ray {ids[rows[0]]} spans {height} x {width} pixels: {_HINT}")
        ray = np.zeros((height, width), dtype=np.float32)
        for r in rows:
            ray[y0[r] - top, x0[r] - left : x0[r] - left + len(spans[r])] = spans[r]
        rays.append(ray)
    return rays


def write_rays(path, footprints):
    """Write recorded rays as a ``.npz`` that `read_rays` reads; the file is whole or not there.

    Parameters
    ----------
    path : str or pathlib.Path
        Where to; use the suffix ``.npz``.
    footprints : list of array_like
        2-D arrays of electrons, zero outside of the ray (`crcore.morphology.footprints`).

    Raises
    ------
    InputError
        When one of them is not 2-D, is empty or holds values that are not finite.
    """
    rays = [np.asarray(f, dtype=np.float32) for f in footprints]
    for number, ray in enumerate(rays):
        if ray.ndim != 2 or ray.size == 0 or not np.isfinite(ray).all():
            raise InputError(f"{path}: ray {number} of shape {ray.shape} is no 2-D array of finite numbers")
    shape = np.array([r.shape for r in rays], dtype=np.int32).reshape(-1, 2)
    pixels = np.concatenate([r.ravel() for r in rays]) if rays else np.zeros(0, dtype=np.float32)
    with atomic(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, pixels=pixels, shape=shape)


def inject_rays(shape, footprints, n, rng):
    """Put ``n`` recorded rays into an empty frame.

    Rays are drawn with replacement, turned by quarters and flipped at random, and
    their centres fall anywhere in the frame: those at its edge are cut.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    footprints : list of array_like
        From `read_rays`.
    n : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    charge : numpy.ndarray
        Electrons, float32, ``shape``.
    n_rays : int
        ``n``, as `crcore.simulate.rays.rays_in_exposure` returns it.

    Raises
    ------
    InputError
        When there are no rays to draw from.

    Examples
    --------
    >>> charge, n = inject_rays((32, 32), [np.full((1, 3), 500.0)], 2, np.random.default_rng(1))
    >>> charge.shape, n, float(charge.max())
    ((32, 32), 2, 500.0)
    """
    if n > 0 and len(footprints) == 0:
        raise InputError("there are no recorded rays to inject: give a file that holds some")
    charge = np.zeros(shape, dtype=np.float32)
    for index in rng.integers(0, max(len(footprints), 1), n):
        ray = np.rot90(np.asarray(footprints[index]), rng.integers(4))
        if rng.random() < 0.5:
            ray = ray[:, ::-1]
        begin = [int(rng.integers(0, side)) - size // 2 for side, size in zip(shape, ray.shape, strict=True)]
        low = [max(b, 0) for b in begin]
        high = [min(b + size, side) for b, size, side in zip(begin, ray.shape, shape, strict=True)]
        inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        charge[inside] += ray[tuple(slice(a - o, b - o) for a, b, o in zip(low, high, begin, strict=True))]
    return charge, n


@dataclass(frozen=True)
class Selection:
    """How rays were told from the background when they were recorded.

    Attributes
    ----------
    noise_e : float
        Noise of a pixel.
    threshold_e : float
        Pixels above it belong to rays.
    peak_e : float
        Rays whose brightest pixel is below it are left out: noise and warm pixels.
    least_pixels : int
        So are those of fewer pixels.
    saturation_e : float
        Pixels are cut at this value.
    """

    noise_e: float
    threshold_e: float
    peak_e: float
    least_pixels: int = 1
    saturation_e: float = np.inf

    def find(self, charge, rng):
        """Rays in a frame of charge (H, W) as they would have been recorded, as footprints."""
        image = charge + rng.normal(0, self.noise_e, charge.shape).astype(np.float32)
        image = np.minimum(image, self.saturation_e)
        return self.keep(morphology.footprints(image, image > self.threshold_e))

    def keep(self, footprints):
        """Those footprints that have enough pixels and a bright one."""
        return [f for f in footprints if np.count_nonzero(f) >= self.least_pixels and f.max() >= self.peak_e]


def simulate_recording(camera, selection, *, exposure_s, rng, shape=(2048, 2048), frames=1, tilt_rad=0.0):
    """Rays as ``camera`` and ``selection`` would have recorded them.

    Parameters
    ----------
    camera : crcore.instruments.Camera
        Geometry and rates.
    selection : Selection
        Noise and thresholds.
    exposure_s : float
        Exposure time of each frame.
    rng : numpy.random.Generator
        Source of randomness.
    shape : tuple of int, optional
        Rows and columns of each frame.
    frames : int, optional
        How many.
    tilt_rad : float, optional
        Angle between the detector's normal and the vertical.

    Returns
    -------
    list of numpy.ndarray
        Footprints, as from `read_rays`.
    """
    found = []
    for _ in range(frames):
        charge, _ = rays_in_exposure(camera, shape, exposure_s, rng, tilt_rad=tilt_rad)
        found += selection.find(charge, rng)
    return found


def compare_with_recorded(recorded, camera, selection, *, exposure_s, rng, shape=(2048, 2048), frames=1, tilt_rad=0.0):
    """Simulate what a camera records and compare it with what it did record.

    Parameters
    ----------
    recorded : list of array_like
        Footprints from `read_rays`; ``selection`` is applied to them too.
    camera, selection, exposure_s, rng, shape, frames, tilt_rad
        As in `simulate_recording`.

    Returns
    -------
    rows : list of dict
        As from `crcore.morphology.compare`, ``a`` recorded and ``b`` simulated, with
        ``n_a`` and ``n_b``, the numbers of rays.
    recorded, simulated : list of numpy.ndarray
        The footprints that were compared.
    """
    recorded = selection.keep(recorded)
    simulated = simulate_recording(
        camera, selection, exposure_s=exposure_s, rng=rng, shape=shape, frames=frames, tilt_rad=tilt_rad
    )
    rows = morphology.compare(morphology.measure(recorded), morphology.measure(simulated))
    return [row | {"n_a": len(recorded), "n_b": len(simulated)} for row in rows], recorded, simulated
