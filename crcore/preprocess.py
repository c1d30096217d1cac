"""What a network sees of a frame: the paper's sky-subtracted counts, or units of the noise."""

import numpy as np
import sep
from scipy import ndimage

from crcore.errors import InputError

__all__ = ["CENSUS_EDGES_PX", "PREPARATIONS", "fill_holes", "peak_census", "prepare", "sky_and_noise"]

PREPARATIONS = ("counts", "noise", "raw", "standard")

#: bins of `peak_census`, full widths at half maximum
CENSUS_EDGES_PX = (0.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0, 5.0, 7.0, 12.0)


def sky_and_noise(data, *, bad=None, mesh_px=64):
    """Background and its RMS on a mesh (SEP), each (H, W) float32, in the units of the data.

    Parameters
    ----------
    data : numpy.ndarray, shape (H, W)
        The image.
    bad : numpy.ndarray of bool, optional
        Pixels to leave out.
    mesh_px : int, optional
        Side of a mesh cell, made smaller for small images and along short sides.

    Notes
    -----
    SEP leads a bicubic spline through the cells' middles. Past a steep edge, such as the end of a slit, that of the
    noise falls below what any cell has, even below zero; it is held at the least of the nine cells around.
    """
    image = np.ascontiguousarray(data, dtype=np.float32)
    rows, columns = (mesh_px if n >= 2 * mesh_px else max(n // 2, min(n, 8)) for n in image.shape)
    background = sep.Background(image, mask=bad, bw=columns, bh=rows, fw=3, fh=3)
    noise = background.rms(dtype=np.float32)
    height, width = image.shape
    least = ndimage.minimum_filter(noise[rows // 2 :: rows, columns // 2 :: columns], 3, mode="nearest")
    np.maximum(least, max(1e-3 * background.globalrms, 1e-3), out=least)
    cell = np.minimum(np.arange(width) // columns, least.shape[1] - 1)  # a rest of a cell goes with its neighbour
    for top in range(0, height, rows):
        band = noise[top : top + rows]
        np.maximum(band, least[min(top // rows, len(least) - 1), cell], out=band)
    return background.back(dtype=np.float32), noise


def fill_holes(image, good, *, reach_px=2, chunk=100_000):
    """Give pixels that say nothing the mean of their good neighbours, or zero where there are none.

    A hole at the sky's level in a star would make its rim look as sharp as a ray.

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W), float32
        Changed in place.
    good : numpy.ndarray of bool, shape (H, W)
        True for pixels that stay.
    reach_px : int, optional
        Neighbours are at most this far away along rows and columns.
    chunk : int, optional
        Holes that are filled at once, which bounds memory.
    """
    rows, columns = np.nonzero(~good)
    height, width = image.shape
    steps = np.arange(-reach_px, reach_px + 1)
    means = np.zeros(len(rows), dtype=np.float32)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        y = rows[part, None, None] + steps[:, None]  # (n, 2r + 1, 1)
        x = columns[part, None, None] + steps
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        use = inside & good[y, x]
        total = np.where(use, image[y, x], 0).sum(axis=(1, 2))
        means[part] = total / np.maximum(use.sum(axis=(1, 2)), 1)
    image[rows, columns] = means


def prepare(data, how, *, bad=None):
    """Turn electrons into a network's input.

    Parameters
    ----------
    data : numpy.ndarray, shape (H, W)
        Electrons, sky included; finite where ``bad`` is False.
    how : {"counts", "noise", "raw", "standard"}
        ``"counts"`` subtracts the median, as the paper does. ``"noise"`` is
        arcsinh((image - sky) / sigma): every camera's sky looks alike and a bright
        star is no longer 10,000 times a ray. ``"raw"`` is the electrons, as deepCR takes them,
        and ``"standard"`` those less their mean, over their standard deviation, as its WFC3 model does.
    bad : numpy.ndarray of bool, optional
        Pixels that say nothing; they are given the mean of their neighbours, or the sky's value.

    Returns
    -------
    numpy.ndarray
        float32, (H, W).
    """
    if how not in PREPARATIONS:
        raise InputError(f"input preparation {how!r} is unknown: use one of {', '.join(PREPARATIONS)}")
    image = np.asarray(data, dtype=np.float32)
    good = np.isfinite(image) if bad is None else np.isfinite(image) & ~bad
    if not good.any():
        return np.zeros(image.shape, dtype=np.float32)
    whole = bool(good.all())
    if how == "noise":
        known = image if whole else np.where(good, image, 0)
        prepared, noise = sky_and_noise(known, bad=None if whole else ~good)
        np.subtract(known, prepared, out=prepared)
        prepared /= noise
        _arcsinh(prepared)
    else:
        level = np.median(image if whole else image[good])
        prepared = np.where(good, image, level).astype(np.float32) - level
    if not whole:
        fill_holes(prepared, good)
    if how == "raw":
        prepared += level
    if how == "standard":
        prepared = (prepared - prepared.mean()) / max(float(prepared.std()), 1e-6)
    return prepared


def _arcsinh(image, *, rows=32):
    """Take the arcsinh of an image (H, W) in its place, as exact as NumPy's own to 2e-7.

    By root and logarithm, some rows at a time, which stay in the cache. NumPy's own takes one number after the other
    where the processor has no AVX-512, and five times as long.
    """
    for top in range(0, len(image), rows):
        band = image[top : top + rows]
        size = np.minimum(np.abs(band), 1e18)  # its square is finite
        root = np.square(size)
        root += 1
        np.sqrt(root, out=root)
        size += root
        np.log(size, out=size)
        np.copysign(size, band, out=band)


def peak_census(prepared, *, floor=20.0, roundness=0.15):
    """How wide the round peaks of a frame are: what tells a ray of one pixel from the stars of a sharp image.

    Stars share one width, rays are sharper than any of them. Through a peak and its two neighbours goes one Gaussian,
    whatever its centre; a peak is round where those along rows, columns and both diagonals agree. Single pixels
    count among the sharpest.

    Parameters
    ----------
    prepared : numpy.ndarray, shape (H, W)
        ``prepare(data, "noise")``.
    floor : float, optional
        Peaks lower than this, in units of the noise, are left out.
    roundness : float, optional
        Largest standard deviation of the logarithm of the four widths.

    Returns
    -------
    numpy.ndarray
        float32, (10,): number of round peaks in each bin of `CENSUS_EDGES_PX` over their sum plus three, so that a
        frame with few peaks says little, and one with none zeros.
    """
    y, x = np.nonzero(prepared[1:-1, 1:-1] > np.arcsinh(floor))
    y, x = y + 1, x + 1
    middle = prepared[y, x]
    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    top = np.ones(len(y), dtype=bool)
    for dy, dx in steps:
        top &= (middle >= prepared[y + dy, x + dx]) & (middle >= prepared[y - dy, x - dx])
    y, x, middle = y[top], x[top], np.sinh(middle[top])
    widths = []
    for dy, dx in steps:
        beside = [np.maximum(np.sinh(prepared[y + s * dy, x + s * dx]), 0.5) for s in (1, -1)]
        curvature = np.log(middle**2 / (beside[0] * beside[1])) / (dy * dy + dx * dx)  # 1 / sigma^2
        widths.append(-0.5 * np.log(np.maximum(curvature, 1e-3)))
    widths = np.array(widths) + np.log(np.sqrt(8 * np.log(2)))
    sharp = widths.max(axis=0, initial=-np.inf) < np.log(CENSUS_EDGES_PX[1])  # noise decides how round they are
    counts, _ = np.histogram(np.exp(widths.mean(axis=0)[sharp | (widths.std(axis=0) < roundness)]), CENSUS_EDGES_PX)
    return (counts / (counts.sum() + 3)).astype(np.float32)
