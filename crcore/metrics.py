"""Scores of detectors over any number of pixels, in constant memory (section 4, equations 4 to 6).

Probabilities are counted in about half a million bins that are fine near 0 and near 1,
where the thresholds are that matter for one ray pixel in ten thousand.
"""

import numpy as np

__all__ = ["PixelScores", "bootstrap", "bootstrap_difference", "draws"]

_SHIFT = 12
_HALF = int(np.float32(0.5).view(np.int32)) >> _SHIFT
N_BINS = 2 * _HALF + 1
#: bins that are put together for intervals: 32 to each factor of two in p or 1 - p remain
_COARSE = 64


def _bin(prob):
    """Monotonic bin numbers of probabilities: 11 bits of mantissa of p below 1/2, of 1 - p above."""
    p = np.clip(np.asarray(prob, dtype=np.float32), 0, 1)
    low = p.view(np.int32) >> _SHIFT
    high = (np.float32(1) - p).view(np.int32) >> _SHIFT
    return np.where(p < 0.5, low, 2 * _HALF - high)


class PixelScores:
    """Counts of ray and other pixels at each probability; add frames, then ask.

    Examples
    --------
    >>> import numpy as np
    >>> scores = PixelScores()
    >>> scores.add(np.array([0.9, 0.8, 0.1]), np.array([True, False, False]))
    >>> scores.average_precision()
    1.0
    """

    def __init__(self):
        self._counts = np.zeros((2, N_BINS), dtype=np.int64)

    def add(self, prob, truth, use=None):
        """Count the pixels of one frame.

        Parameters
        ----------
        prob : numpy.ndarray
            Probabilities in [0, 1].
        truth : numpy.ndarray of bool
            True where a ray is; same shape.
        use : numpy.ndarray of bool, optional
            Pixels that count; all by default.
        """
        prob, truth = np.asarray(prob), np.asarray(truth, dtype=bool)
        if use is not None:
            prob, truth = prob[use], truth[use]
        bins = _bin(prob.ravel())
        truth = truth.ravel()
        rays = np.bincount(bins[truth], minlength=N_BINS)
        self._counts[1] += rays
        self._counts[0] += np.bincount(bins, minlength=N_BINS) - rays

    def merge(self, other):
        """Add the counts of other scores."""
        self._counts += other._counts

    def sparse(self):
        """Occupied bins and their counts, small enough to keep for each frame.

        Returns
        -------
        numpy.ndarray, shape (3, n), int64
            Bin, other pixels, ray pixels.
        """
        occupied = np.flatnonzero(self._counts.any(axis=0))
        return np.concatenate([occupied[None], self._counts[:, occupied]])

    @classmethod
    def from_sparse(cls, *parts):
        """Put together what `sparse` gave of one or more frames."""
        scores = cls()
        for bins, *counts in parts:
            scores._counts[:, bins] += counts  # each bin stands in a part once
        return scores

    @property
    def positives(self):
        """Number of ray pixels."""
        return int(self._counts[1].sum())

    @property
    def negatives(self):
        """Number of other pixels."""
        return int(self._counts[0].sum())

    def histogram(self):
        """How many ray and other pixels have each probability.

        Returns
        -------
        prob : numpy.ndarray, float64
            Middle of each occupied bin, increasing.
        rays, others : numpy.ndarray, int64
            Pixels in it.
        """
        occupied = np.flatnonzero(self._counts.sum(axis=0))
        low = np.minimum(occupied, 2 * _HALF - occupied).astype(np.int32)
        middle = ((low << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float32).astype(float)
        prob = np.where(occupied < _HALF, middle, 1 - middle)
        return prob, self._counts[1][occupied], self._counts[0][occupied]

    def _cumulative(self):
        """False and true positives when the threshold falls past each occupied bin."""
        occupied = np.flatnonzero(self._counts.sum(axis=0))[::-1]
        counts = self._counts[:, occupied]
        return np.cumsum(counts[0]), np.cumsum(counts[1])

    def roc(self):
        """Vertices of the ROC curve, from (0, 0) to (1, 1).

        Returns
        -------
        fpr, tpr : numpy.ndarray
            False- and true-positive rates, equations 5 and 4; NaN where a class is empty.
        """
        fp, tp = self._cumulative()
        with np.errstate(invalid="ignore", divide="ignore"):
            fpr, tpr = fp / np.float64(self.negatives), tp / np.float64(self.positives)
        return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])

    def tpr_at_fpr(self, fpr):
        """True-positive rate at a false-positive rate, interpolated between vertices; NaN without rays."""
        if not (self.positives and self.negatives):
            return float("nan")
        x, y = self.roc()
        after = int(np.searchsorted(x, fpr, side="right"))  # the highest of several vertices at one rate counts
        if after == len(x):
            return float(y[-1])
        x0, y0, x1, y1 = x[after - 1], y[after - 1], x[after], y[after]
        return float(y0 + (y1 - y0) * (fpr - x0) / (x1 - x0))

    def precision_recall(self):
        """Precision (equation 6) and recall at each occupied bin, by falling threshold."""
        fp, tp = self._cumulative()
        with np.errstate(invalid="ignore", divide="ignore"):
            return tp / (tp + fp), tp / np.float64(self.positives)

    def precision_at_recall(self, recall, *, prevalence=None):
        """Precision where the recall is reached, false positives interpolated between vertices.

        Parameters
        ----------
        recall : float
            Part of the ray pixels to find.
        prevalence : float, optional
            Ray pixels for each other pixel, such as 1e-4, to which false positives are
            scaled: precision depends on it, so numbers of two data sets compare only at one.
        """
        if not self.positives:
            return float("nan")
        fp, tp = self._cumulative()
        wanted = recall * self.positives
        fp, tp = np.concatenate([[0], fp]), np.concatenate([[0], tp])
        after = max(int(np.searchsorted(tp, wanted)), 1)  # the first vertex that reaches the recall
        step = (wanted - tp[after - 1]) / (tp[after] - tp[after - 1])
        false = fp[after - 1] + step * (fp[after] - fp[after - 1])
        if prevalence is not None:
            false *= self.positives / (self.negatives * prevalence)
        return float(wanted / (wanted + false))

    def average_precision(self):
        """Sum of precision times the steps of recall, as in scikit-learn; NaN without rays."""
        if not self.positives:
            return float("nan")
        precision, recall = self.precision_recall()
        return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))

    def at_threshold(self, threshold):
        """Recall, precision and Dice of the mask ``prob > threshold``.

        The threshold is taken to the nearest bin (a relative 2^-11).
        """
        first = int(_bin(np.float32([threshold]))[0]) + 1
        fp, tp = (int(c[first:].sum()) for c in self._counts)
        return {
            "recall": tp / self.positives if self.positives else float("nan"),
            "precision": tp / (tp + fp) if tp + fp else float("nan"),
            "dice": 2 * tp / (tp + fp + self.positives) if self.positives else float("nan"),
        }


def bootstrap(frames, statistics, rng, *, n=300, level=0.95):
    """Intervals of scores by drawing whole frames with replacement.

    Pixels of a frame share their sky, seeing and detector: only frames are independent.

    Parameters
    ----------
    frames : sequence of PixelScores or of numpy.ndarray
        One for each frame, or what its `PixelScores.sparse` gave.
    statistics : dict
        Name to function of a `PixelScores`, such as ``PixelScores.average_precision``; of its curves, not of one
        threshold.
    rng : numpy.random.Generator
    n : int, optional
        Draws.
    level : float, optional
        Share of the draws between the limits.

    Returns
    -------
    dict of str to tuple of float
        Name to lower and upper limit; NaN where no draw gave a number.

    Examples
    --------
    >>> rng, frames = np.random.default_rng(1), []
    >>> for _ in range(8):
    ...     truth = rng.random(500) < 0.1
    ...     frames.append(PixelScores())
    ...     frames[-1].add(np.clip(truth * 0.4 + rng.random(500) * 0.6, 0, 1), truth)
    >>> low, high = bootstrap(frames, {"ap": PixelScores.average_precision}, rng)["ap"]
    >>> 0 < low < high < 1
    True
    """
    drawn = _drawn(frames, statistics, draws(len(frames), n, rng))
    return {name: _limits(values, level) for name, values in drawn.items()}


def bootstrap_difference(frames, others, statistic, rng, *, n=1000, level=0.95):
    """Interval of the difference of a score between two detectors, both on the same frames in each draw.

    What a frame has of its own, they share: so a difference is seen that two intervals would hide.

    Parameters
    ----------
    frames, others : sequence of PixelScores
        Of two detectors, in the same order of frames.
    statistic : callable
        As in `bootstrap`.
    rng, n, level
        As in `bootstrap`.

    Returns
    -------
    tuple of float
        Lower and upper limit of the first's less the second's; NaN where no draw gave a number.

    Raises
    ------
    ValueError
        When there are not as many frames of both.
    """
    if len(frames) != len(others):
        raise ValueError(f"{len(frames)} frames of one detector, {len(others)} of the other")
    taken = draws(len(frames), n, rng)
    first, second = (np.array(_drawn(f, {"it": statistic}, taken)["it"]) for f in (frames, others))
    return _limits(first - second, level)


def draws(frames, n, rng):
    """Frames drawn with replacement, as a bootstrap does.

    Parameters
    ----------
    frames : int
        How many there are; so many are drawn each time.
    n : int
        How many times.
    rng : numpy.random.Generator

    Returns
    -------
    list of numpy.ndarray, shape (frames,)
        How often each frame is taken.
    """
    return [np.bincount(rng.integers(0, frames, frames), minlength=frames) for _ in range(n)]


def _drawn(frames, statistics, taken):
    """Each statistic of each draw."""
    coarse = np.zeros((len(frames), 2, N_BINS // _COARSE + 1), dtype=np.int64)
    for counts, frame in zip(coarse, frames, strict=True):
        bins, others, rays = frame.sparse() if isinstance(frame, PixelScores) else frame
        np.add.at(counts[0], bins // _COARSE, others)
        np.add.at(counts[1], bins // _COARSE, rays)
    coarse = coarse[:, :, coarse.any(axis=(0, 1))]
    drawn = {name: [] for name in statistics}
    total = PixelScores()
    for times in taken:
        total._counts = np.tensordot(times, coarse, axes=1)  # empty bins are left out, and their numbers with them
        for name, statistic in statistics.items():
            drawn[name].append(statistic(total))
    return drawn


def _limits(values, level):
    if not np.isfinite(values).any():
        return (float("nan"),) * 2
    return tuple(map(float, np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)])))
