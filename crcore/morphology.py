"""Shapes of rays: cut them from an image, measure them, compare two lots of them."""

import warnings

import numpy as np
from astropy.table import Table
from scipy import ndimage

__all__ = ["COLUMNS", "compare", "footprints", "measure"]

#: what `measure` gives for each ray
COLUMNS = ("n_pixels", "length_px", "straightness", "charge_e", "charge_per_pixel_e", "peak_e")


def footprints(image, mask):
    """Cut the rays of a mask out of an image.

    Parameters
    ----------
    image : array_like, shape (H, W)
        Electrons.
    mask : array_like of bool, shape (H, W)
        True on rays; pixels that touch by a side or a corner are one ray.

    Returns
    -------
    list of numpy.ndarray
        2-D float32, just large enough for one ray each, zero outside of it; in the
        order of their first pixels.

    Examples
    --------
    >>> image = np.array([[5.0, 0, 0, 0], [0, 6, 0, 2]])
    >>> [f.tolist() for f in footprints(image, image > 0)]
    [[[5.0, 0.0], [0.0, 6.0]], [[2.0]]]
    """
    image = np.asarray(image)
    labels, _ = ndimage.label(np.asarray(mask, dtype=bool), structure=np.ones((3, 3)))
    return [
        np.where(labels[box] == number, image[box], 0).astype(np.float32)
        for number, box in enumerate(ndimage.find_objects(labels), start=1)
    ]


def measure(footprints):
    """Shape and charge of each ray.

    Parameters
    ----------
    footprints : list of array_like
        Small 2-D arrays in electrons, zero outside of the ray.

    Returns
    -------
    astropy.table.Table
        One row a ray:

        - ``n_pixels``: pixels that are not zero;
        - ``length_px``: extent of those pixels, each of side 1, along their principal
          axis; every pixel counts the same, so that it does not depend on the charge;
        - ``straightness``: 1 - sqrt(minor / major), from the moments of inertia of the
          pixels, with 1/12 for the width of a pixel: 0 for what is round, towards 1 for
          a straight track; a worm of the same length is in between;
        - ``charge_e``, ``charge_per_pixel_e``, ``peak_e``: sum, mean and maximum.

    Examples
    --------
    >>> table = measure([np.full((1, 9), 100.0)])
    >>> float(table["length_px"][0]), round(float(table["straightness"][0]), 3)
    (9.0, 0.889)
    """
    rows = [_measure(np.asarray(f)) for f in footprints]
    table = Table(rows=rows or None, names=COLUMNS, dtype=(int, float, float, float, float, float))
    for name in ("charge_e", "charge_per_pixel_e", "peak_e"):
        table[name].unit = "electron"
    for name in ("n_pixels", "length_px"):
        table[name].unit = "pix"
    return table


def _measure(footprint):
    y, x = np.nonzero(footprint)
    if len(y) == 0:
        return 0, 0.0, 0.0, 0.0, 0.0, 0.0
    charge = footprint[y, x].astype(float)
    places = np.stack([y - y.mean(), x - x.mean()], axis=1)
    moments, axes = np.linalg.eigh(places.T @ places / len(y) + np.eye(2) / 12)
    axis = axes[:, 1]
    length = np.ptp(places @ axis) + np.abs(axis).max()  # a pixel's extent: 1 along a side
    straightness = 1 - np.sqrt(moments[0] / moments[1])
    return len(y), length, straightness, charge.sum(), charge.mean(), charge.max()


def compare(a, b):
    """Compare two tables of `measure`, column by column.

    Parameters
    ----------
    a, b : astropy.table.Table
        From `measure`; at least two rows each.

    Returns
    -------
    list of dict
        For each column: ``column``, ``ks`` and ``ks_p`` (two-sample Kolmogorov-Smirnov
        statistic and p-value), ``anderson`` (k-sample Anderson-Darling statistic,
        normalised: about 2 at the 5 % level) and ``a_16``, ``a_median``, ``a_84``,
        ``b_16``, ``b_median``, ``b_84``.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> a, b = ([rng.random((2, 3)) + 1 for _ in range(20)] for _ in range(2))
    >>> rows = compare(measure(a), measure(b))
    >>> rows[0]["column"], float(rows[0]["ks"])
    ('n_pixels', 0.0)
    """
    from scipy import stats  # half a second, which no detection should wait for

    rows = []
    for column in COLUMNS:
        one, two = np.asarray(a[column], dtype=float), np.asarray(b[column], dtype=float)
        ks = stats.ks_2samp(one, two)
        row = {"column": column, "ks": float(ks.statistic), "ks_p": float(ks.pvalue), "anderson": _anderson(one, two)}
        for name, values in (("a", one), ("b", two)):
            row |= dict(zip((f"{name}_16", f"{name}_median", f"{name}_84"), _percentiles(values), strict=True))
        rows.append(row)
    return rows


def _percentiles(values):
    return [float(v) for v in np.percentile(values, (16, 50, 84))]


def _anderson(one, two):
    """Anderson-Darling statistic of two samples; 0 when all their values are the same."""
    if len(np.unique(np.concatenate([one, two]))) < 2:
        return 0.0
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the p-value, which is not used, is capped
        return float(stats.anderson_ksamp([one, two]).statistic)
