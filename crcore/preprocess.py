"""What a network sees of a frame: the paper's sky-subtracted counts, or units of the noise."""

import numpy as np
import sep

from crcore.errors import InputError

__all__ = ["PREPARATIONS", "prepare", "sky_and_noise"]

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
        Side of a mesh cell, made smaller for small images.
    """
    image = np.ascontiguousarray(data, dtype=np.float32)
    mesh = int(np.clip(min(image.shape) // 2, 1, mesh_px))
    background = sep.Background(image, mask=bad, bw=mesh, bh=mesh, fw=3, fh=3)
    noise = np.maximum(background.rms(), max(1e-3 * background.globalrms, 1e-3)).astype(np.float32)
    return background.back().astype(np.float32), noise


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
        Pixels that say nothing; they are given the sky's value.

    Returns
    -------
    numpy.ndarray
        float32, (H, W).
    """
    image = np.asarray(data, dtype=np.float32)
    good = np.isfinite(image) if bad is None else np.isfinite(image) & ~bad
    if not good.any():
        return np.zeros(image.shape, dtype=np.float32)
    if how == "counts":
        return np.where(good, image - np.median(image[good]), 0).astype(np.float32)
    if how in ("raw", "standard"):
        filled = np.where(good, image, np.median(image[good])).astype(np.float32)
        if how == "raw":
            return filled
        return ((filled - filled.mean()) / max(float(filled.std()), 1e-6)).astype(np.float32)
    if how == "noise":
        filled = np.where(good, image, np.median(image[good])).astype(np.float32)
        sky, noise = sky_and_noise(filled, bad=~good)
        return np.where(good, np.arcsinh((filled - sky) / noise), 0).astype(np.float32)
    raise InputError(f"input preparation {how!r} is unknown: use one of {', '.join(PREPARATIONS)}")
