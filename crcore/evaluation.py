"""Detectors times test sets: tidy rows of scores, and the curves behind them."""

import hashlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from crcore import results
from crcore.calibration import expected_calibration_error
from crcore.dataset import lco_class, read_sequence, sha256
from crcore.metrics import PixelScores, bootstrap
from crcore.objects import ObjectScores

__all__ = [
    "Scores",
    "TestSet",
    "camera_of",
    "curve_rows",
    "discrepancy_panels",
    "evaluate",
    "pool",
    "score_row",
    "test_sets",
]

#: ray pixels for each other pixel at which precisions are given: the paper's 1:10,000 (section 1)
PREVALENCE = 1e-4

#: modules that decide what a detector gives and how it is counted: scores of other code are not taken again
_CODE = (
    "calibration", "dataset", "detection", "evaluation", "frame", "fused", "inference", "labeling", "labelled",
    "metrics", "networks", "objects", "preprocess", "rivals", "tiling",
)  # fmt: skip


@dataclass(frozen=True)
class TestSet:
    """Labelled sequences that are scored together.

    Attributes
    ----------
    name : str
        Such as "LCO 0.4 m".
    data : {"simulated", "real"}
        What the frames are. Never mixed.
    paths : tuple
        Files in the layout of the LCO CR dataset.
    """

    __test__ = False  # a set for testing detectors, not a test

    name: str
    data: str
    paths: tuple


def camera_of(header):
    """What a header's frames are scored under: LCO's telescope class, or the camera's name."""
    size = lco_class(header)
    return f"LCO {size}" if size else str(header.get("INSTRUME", "unknown camera"))


def test_sets(paths, data, *, most=0):  # noqa: PT028
    """Labelled sequences as test sets, one a telescope class (or camera).

    Parameters
    ----------
    paths : sequence of path-like
        Files in the layout of the LCO CR dataset.
    data : {"simulated", "real"}
        What they are; a set's name says it too.
    most : int, optional
        At most so many of each set, the first by name; 0 for all.

    Returns
    -------
    list of TestSet
        Sorted by name.
    """
    groups = {}
    for path in paths:
        groups.setdefault(f"{camera_of(fits.getheader(path, 1))}, {data}", []).append(path)
    return [TestSet(name, data, tuple(paths[: most or None])) for name, paths in sorted(groups.items())]


test_sets.__test__ = False


def evaluate(detectors, sets, *, progress=None, keep=None, cache=None, rng=None):
    """Score every detector on every set against its labels, pixel by pixel and ray by ray.

    Pixels that the labels ignore do not count. Where the truth is known (simulation), or
    a reference exists (real frames), scores against it are given too, its undecided
    pixels left out.

    Parameters
    ----------
    detectors : dict
        Name to detector, ``detector(frame) -> Detection``.
    sets : sequence of TestSet
    progress : callable, optional
        Wraps the list of jobs, as ``tqdm`` does.
    keep : dict, optional
        Gets the masks of the first exposure of each sequence, for `discrepancy_panels`: path to detector's
        name to packed mask.
    cache : path-like, optional
        Folder for what was scored before: a detector that has not changed looks at a file that has not changed
        only once.
    rng : numpy.random.Generator, optional
        For 95 % intervals by frame (`crcore.metrics.bootstrap`); without it there are none.

    Returns
    -------
    rows : list of dict
        One a detector, set and yardstick, see `score_row`.
    scores : dict
        ``(detector, set, yardstick)`` to `Scores`.
    """
    scores = {}
    jobs = [(s, path) for s in sets for path in s.paths]
    for test_set, path in progress(jobs) if progress else jobs:
        sequence, content = None, None if cache is None else sha256(path)
        for name, detector in detectors.items():
            file = None if cache is None else _cached(Path(cache), name, detector, content)
            judged = None if file is None else _read_judged(file)
            if judged is None:
                sequence = sequence or read_sequence(path)
                judged = _judge(detector, sequence)
                if file is not None:
                    _write_judged(file, judged)
            if keep is not None:
                keep.setdefault(path, {})[name] = judged["mask"]
            for yardstick in judged["yardsticks"]:
                found = scores.setdefault((name, test_set.name, yardstick), Scores(test_set.data))
                found.add(judged, yardstick)
    return [score_row(s, *key, rng=rng) for key, s in scores.items()], scores


class Scores:
    """What one detector did on one set against one yardstick: pixels, rays, frames, seconds.

    Attributes
    ----------
    data : str
        What the frames are.
    threshold : float
        The detector's own.
    frames : list of numpy.ndarray
        Counts of each frame (`crcore.metrics.PixelScores.sparse`).
    rays, rays_halo : numpy.ndarray
        Sums of `crcore.objects.ObjectScores.counts`, strictly and with a halo of one pixel.
    seconds, mpixels : float
        What the detector took, and for how much.
    """

    def __init__(self, data):
        self.data, self.threshold, self.frames = data, float("nan"), []
        self.rays, self.rays_halo = (np.zeros(4, dtype=np.int64) for _ in range(2))
        self.seconds = self.mpixels = 0.0

    def add(self, judged, yardstick):
        """Count what `evaluate` has found in one file."""
        self.threshold = float(judged["threshold"])
        self.frames += judged["yardsticks"][yardstick]["pixels"]
        self.rays += judged["yardsticks"][yardstick]["rays"]
        self.rays_halo += judged["yardsticks"][yardstick]["rays_halo"]
        self.seconds += float(judged["seconds"])
        self.mpixels += float(judged["mpixels"])

    def merge(self, other):
        """Add the counts of another set."""
        self.threshold = other.threshold
        self.frames = [*self.frames, *other.frames]
        self.rays, self.rays_halo = self.rays + other.rays, self.rays_halo + other.rays_halo
        self.seconds, self.mpixels = self.seconds + other.seconds, self.mpixels + other.mpixels

    @property
    def pixels(self):
        """All frames pooled; `crcore.metrics.PixelScores`."""
        return PixelScores.from_sparse(*self.frames)


def _judge(detector, sequence):
    """Run a detector on a sequence and count."""
    judged = {"seconds": 0.0, "mpixels": sequence.data.size / 1e6, "yardsticks": {}}
    for i in range(len(sequence.data)):
        frame, fine = sequence.frame(i), sequence.judged(i)
        yardsticks = {"labels": (sequence.cr[i] > 0, fine)}
        if sequence.truth is not None and not sequence.by_truth:
            known = "truth" if sequence.simulated else "reference"
            yardsticks[known] = (sequence.truth[i] == 1, fine & (sequence.truth[i] != 2))
        begun = time.perf_counter()
        detection = detector(frame)
        judged["seconds"] += time.perf_counter() - begun
        judged["threshold"] = detection.threshold
        mask = detection.mask
        if i == 0:
            judged["mask"] = np.packbits(mask, axis=1)
        prob = np.where(detection.not_evaluated, 0, detection.prob)  # not looked at: not found
        for yardstick, (truth, use) in yardsticks.items():
            nothing = {"pixels": [], "rays": np.zeros(4, dtype=np.int64), "rays_halo": np.zeros(4, dtype=np.int64)}
            counts = judged["yardsticks"].setdefault(yardstick, nothing)
            pixels = PixelScores()
            pixels.add(prob, truth, use)
            counts["pixels"].append(pixels.sparse())
            for halo, column in ((0, "rays"), (1, "rays_halo")):
                whole = ObjectScores(halo_px=halo)
                whole.add(mask, truth, use)
                counts[column] += whole.counts()
    return judged


def _cached(folder, name, detector, content):
    """Where a detector's scores on a file of some content are kept; None where it cannot be told from others."""
    identity = getattr(detector, "identity", None)
    if identity is None:
        return None
    key = repr((name, identity, content, results.code_hash(*_CODE)))
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _write_judged(file, judged):
    arrays = {k: np.asarray(judged[k]) for k in ("seconds", "mpixels", "threshold", "mask")}
    for yardstick, counts in judged["yardsticks"].items():
        for column in ("rays", "rays_halo"):
            arrays[f"{yardstick}/{column}"] = counts[column]
        for k, pixels in enumerate(counts["pixels"]):
            arrays[f"{yardstick}/pixels/{k:03d}"] = pixels
    with results.atomic(file) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _read_judged(file):
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        judged = {k: arrays[k] for k in ("seconds", "mpixels", "threshold", "mask")} | {"yardsticks": {}}
        for key in sorted(arrays.files):
            yardstick, _, column = key.partition("/")
            if column:
                counts = judged["yardsticks"].setdefault(yardstick, {"pixels": []})
                if column.startswith("pixels"):
                    counts["pixels"].append(arrays[key])
                else:
                    counts[column] = arrays[key]
    return judged


#: statistics of Table 2 that get an interval by frame, and what they are called
_STATISTICS = {
    "average_precision": PixelScores.average_precision,
    "tpr_at_0.01%": partial(PixelScores.tpr_at_fpr, fpr=1e-4),
    "tpr_at_0.1%": partial(PixelScores.tpr_at_fpr, fpr=1e-3),
    "precision_at_95%": partial(PixelScores.precision_at_recall, recall=0.95, prevalence=PREVALENCE),
    "precision_at_99%": partial(PixelScores.precision_at_recall, recall=0.99, prevalence=PREVALENCE),
}


def score_row(scores, detector, set_name, yardstick, *, rng=None):
    """Every number of one detector on one set as a tidy row.

    Parameters
    ----------
    scores : Scores
    detector, set_name, yardstick : str
        Names.
    rng : numpy.random.Generator, optional
        For the intervals: ``<name>_low`` and ``<name>_high``.

    Returns
    -------
    dict
        Of all frames pooled: ``tpr_at_0.01%`` and ``tpr_at_0.1%`` (of the false-positive rate, interpolated),
        ``precision_at_95%`` and ``precision_at_99%`` (of the recall, at one ray pixel in 10,000 others),
        ``average_precision``, ``calibration_error`` (p > 0.01); at the detector's own threshold ``recall``,
        ``precision`` and ``dice`` of pixels, ``completeness`` and ``purity`` of whole rays, strictly and ``_halo``.
        Frame by frame: ``average_precision_by_frame``, the mean. ``seconds_per_mpixel``.
    """
    pooled = scores.pixels
    at = pooled.at_threshold(scores.threshold)
    by_frame = [PixelScores.from_sparse(f).average_precision() for f in scores.frames]
    by_frame = [ap for ap in by_frame if np.isfinite(ap)]
    row = {
        "set": set_name,
        "data": scores.data,
        "detector": detector,
        "against": yardstick,
        "frames": len(scores.frames),
        "pixels": pooled.positives + pooled.negatives,
        "cr_pixels": pooled.positives,
        **{name: statistic(pooled) for name, statistic in _STATISTICS.items()},
        "average_precision_by_frame": float(np.mean(by_frame)) if by_frame else float("nan"),
        "calibration_error": expected_calibration_error(pooled),
        "threshold": scores.threshold,
        "recall": at["recall"],
        "precision": at["precision"],
        "dice": at["dice"],
        "seconds_per_mpixel": scores.seconds / scores.mpixels if scores.mpixels else float("nan"),
    }
    for suffix, (rays, found, detections, right) in (("", scores.rays), ("_halo", scores.rays_halo)):
        row[f"completeness{suffix}"] = found / rays if rays else float("nan")
        row[f"purity{suffix}"] = right / detections if detections else float("nan")
    if rng is not None:
        for name, (low, high) in bootstrap(scores.frames, _STATISTICS, rng).items():
            row[f"{name}_low"], row[f"{name}_high"] = low, high
    return row


def pool(scores, names, pooled_name):
    """Add up the scores of several sets for each detector and yardstick."""
    pooled = {}
    for (detector, set_name, yardstick), counted in scores.items():
        if set_name in names:
            pooled.setdefault((detector, pooled_name, yardstick), Scores(counted.data)).merge(counted)
    return pooled


def curve_rows(scores, *, points=300):
    """ROC and precision-recall curves as tidy rows, thinned to about ``points`` each."""
    rows = []
    for (detector, set_name, yardstick), judged in scores.items():
        counted = judged.pixels
        if not (counted.positives and counted.negatives):
            continue
        fpr, tpr = counted.roc()
        precision, recall = counted.precision_recall()
        keep = np.unique(
            np.concatenate(
                [
                    np.searchsorted(fpr, np.geomspace(1e-7, 1, points)),
                    np.searchsorted(tpr, np.linspace(0, 1, points)),
                ]
            ).clip(1, len(fpr) - 1)
        )
        rows += [
            {
                "detector": detector,
                "set": set_name,
                "against": yardstick,
                "fpr": fpr[k],
                "tpr": tpr[k],
                "precision": precision[k - 1],
                "recall": recall[k - 1],
            }
            for k in keep
        ]
    return rows


def discrepancy_panels(kept, sets, *, size=48):
    """One stamp of each set: that on which the detectors' masks are wrong most often in all.

    The first exposure of each sequence is looked at; a detector's own threshold makes its mask.

    Parameters
    ----------
    kept : dict
        What `evaluate` has kept.
    sets : sequence of TestSet
    size : int, optional
        Side of a stamp in pixels.

    Returns
    -------
    list of dict
        For `crcore.figures.discrepancy`.
    """
    panels = []
    for test_set in sets:
        best = None
        for path in test_set.paths:
            sequence = read_sequence(path)
            truth, use = sequence.cr[0] > 0, sequence.ignore[0] == 0
            packed = kept[path].items()
            masks = {name: np.unpackbits(m, axis=1, count=truth.shape[1]).astype(bool) for name, m in packed}
            wrong = sum(((mask != truth) & use).astype(np.float32) for mask in masks.values())
            side = min(size, *truth.shape)
            density = ndimage.uniform_filter(wrong, side, mode="constant") * side**2
            most = np.argwhere(density > density.max() - 0.5)  # many windows hold them all: the one in their middle
            y, x = most[np.argmin(np.sum((most - most.mean(axis=0)) ** 2, axis=1))]
            if best is None or density[y, x] > best[0]:
                top = int(np.clip(y - side // 2, 0, truth.shape[0] - side))
                left = int(np.clip(x - side // 2, 0, truth.shape[1] - side))
                window = np.s_[top : top + side, left : left + side]
                panel = {
                    "image": sequence.data[0][window],
                    "truth": truth[window],
                    "use": use[window],
                    "masks": {name: mask[window] for name, mask in masks.items()},
                }
                best = (density[y, x], panel)
        if best is not None:
            panels.append(best[1])
    return panels
