"""What a network sees of a frame: the paper's sky-subtracted counts, or units of the noise."""

import numpy as np
import sep

from crcore.errors import InputError

__all__ = ["PREPARATIONS", "fill_holes", "prepare", "sky_and_noise"]

PREPARATIONS = ("counts", "noise", "raw", "standard")


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
    """
    image = np.ascontiguousarray(data, dtype=np.float32)
    rows, columns = (mesh_px if n >= 2 * mesh_px else max(n // 2, min(n, 8)) for n in image.shape)
    background = sep.Background(image, mask=bad, bw=columns, bh=rows, fw=3, fh=3)
    noise = background.rms(dtype=np.float32)
    np.maximum(noise, max(1e-3 * background.globalrms, 1e-3), out=noise)
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
        np.arcsinh(prepared, out=prepared)
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
