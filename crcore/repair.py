"""Replace flagged pixels by what their neighbours say, and admit in the variance how little that is."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from crcore.errors import InputError

__all__ = ["METHODS", "Repaired", "repair"]

METHODS = ("median", "biharmonic")

#: half sides of the windows in which good neighbours are looked for, one after the other: 5 x 5 to 13 x 13
_REACHES = (2, 3, 4, 5, 6)
#: good pixels that a window must have
_LEAST = 5
#: groups with more pixels keep their medians: a smooth surface says nothing so far from what is known
_LARGEST = 400
#: pixels around a group that the biharmonic solution sees; its equation reaches 2 far
_PAD = 4
#: values gathered at a time
_CHUNK = 2_000_000
#: the standard deviation of normal noise, in median absolute deviations
_SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True)
class Repaired:
    """A repaired image.

    Attributes
    ----------
    data : numpy.ndarray, shape (H, W), float32
        Electrons; pixels that were not flagged are bit for bit as they were (as float32).
    variance : numpy.ndarray, shape (H, W), float32
        Electrons squared, inflated where a pixel has been replaced.
    replaced : numpy.ndarray of bool, shape (H, W)
        True where a pixel has been replaced.
    """

    data: np.ndarray
    variance: np.ndarray
    replaced: np.ndarray


def repair(data, mask, *, bad=None, variance=None, read_noise=None, method="biharmonic"):
    """Replace flagged pixels.

    A replaced pixel holds no measurement: it is a guess from its neighbours, and a fit or an aperture that gave it the
    weight of a measured one would claim light that nobody has counted. Its variance is therefore that of an ordinary
    pixel of the new value plus the scatter of the neighbours it was made from. On flat sky these differ by their noise
    alone and the variance doubles; on the slope of a star they differ because the star does, as the guess may differ
    from what was there, and the variance grows by the square of that. Errors of replaced pixels that lie together
    are alike, which no variance per pixel can say: a sum over many of them is worse than its variances add up to.

    Parameters
    ----------
    data : array_like, shape (H, W)
        Electrons, the sky still in.
    mask : array_like of bool, shape (H, W)
        True for pixels to be replaced.
    bad : array_like of bool, shape (H, W), optional
        True for pixels whose values are never used; they are replaced only where ``mask`` is True too. What is not
        finite is bad.
    variance : array_like, shape (H, W), optional
        Electrons squared; by default the data, where positive, plus ``read_noise`` squared. What it says of a flagged
        pixel was measured on the ray: the ordinary pixel's is the median of its good neighbours'.
    read_noise : float, optional
        RMS in electrons; none counts as 0. Not used with ``variance``.
    method : {"median", "biharmonic"}, optional
        ``"median"``: of the good pixels in the smallest window, 5 x 5 to 13 x 13, that has five of them; where none
        has, of all good pixels of the frame. ``"biharmonic"``: the smooth surface through the surroundings of
        each group of pixels that touch by a side or a corner [1]_; medians where a group has more than 400 pixels,
        or fewer than five good ones around it. It continues a slope, but not over the frame's edges, and never beyond
        the values around the group, to which it is clipped.

    Returns
    -------
    Repaired

    Raises
    ------
    InputError
        For what is no image, arrays of other shapes, an unknown method, a read noise that cannot be, or an image
        without a good pixel to replace the flagged ones with.

    References
    ----------
    .. [1] Damelin & Hoang 2018, doi:10.1155/2018/3950312, as in `skimage.restoration.inpaint_biharmonic`.

    Examples
    --------
    >>> image = np.full((5, 5), 100.0)
    >>> image[2, 2] = 4000
    >>> repaired = repair(image, image > 1000)
    >>> float(repaired.data[2, 2]), float(repaired.variance[2, 2])
    (100.0, 100.0)
    """
    if method not in METHODS:
        raise InputError(f"repair: method {method!r} is unknown: use one of {', '.join(METHODS)}")
    if read_noise is not None and not (np.isfinite(read_noise) and read_noise >= 0):
        raise InputError(f"repair: read noise {read_noise} cannot be: give electrons, 0 or more")
    image = _image(data)
    mask = _like(mask, image, "mask", dtype=bool)
    bad = np.zeros_like(mask) if bad is None else _like(bad, image, "bad-pixel mask", dtype=bool)
    noise = None if variance is None else _like(variance, image, "variance", dtype=np.float32)
    if not mask.any():
        return Repaired(image, _ordinary_variance(image, read_noise) if noise is None else noise, mask)
    good = np.isfinite(image) & ~mask & ~bad
    if not good.any():
        raise InputError("repair: no good pixel is left to replace the flagged ones with: flag fewer of them")
    image[mask], scatter = _medians(image, good, *np.nonzero(mask))
    if method == "biharmonic":
        _smooth(image, mask, good)
    if noise is None:
        noise = _ordinary_variance(image, read_noise)
    else:
        noise[mask] = _typical(noise, mask, good)
    noise[mask] += scatter
    return Repaired(image, noise, mask)


def _image(data):
    """A copy as native float32; what does not fit becomes infinite, and so is not good."""
    data = np.asarray(data)
    if data.ndim != 2 or data.size == 0 or data.dtype.kind not in "uifb":
        raise InputError(
            f"repair: found an array of shape {data.shape} and type {data.dtype}: "
            "give one two-dimensional image of numbers"
        )
    return _copy(data, np.float32)


def _like(array, image, name, *, dtype):
    """A copy, if it has the image's shape."""
    array = np.asarray(array)
    if array.shape != image.shape:
        raise InputError(f"repair: the {name} has shape {array.shape}, the image {image.shape}: give one of its shape")
    return _copy(array, dtype)


def _copy(array, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(array, dtype=dtype, order="C")


def _ordinary_variance(image, read_noise):
    """Of pixels that were measured at these values; photon noise counts as none where there is no value."""
    return np.maximum(np.nan_to_num(image, nan=0.0), 0) + np.float32((read_noise or 0.0) ** 2)


def _typical(noise, mask, good):
    """Variance (n,) that was given for the good neighbours of each flagged pixel."""
    good = good & np.isfinite(noise)
    if not good.any():
        raise InputError("repair: the variance has no finite value on a good pixel: give one, or leave it out")
    return _medians(noise, good, *np.nonzero(mask))[0]


def _medians(image, good, rows, columns):
    """Median, and robust variance, of the good neighbours of some pixels; (n,) each."""
    values = np.full(len(rows), np.nan, dtype=np.float32)
    scatter = np.full(len(rows), np.nan, dtype=np.float32)
    todo = np.arange(len(rows))
    for reach in _REACHES:
        missing = []
        step = _CHUNK // (2 * reach + 1) ** 2
        for start in range(0, len(todo), step):
            part = todo[start : start + step]
            window = _windows(image, good, rows[part], columns[part], reach)
            enough = np.isfinite(window).sum(axis=1) >= _LEAST
            values[part[enough]], scatter[part[enough]] = _middle(window[enough])
            missing.append(part[~enough])
        todo = np.concatenate(missing) if missing else todo
    if len(todo):  # hardly anything good near by: the sky
        (values[todo],), (scatter[todo],) = _middle(image[good][None])
    return values, scatter


def _middle(window):
    """Median and squared robust scatter (n,) of the values (n, k) that are not NaN, of which each row has some."""
    if len(window) == 0:  # for which nanmedian warns
        return np.empty(0), np.empty(0)
    middle = np.nanmedian(window, axis=1)
    deviation = np.nanmedian(np.abs(window - middle[:, None]), axis=1)
    return middle, (_SIGMA_PER_MAD * deviation) ** 2


def _windows(image, good, rows, columns, reach):
    """Values (n, (2 reach + 1)²) around some pixels; NaN where they are not good, or outside."""
    steps = np.arange(-reach, reach + 1)
    y, x = rows[:, None, None] + steps[:, None], columns[:, None, None] + steps
    inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
    y, x = np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)
    return np.where(inside & good[y, x], image[y, x], np.float32(np.nan)).reshape(len(rows), -1)


def _smooth(image, mask, good):
    """Write the smooth surface into each group of the mask; what is too large, or too lonely, keeps its medians."""
    groups, _ = ndimage.label(mask, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(groups), start=1):
        wide = tuple(slice(max(side.start - _PAD, 0), side.stop + _PAD) for side in box)
        group = groups[wide] == number
        if group.sum() <= _LARGEST:
            # The box of a slanted ray is mostly far from it: what is unknown there need not be solved for.
            near = ndimage.binary_dilation(group, np.ones((3, 3)), iterations=_PAD)
            if (good[wide] & near).sum() >= _LEAST:
                image[wide][group] = _surface(image[wide], good[wide], near)[group]


def _surface(image, good, near):
    """The image with the smooth solution at the pixels of ``near`` that are not good; float64."""
    known = image[good & near].astype(np.float64)
    low, span = known.min(), np.ptp(known) or 1.0  # scaled, since the solver takes floats as they are: 0 to 1 is safe
    cut = (np.where(good, image, np.median(known)) - low) / span
    from skimage.restoration import inpaint_biharmonic  # SciPy's optimizers come with it: half a second

    return inpaint_biharmonic(np.clip(cut, 0, 1), near & ~good) * span + low
