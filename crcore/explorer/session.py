"""The explorer's state: a mask that is tuned by a threshold and edited by hand, and its numbers."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from astropy.wcs import WCS, WcsError
from scipy import ndimage, sparse
from skimage.draw import line

from crcore.errors import InputError
from crcore.metrics import PixelScores

__all__ = ["LEAST_PROBABILITY", "Edit", "Session", "from_slider", "to_slider"]

#: probabilities below this are never flagged
LEAST_PROBABILITY = 1e-4


def from_slider(position):
    """Probability of a slider from -4 to 1: powers of ten up to 0.1, even steps from there.

    >>> [round(from_slider(s), 4) for s in (-4, -2, -1, 0, 1)]
    [0.0001, 0.01, 0.1, 0.55, 1.0]
    """
    return float(10.0**position if position < -1 else 0.1 + 0.45 * (position + 1))


def to_slider(probability):
    """Where the slider stands for a probability; the inverse of `from_slider`."""
    p = min(max(float(probability), LEAST_PROBABILITY), 1.0)
    return float(np.log10(p) if p < 0.1 else (p - 0.1) / 0.45 - 1)


@dataclass(frozen=True)
class Edit:
    """One change by hand, as it is recorded.

    Attributes
    ----------
    kind : {"paint", "erase", "add ray", "remove ray"}
    x, y : int
        Where it began, pixels from 0.
    pixels : numpy.ndarray of int
        Flat indices of the pixels that were set (paint, add) or cleared (erase, remove).
    """

    kind: str
    x: int
    y: int
    pixels: np.ndarray = field(repr=False)

    @property
    def sets(self):
        """True where the edit flags pixels, False where it clears them."""
        return self.kind in ("paint", "add ray")


class Session:
    """A frame, what a detector says of it, and the mask that a person makes of that.

    Parameters
    ----------
    detection : crcore.detection.Detection
        With its frame.
    truth : numpy.ndarray of bool, optional
        Known rays, (H, W): precision and recall are then given.
    second : crcore.detection.Detection, optional
        Of another detector, to compare with; at its own threshold.

    Attributes
    ----------
    threshold : float
        Pixels with a higher probability are flagged.
    dilate, min_pixels : int
        Pixels by which the mask is grown; flagged groups smaller than that are dropped before.
    """

    def __init__(self, detection, *, truth=None, second=None):
        if detection.frame is None:
            raise InputError(f"{detection.model}: the detection does not know its frame: make it with frame=")
        if truth is not None and np.shape(truth) != detection.prob.shape:
            raise InputError(f"truth of {np.shape(truth)} pixels, the frame has {detection.prob.shape}")
        self.detection, self.frame, self.truth, self.second = detection, detection.frame, truth, second
        self.shape = detection.prob.shape
        self.threshold, self.dilate, self.min_pixels = detection.threshold, 0, 1
        prob = np.where(detection.not_evaluated, 0, detection.prob).ravel()
        chosen = np.flatnonzero(prob > LEAST_PROBABILITY)
        order = chosen[np.argsort(prob[chosen])[::-1]]
        self._pixels, self._probs = order, prob[order]  # by falling probability: a threshold is a cut
        self._undone, self.edits = [], []
        self._mask = np.zeros(prob.size, dtype=bool)
        self._number = np.full(prob.size, -1, dtype=np.int32)
        self._stale, self._groups = True, None

    def with_second(self, second):
        """The same session beside another detector, or beside none."""
        self.second = second
        self.__dict__.pop("second_mask", None)
        return self

    def replay(self, edits):
        """Make edits again, in order, as they were recorded."""
        self.edits += edits
        self._stale = True

    def take_over(self, other):
        """Go on with the edits, dilation and smallest group of a session with another detector on the same frame."""
        self.edits, self._undone = list(other.edits), list(other._undone)
        self.dilate, self.min_pixels, self._stale = other.dilate, other.min_pixels, True

    @cached_property
    def second_mask(self):
        """Mask of the detector that is compared with; bool, (H, W)."""
        return self.second.mask

    # --- state to mask ---

    def set(self, *, threshold=None, dilate=None, min_pixels=None):
        """Change one or more of the numbers that make the mask.

        Raises
        ------
        InputError
            For a threshold that is no probability, or a negative number of pixels.
        """
        threshold = self.threshold if threshold is None else float(threshold)
        dilate = self.dilate if dilate is None else int(dilate)
        min_pixels = self.min_pixels if min_pixels is None else int(min_pixels)
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold {threshold}: a probability between 0 and 1 is needed")
        if dilate < 0 or min_pixels < 1:
            raise InputError(f"dilation {dilate}, smallest group {min_pixels}: at least 0 and 1 are needed")
        if (threshold, dilate, min_pixels) != (self.threshold, self.dilate, self.min_pixels):
            self.threshold, self.dilate, self.min_pixels, self._stale = threshold, dilate, min_pixels, True

    @property
    def mask(self):
        """The mask as it stands, edits included; bool, (H, W). Do not write to it."""
        if self._stale:
            self._make()
        return self._mask.reshape(self.shape)

    def _make(self):
        flagged = self._pixels[: np.searchsorted(-self._probs, -np.float32(self.threshold))]  # as Detection.mask
        if self.min_pixels > 1:
            groups = self._connected(flagged)
            flagged = flagged[np.bincount(groups, minlength=1)[groups] >= self.min_pixels] if len(flagged) else flagged
        self._mask.fill(False)
        self._mask[flagged] = True
        if self.dilate:
            silent, (height, width) = self.detection.not_evaluated.ravel(), self.shape
            y, x = np.divmod(flagged, width)
            for dy in range(-self.dilate, self.dilate + 1):
                for dx in range(-self.dilate, self.dilate + 1):
                    inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
                    grown = flagged[inside] + dy * width + dx
                    self._mask[grown[~silent[grown]]] = True
        for edit in self.edits:
            self._mask[edit.pixels] = edit.sets
        self._stale, self._groups = False, None

    def _connected(self, pixels):
        """Number of the 8-connected group of each pixel."""
        if not len(pixels):
            return np.zeros(0, dtype=np.int32)
        self._number[pixels] = np.arange(len(pixels), dtype=np.int32)
        width = self.shape[1]
        column = pixels % width
        pairs = []
        for step, inside in (
            (1, column < width - 1),
            (width - 1, column > 0),
            (width, None),
            (width + 1, column < width - 1),
        ):
            here = np.arange(len(pixels)) if inside is None else np.flatnonzero(inside)
            there = pixels[here] + step
            ok = there < self._number.size
            here, there = here[ok], self._number[there[ok]]
            pairs.append((here[there >= 0], there[there >= 0]))
        self._number[pixels] = -1
        rows, columns = (np.concatenate([p[k] for p in pairs]) for k in (0, 1))
        graph = sparse.coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(pixels),) * 2)
        return sparse.csgraph.connected_components(graph, directed=False)[1]

    def _by_group(self):
        """Flagged pixels and their groups, kept until the mask changes."""
        mask = self.mask
        if self._groups is None:
            pixels = np.flatnonzero(mask)
            self._groups = pixels, self._connected(pixels)
        return self._groups

    # --- mask to numbers ---

    def counts(self):
        """Numbers of the mask as it stands.

        Returns
        -------
        dict
            ``rays``, ``pixels``, ``fraction``; with known truth also ``precision`` and ``recall``.
        """
        pixels, groups = self._by_group()
        found = {"rays": int(groups.max()) + 1 if len(groups) else 0, "pixels": len(pixels)}
        found["fraction"] = len(pixels) / self._mask.size
        if self.truth is not None:
            right = int(self.truth.ravel()[pixels].sum())
            known = int(self._known.sum())
            found["precision"] = right / len(pixels) if len(pixels) else float("nan")
            found["recall"] = right / known if known else float("nan")
        return found

    @cached_property
    def _known(self):
        return self.truth & ~self.detection.not_evaluated

    @cached_property
    def scores(self):
        """Scores at every threshold, without dilation and edits, or None without truth."""
        if self.truth is None:
            return None
        scores = PixelScores()
        scores.add(self.detection.prob, self.truth, ~self.detection.not_evaluated)
        return scores

    def histogram(self, bins=60):
        """How many pixels have which probability, in even steps of the slider.

        Returns
        -------
        edges : numpy.ndarray, shape (bins + 1,)
            Positions of the slider.
        counts : numpy.ndarray, shape (bins,)
        """
        p = self._probs.astype(float)
        position = np.where(p < 0.1, np.log10(np.maximum(p, LEAST_PROBABILITY)), (p - 0.1) / 0.45 - 1)
        counts, edges = np.histogram(position, bins=bins, range=(-4, 1))
        return edges, counts

    def largest(self, n=12):
        """The rays with most pixels.

        Returns
        -------
        list of tuple of int
            ``(x, y, pixels)``: middle of the ray's box and its size, the largest first.
        """
        pixels, groups = self._by_group()
        if not len(pixels):
            return []
        sizes = np.bincount(groups)
        chosen = np.argsort(sizes, kind="stable")[::-1][:n]
        rays = []
        for number in chosen:
            y, x = np.divmod(pixels[groups == number], self.shape[1])
            rays.append((int(x.min() + x.max()) // 2, int(y.min() + y.max()) // 2, int(sizes[number])))
        return rays

    def read(self, x, y):
        """What stands at a pixel.

        Returns
        -------
        dict
            ``x``, ``y``, ``value`` (electrons), ``prob``, ``flagged``, ``evaluated``; ``ra`` and ``dec`` (degrees)
            where the header has a celestial WCS. None outside of the frame.
        """
        if not (0 <= x < self.shape[1] and 0 <= y < self.shape[0]):
            return None
        found = {
            "x": int(x),
            "y": int(y),
            "value": float(self.frame.data[y, x]),
            "prob": float(self.detection.prob[y, x]),
        }
        found |= {"flagged": bool(self.mask[y, x]), "evaluated": not bool(self.detection.not_evaluated[y, x])}
        if self._wcs is not None:
            sky = self._wcs.pixel_to_world(x, y)
            found |= {"ra": float(sky.icrs.ra.deg), "dec": float(sky.icrs.dec.deg)}
        return found

    @cached_property
    def _wcs(self):
        try:
            wcs = WCS(self.frame.header)
        except (WcsError, ValueError, KeyError):
            return None
        return wcs if wcs.has_celestial and wcs.naxis == 2 else None

    # --- editing ---

    def brush(self, kind, points, radius):
        """Paint or erase along a stroke.

        Parameters
        ----------
        kind : {"paint", "erase"}
        points : sequence of tuple of int
            ``(x, y)`` of the stroke.
        radius : int
            Of the brush; 0 is one pixel.
        """
        reach = np.arange(-radius, radius + 1)
        dy, dx = (d.ravel() for d in np.meshgrid(reach, reach, indexing="ij"))
        round_ = dy**2 + dx**2 <= (radius + 0.5) ** 2
        dy, dx = dy[round_], dx[round_]
        x, y = (np.array(v, dtype=int)[:, None] for v in zip(*_stroke(points), strict=True))
        x, y = (x + dx).ravel(), (y + dy).ravel()
        inside = (x >= 0) & (x < self.shape[1]) & (y >= 0) & (y < self.shape[0])
        self._record(kind, points[0], np.unique(y[inside] * self.shape[1] + x[inside]))

    def whole_ray(self, kind, x, y):
        """Add the ray at a pixel, or remove it.

        Added are the pixels around it that hang together and have a fifth of its probability; removed, the flagged
        pixels that hang together with it.

        Raises
        ------
        InputError
            When no ray is there to remove, or nothing hints at one to add.
        """
        if not (0 <= x < self.shape[1] and 0 <= y < self.shape[0]):
            raise InputError(f"x = {x}, y = {y}: outside of the frame")
        if kind == "remove ray":
            pixels, groups = self._by_group()
            here = groups[pixels == y * self.shape[1] + x]
            if not len(here):
                raise InputError(f"x = {x}, y = {y}: no ray is flagged here")
            self._record(kind, (x, y), pixels[groups == here[0]])
            return
        least = max(0.2 * float(self.detection.prob[y, x]), LEAST_PROBABILITY)
        candidates = (self.detection.prob > least) & ~self.detection.not_evaluated
        reach = 200
        window = tuple(slice(max(c - reach, 0), c + reach + 1) for c in (y, x))
        labels, _ = ndimage.label(candidates[window], np.ones((3, 3)))
        number = labels[y - window[0].start, x - window[1].start]
        if number == 0:
            raise InputError(f"x = {x}, y = {y}: no ray is hinted at here")
        rows, columns = np.nonzero(labels == number)
        self._record(kind, (x, y), (rows + window[0].start) * self.shape[1] + columns + window[1].start)

    def _record(self, kind, at, pixels):
        if kind in ("paint", "add ray"):
            pixels = pixels[~self.detection.not_evaluated.ravel()[pixels]]
        if len(pixels):
            self.edits.append(Edit(kind, int(at[0]), int(at[1]), pixels))
            self._undone, self._stale = [], True

    def undo(self):
        """Take the last edit back; True if there was one."""
        if not self.edits:
            return False
        self._undone.append(self.edits.pop())
        self._stale = True
        return True

    def redo(self):
        """Make the last edit that was taken back again; True if there was one."""
        if not self._undone:
            return False
        self.edits.append(self._undone.pop())
        self._stale = True
        return True


def _stroke(points):
    """All pixels on the way from point to point, ``(x, y)``."""
    whole = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        rows, columns = line(y0, x0, y1, x1)
        whole += zip(columns[1:].tolist(), rows[1:].tolist(), strict=True)
    return whole
