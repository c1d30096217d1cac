"""Harm: stars that a detector takes for rays.

A ray hits a star by chance now and then, never the same star twice in a row: a star counts as harmed when its core is
flagged in at least two of three exposures.
"""

from dataclasses import dataclass

import numpy as np
import sep
from scipy import ndimage

from crcore.errors import InputError
from crcore.preprocess import sky_and_noise

__all__ = ["CORE_PX", "Stars", "count_harmed", "find_stars"]

#: a flagged pixel this near to a star's centre harms it
CORE_PX = 1.5


@dataclass(frozen=True)
class Stars:
    """Stars of a field.

    Attributes
    ----------
    x, y : numpy.ndarray of float, shape (n,)
        Centres, pixels counted from 0.
    snr : numpy.ndarray of float, shape (n,)
        Peak above the sky in units of the sky's noise in one exposure.
    fwhm_px : numpy.ndarray of float, shape (n,)
        Full width at half maximum of the best Gaussian by moments.
    """

    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    fwhm_px: np.ndarray

    def __len__(self):
        return len(self.x)


def find_stars(frames, *, threshold=8.0, margin_px=8):
    """Stars of the median of aligned exposures, which holds no rays.

    Parameters
    ----------
    frames : sequence of crcore.frame.Frame
        Three or more exposures of one field on the same pixels.
    threshold : float, optional
        Detection limit in units of the median's noise, for SEP.
    margin_px : int, optional
        Stars this near to the edge, or on bad pixels, do not count.

    Returns
    -------
    Stars

    Raises
    ------
    InputError
        For fewer than three exposures, or none with good pixels in common.
    """
    if len(frames) < 3:
        raise InputError(f"{len(frames)} exposures: three are needed, for a median without rays")
    bad = np.any([f.bad for f in frames], axis=0)
    if bad.all():
        raise InputError(f"{frames[0].name}: no pixel is good in all exposures: there are no stars to find")
    median = np.median([f.data for f in frames], axis=0).astype(np.float32)
    median[bad] = np.median(median[~bad])
    background = sep.Background(median, mask=bad, bw=64, bh=64, fw=3, fh=3)
    level = median - background.back(dtype=np.float32)
    noise = np.maximum(background.rms(dtype=np.float32), 1e-3)
    found = sep.extract(level, threshold, err=noise, mask=bad, minarea=4)
    x, y = found["x"], found["y"]
    height, width = median.shape
    inside = (x >= margin_px) & (x < width - margin_px) & (y >= margin_px) & (y < height - margin_px)
    near_bad = ndimage.binary_dilation(bad, np.ones((3, 3)), iterations=3)
    column = np.clip(np.round(x).astype(int), 0, width - 1)
    row = np.clip(np.round(y).astype(int), 0, height - 1)
    keep = inside & ~near_bad[row, column]
    first = frames[0]
    one = float(np.median(sky_and_noise(np.where(bad, np.median(first.data[~bad]), first.data), bad=bad)[1]))
    return Stars(
        x[keep],
        y[keep],
        found["peak"][keep] / one,
        2.3548 * np.sqrt(found["a"] * found["b"])[keep],
    )


def core_flagged(mask, stars, *, radius_px=CORE_PX):
    """Which stars have a flagged pixel within ``radius_px`` of their centre; bool, (n,).

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (H, W)
    stars : Stars
    radius_px : float, optional
    """
    height, width = mask.shape
    hit = np.zeros(len(stars), dtype=bool)
    row, column = np.round(stars.y).astype(int), np.round(stars.x).astype(int)
    reach = int(np.ceil(radius_px)) + 1
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = row + dy, column + dx
            near = (y - stars.y) ** 2 + (x - stars.x) ** 2 <= radius_px**2
            near &= (y >= 0) & (y < height) & (x >= 0) & (x < width)
            hit[near] |= mask[y[near], x[near]]
    return hit


def count_harmed(masks, stars, *, at_least=2):
    """Stars whose core is flagged in at least so many exposures; bool, (n,).

    Parameters
    ----------
    masks : sequence of numpy.ndarray of bool, shape (H, W)
        A detector's masks of the exposures.
    stars : Stars
    at_least : int, optional
    """
    return np.sum([core_flagged(mask, stars) for mask in masks], axis=0) >= at_least
