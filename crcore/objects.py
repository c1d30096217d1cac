"""Whole rays: which were found, and which detections are rays, besides pixel by pixel."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table, vstack
from scipy import ndimage

from crcore.morphology import footprints, measure

__all__ = ["ObjectScores"]

_NEIGHBOURS = np.ones((3, 3))


@dataclass
class ObjectScores:
    """Completeness and purity of whole rays; add frames, then ask.

    A true ray is a group of labelled pixels that touch by a side or a corner, and is found where a pixel of it is
    flagged; a detection is such a group of flagged pixels, and right where a pixel of it is labelled. With a halo, a
    pixel so far away does too. Groups that lie wholly on pixels that do not count are left out.

    Parameters
    ----------
    halo_px : int, optional
        Pixels by which either may miss.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((9, 9), dtype=bool)
    >>> truth[2, 2:5], truth[7, 7] = True, True
    >>> found = np.zeros_like(truth)
    >>> found[2, 3], found[5, 0] = True, True
    >>> scores = ObjectScores()
    >>> scores.add(found, truth)
    >>> scores.completeness, scores.purity
    (0.5, 0.5)
    """

    halo_px: int = 0

    def __post_init__(self):
        self._rays, self._measured, self._detections, self._right = [], [], 0, 0

    def add(self, mask, truth, use=None, *, charge=None, source=None):
        """Count the rays of one frame.

        Parameters
        ----------
        mask, truth : numpy.ndarray of bool, shape (H, W)
            What was flagged, and what is a ray.
        use : numpy.ndarray of bool, optional
            Pixels that count; all by default.
        charge : numpy.ndarray, optional
            Electrons above the surroundings, for `rays` and `detections`; unknown by default.
        source : numpy.ndarray of bool, optional
            True on sources, for the distance of each ray from the nearest.
        """
        use = np.ones(truth.shape, dtype=bool) if use is None else use
        mask, truth = mask & use, truth & use
        near_mask, near_truth = (self._grown(m) for m in (mask, truth))
        labels, n = ndimage.label(truth, _NEIGHBOURS)
        numbers = np.arange(1, n + 1)
        far = np.full(truth.shape, np.inf)
        if source is not None and source.any():
            far = ndimage.distance_transform_edt(~source)
        table = _measure(labels, n, charge, far)
        table["found"] = np.asarray(ndimage.maximum(near_mask, labels, numbers) if n else [], dtype=bool)
        table["share_found"] = np.asarray(ndimage.mean(mask, labels, numbers) if n else [], dtype=float)
        self._rays.append(table)
        groups, detections = ndimage.label(mask, _NEIGHBOURS)
        self._detections += detections
        right = np.asarray(
            ndimage.maximum(near_truth, groups, np.arange(1, detections + 1)) if detections else [], dtype=bool
        )
        self._right += int(right.sum())
        if charge is not None:
            table = _measure(groups, detections, charge, far)
            table["right"] = right
            self._measured.append(table)

    def _grown(self, mask):
        return ndimage.binary_dilation(mask, _NEIGHBOURS, iterations=self.halo_px) if self.halo_px else mask

    @property
    def rays(self):
        """Table with a row a ray.

        ``n_pixels``, ``length_px``, ``straightness``, ``charge_e``, ``found``, ``share_found``, ``distance_px``.
        """
        return vstack(self._rays) if self._rays else Table()

    @property
    def detections(self):
        """Table with a row a detection, of frames that were added with their charge.

        ``n_pixels``, ``length_px``, ``straightness``, ``charge_e``, ``distance_px``, ``right``.
        """
        return vstack(self._measured) if self._measured else Table()

    def counts(self):
        """True rays, those found, detections, those that are rays; int64, (4,)."""
        found = [np.asarray(table["found"]) for table in self._rays] or [np.zeros(0)]
        return np.array([sum(map(len, found)), sum(map(np.sum, found)), self._detections, self._right], dtype=np.int64)

    @property
    def completeness(self):
        """Share of the true rays that were found; NaN without one."""
        found = np.concatenate([np.asarray(table["found"]) for table in self._rays] or [np.zeros(0)])
        return float(found.mean()) if len(found) else float("nan")

    @property
    def purity(self):
        """Share of the detections that are rays; NaN without one."""
        return self._right / self._detections if self._detections else float("nan")


def _measure(labels, n, charge, far):
    """Shapes of groups of pixels, their charge, and how far they are from where ``far`` is 0."""
    mask = labels > 0
    shapes = measure(footprints(np.ones(labels.shape) if charge is None else np.maximum(charge, 1e-6), mask))
    table = shapes["n_pixels", "length_px", "straightness"]
    table["charge_e"] = np.full(n, np.nan) if charge is None else np.asarray(shapes["charge_e"])
    table["distance_px"] = np.asarray(ndimage.minimum(far, labels, np.arange(1, n + 1)) if n else [], dtype=float)
    return table
