"""How good labels are where the truth is known: recall and purity, by signal-to-noise, by distance to sources."""

import itertools

import numpy as np
from scipy import ndimage

from crcore.deviation import deviation_score
from crcore.labelled import BORDER, NO_DATA, SOURCE

__all__ = ["agreement", "label_quality", "summary"]

_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_PEAKS = (5, 7, 10, 20, 50, np.inf)
_DISTANCES = (1, 4, 11, 31, np.inf)


def agreement(sequence, where=True):
    """Count labelled, true and rightly labelled pixels.

    Pixels that the labels ignore or the truth leaves undecided do not count.

    Parameters
    ----------
    sequence : crcore.labelled.Sequence
        With ``truth``.
    where : numpy.ndarray of bool, optional
        Count only these pixels, (n, H, W).

    Returns
    -------
    numpy.ndarray of int, shape (3,)
        Labelled, true, both.
    """
    use = (sequence.ignore == 0) & (sequence.truth != 2) & where
    labelled, true = (sequence.cr > 0) & use, (sequence.truth == 1) & use
    return np.array([labelled.sum(), true.sum(), (labelled & true).sum()])


def summary(sequences):
    """Recall, purity and number of true pixels of all ``sequences`` together; a dictionary."""
    labelled, true, both = sum((agreement(s) for s in sequences), np.zeros(3, dtype=int))
    return {
        "recall": float(both / max(true, 1)),
        "purity": float(both / max(labelled, 1)),
        "true_pixels": int(true),
    }


def label_quality(sequences):
    """Recall and purity of the labels of sequences whose truth is known.

    Parameters
    ----------
    sequences : list of crcore.labelled.Sequence
        With ``truth``.

    Returns
    -------
    list of dict
        ``by``, ``bin``, ``labelled_pixels``, ``true_pixels``, ``recall``, ``purity``: one row overall, one for each
        bin of the peak signal-to-noise (deviation score) of the true or labelled ray, and one for each bin of
        distance (pixels) to the nearest source. Of "on sources" all is lost: nothing is labelled there.
    """
    counts = {("all", "all"): np.zeros(3, dtype=int)}
    for sequence in sequences:
        counts["all", "all"] += agreement(sequence)
        read_noise = [h.get("RDNOISE", 0.0) for h in sequence.headers]
        peaks = _peaks(sequence, deviation_score(sequence.data, read_noise))
        for low, high in itertools.pairwise(_PEAKS):
            name = f"{low:g}–{high:g}" if np.isfinite(high) else f"> {low:g}"
            found = agreement(sequence, (peaks >= low) & (peaks < high))
            counts["peak S/N", name] = counts.get(("peak S/N", name), 0) + found
        on_source = (sequence.ignore & SOURCE) > 0
        seen = (sequence.ignore & (BORDER | NO_DATA)) == 0
        lost = on_source & seen & (sequence.truth == 1)
        key = ("distance to source (px)", "on sources")
        counts[key] = counts.get(key, 0) + np.array([0, lost.sum(), 0])
        distance = np.stack(
            [ndimage.distance_transform_edt(~s) if s.any() else np.full(s.shape, np.inf) for s in on_source]
        )
        for low, high in itertools.pairwise(_DISTANCES):
            name = f"{low:g}–{high - 1:g}" if np.isfinite(high) else f"≥ {low:g}"
            key = ("distance to source (px)", name)
            inside = (distance >= low) & (distance < high) | ((high == np.inf) & (distance == np.inf))
            counts[key] = counts.get(key, 0) + agreement(sequence, inside)
    return [
        {
            "by": by,
            "bin": name,
            "labelled_pixels": int(labelled),
            "true_pixels": int(true),
            "recall": float(right / true) if true else None,
            "purity": float(right / labelled) if labelled else None,
        }
        for (by, name), (labelled, true, right) in counts.items()
    ]


def _peaks(sequence, score):
    """Highest score of the ray (true or labelled, 8-connected) that each pixel belongs to; 0 elsewhere."""
    peaks = np.zeros_like(score)
    for i, image in enumerate(score):
        labels, n = ndimage.label((sequence.truth[i] == 1) | (sequence.cr[i] > 0), _NEIGHBOURS)
        highest = np.zeros(n + 1, dtype=score.dtype)
        if n:
            highest[1:] = ndimage.maximum(image, labels, np.arange(1, n + 1))
        peaks[i] = highest[labels]
    return peaks
