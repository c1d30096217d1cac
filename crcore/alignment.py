"""Put the exposures of a sequence on the first one's pixels without touching a ray.

Only whole pixels move (nearest neighbour), so that rays keep their values
(appendix A). Exposures that already agree to half a pixel are left as they are.
"""

from dataclasses import dataclass

import astroalign
import numpy as np
from astropy.wcs import WCS
from reproject import reproject_interp
from scipy import ndimage

from crcore.errors import InputError

__all__ = ["Alignment", "align", "wcs_offset_px"]


@dataclass(frozen=True)
class Alignment:
    """Exposures on the pixels of the first.

    Attributes
    ----------
    stack : numpy.ndarray, shape (n, H, W), float32
        The aligned exposures; pixels without data hold the exposure's median.
    valid : numpy.ndarray of bool, shape (H, W)
        True where every exposure has data that may be used.
    methods : tuple of str
        How each exposure was aligned: "none", "wcs" or "stars".
    movers : tuple of callable
        ``movers[i](array)`` puts an array on exposure i's pixels (H, W) where
        ``stack[i]`` is; NaN where there is nothing.
    """

    stack: np.ndarray
    valid: np.ndarray
    methods: tuple
    movers: tuple


def align(frames):
    """Align frames with the first.

    By WCS (`reproject`, nearest neighbour) where all headers have a good one, else
    by matching stars (`astroalign`); not at all where the offset is under half a
    pixel everywhere.

    Parameters
    ----------
    frames : sequence of crcore.frame.Frame
        Exposures of one field and of one shape.

    Returns
    -------
    Alignment

    Raises
    ------
    InputError
        When shapes differ, a frame has no good pixel, or there is neither a WCS nor
        stars to match.
    """
    first = frames[0]
    stack = np.empty((len(frames), *first.shape), dtype=np.float32)
    valid = np.ones(first.shape, dtype=bool)
    methods, movers = [], []
    for i, frame in enumerate(frames):
        if frame.shape != first.shape:
            raise InputError(
                f"{frame.name}: has {frame.shape} pixels, {first.name} has {first.shape}: "
                "a sequence needs frames of one shape"
            )
        if frame.bad.all():
            raise InputError(f"{frame.name}: every pixel is bad or not a number: leave the frame out")
        method, move = _mover(first, frame) if i else ("none", _stay)
        data = move(frame.data)
        good = np.isfinite(data) & (move(frame.bad.astype(np.float32)) == 0)
        stack[i] = np.where(good, data, np.median(frame.data[~frame.bad]))
        valid &= good
        methods.append(method)
        movers.append(move)
    return Alignment(stack, valid, tuple(methods), tuple(movers))


def wcs_offset_px(first, other):
    """Largest distance (pixels) between where two headers put the same sky, at the corners.

    None where one of them has no celestial WCS, or says itself that it is bad
    (``WCSERR`` other than 0).
    """
    if any(frame.header.get("WCSERR", 0) != 0 for frame in (first, other)):
        return None
    wcs = [WCS(frame.header, fix=False) for frame in (first, other)]
    if not all(w.has_celestial for w in wcs):
        return None
    h, w = first.shape
    x, y = np.array([0, w - 1, 0, w - 1, w / 2]), np.array([0, 0, h - 1, h - 1, h / 2])
    there = wcs[1].celestial.world_to_pixel(wcs[0].celestial.pixel_to_world(x, y))
    return float(np.hypot(there[0] - x, there[1] - y).max())


def _stay(array):
    return np.asarray(array, dtype=np.float32)


def _mover(first, frame):
    """How ``frame`` gets onto the pixels of ``first``, and the function that does it."""
    offset = wcs_offset_px(first, frame)
    if offset is not None:
        if offset < 0.5:
            return "none", _stay
        target = WCS(first.header, fix=False).celestial
        source = WCS(frame.header, fix=False).celestial

        def by_wcs(array):
            values = np.asarray(array, dtype=np.float32)
            moved, _ = reproject_interp((values, source), target, first.shape, order="nearest-neighbor")
            return moved.astype(np.float32)

        return "wcs", by_wcs
    try:
        transform, _ = astroalign.find_transform(frame.data, first.data, max_control_points=50, detection_sigma=5)
    except (astroalign.MaxIterError, TypeError, ValueError) as error:
        raise InputError(f"{frame.name}: has no usable WCS and its stars do not match {first.name} ({error})") from None
    h, w = first.shape
    corners = np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]], dtype=float)
    if np.hypot(*(transform(corners) - corners).T).max() < 0.5:
        return "none", _stay
    back = transform.inverse.params  # pixels of first -> pixels of frame, (x, y)
    rows, columns = np.mgrid[0:h, 0:w]
    places = [
        back[1, 0] * columns + back[1, 1] * rows + back[1, 2],
        back[0, 0] * columns + back[0, 1] * rows + back[0, 2],
    ]

    def by_stars(array):
        return ndimage.map_coordinates(np.asarray(array, dtype=np.float32), places, order=0, cval=np.nan)

    return "stars", by_stars
