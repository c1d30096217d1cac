"""Detectors times test sets: tidy rows of scores, and the curves behind them."""

import time
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from scipy import ndimage

from crcore.dataset import read_sequence
from crcore.detection import NetworkDetector
from crcore.errors import InputError
from crcore.metrics import PixelScores
from crcore.rivals import DEFAULT_SIGCLIP, AstroScrappy, ReleasedCosmicConn, ReleasedDeepCR, paper_objlim

__all__ = [
    "TestSet",
    "curve_rows",
    "discrepancy_panels",
    "evaluate",
    "lco_detectors",
    "one_scrappy",
    "pool",
    "score_row",
    "test_sets",
]

#: ray pixels for each other pixel at which precisions are given: the paper's 1:10,000 (section 1)
PREVALENCE = 1e-4

_CLASSES = {"0m4": "LCO 0.4 m", "1m0": "LCO 1 m", "2m0": "LCO 2 m"}


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


def test_sets(paths, data):
    """Labelled sequences as test sets, one a telescope class (or camera).

    Parameters
    ----------
    paths : sequence of path-like
        Files in the layout of the LCO CR dataset.
    data : {"simulated", "real"}
        What they are; a set's name says it too.

    Returns
    -------
    list of TestSet
        Sorted by name.
    """
    groups = {}
    for path in paths:
        header = fits.getheader(path, 1)
        camera = str(header.get("TELID", ""))[:3]
        name = _CLASSES.get(camera, str(header.get("INSTRUME", "unknown camera")))
        groups.setdefault(f"{name}, {data}", []).append(path)
    return [TestSet(name, data, tuple(paths)) for name, paths in sorted(groups.items())]


test_sets.__test__ = False


def lco_detectors(models, *, sigclips):
    """The detectors of Fig 6: ours, the released networks, and Astro-SCRAPPY.

    Parameters
    ----------
    models : sequence of crcore.zoo.Model or str
        Our networks.
    sigclips : sequence of float
        Astro-SCRAPPY's sweep; its ``objlim`` is chosen by telescope class.

    Returns
    -------
    detectors : dict
        Name to detector; Astro-SCRAPPY's takes the class from the frame's header.
    missing : dict
        Name to the reason why a rival is not there.
    """
    detectors, missing = {}, {}
    for model in models:
        detector = NetworkDetector(model)
        detectors[detector.name] = detector
    for name, make in (
        ("Cosmic-CoNN (released)", ReleasedCosmicConn),
        ("deepCR (released)", ReleasedDeepCR),
        ("Astro-SCRAPPY", lambda: _ScrappyByClass(sigclips)),
    ):
        try:
            detectors[name] = make()
        except InputError as error:
            missing[name] = str(error)
    return detectors, missing


def one_scrappy():
    """Astro-SCRAPPY at its default ``sigclip`` alone, as a user runs it; empty where it is missing."""
    try:
        return {"Astro-SCRAPPY": AstroScrappy(sigclips=(DEFAULT_SIGCLIP,))}
    except InputError:
        return {}


class _ScrappyByClass:
    """Astro-SCRAPPY with the paper's ``objlim`` for the frame's telescope class."""

    name = "Astro-SCRAPPY"

    def __init__(self, sigclips):
        self._by_objlim = {o: AstroScrappy(objlim=o, sigclips=sigclips) for o in (0.5, 2.0)}

    @property
    def settings(self):
        """What was run: ``objlim`` by telescope class, ``sigfrac``, ``sigclips``."""
        any_ = self._by_objlim[2.0]
        return {
            "objlim": {c: self._by_objlim[paper_objlim(c)].objlim for c in _CLASSES},
            "sigfrac": any_.sigfrac,
            "sigclips": list(any_.sigclips),
        }

    def __call__(self, frame):
        return self._by_objlim[paper_objlim(frame.header.get("TELID", ""))](frame)


def evaluate(detectors, sets, *, progress=None, keep=None, seconds=None):
    """Score every detector on every set against its labels, pixel by pixel.

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
        name to mask.
    seconds : dict, optional
        Gets, for each detector, a list of seconds and megapixels of each frame.

    Returns
    -------
    rows : list of dict
        One a detector, set and yardstick.
    scores : dict
        ``(detector, set, yardstick)`` to `crcore.metrics.PixelScores`.
    """
    scores, counts, thresholds = {}, {}, {}
    jobs = [(s, path) for s in sets for path in s.paths]
    for test_set, path in progress(jobs) if progress else jobs:
        sequence = read_sequence(path)
        counts[test_set.name] = counts.get(test_set.name, 0) + len(sequence.data)
        for i in range(len(sequence.data)):
            frame = sequence.frame(i)
            fine = sequence.judged(i)
            yardsticks = {"labels": (sequence.cr[i] > 0, fine)}
            if sequence.truth is not None and not sequence.by_truth:
                known = "truth" if sequence.simulated else "reference"
                yardsticks[known] = (sequence.truth[i] == 1, fine & (sequence.truth[i] != 2))
            for name, detector in detectors.items():
                begun = time.perf_counter()
                detection = detector(frame)
                if seconds is not None:
                    seconds.setdefault(name, []).append((time.perf_counter() - begun, frame.data.size / 1e6))
                thresholds[name] = detection.threshold
                if keep is not None and i == 0:
                    keep.setdefault(path, {})[name] = np.packbits(detection.mask, axis=1)
                prob = np.where(detection.not_evaluated, 0, detection.prob)  # not looked at: not found
                for yardstick, (truth, use) in yardsticks.items():
                    scores.setdefault((name, test_set.name, yardstick), PixelScores()).add(prob, truth, use)
    rows = []
    for (name, set_name, yardstick), counted in scores.items():
        data = next(s.data for s in sets if s.name == set_name)
        rows.append(
            score_row(
                counted,
                detector=name,
                set_name=set_name,
                data=data,
                yardstick=yardstick,
                frames=counts[set_name],
                threshold=thresholds[name],
            )
        )
    return rows, scores


def score_row(counted, *, detector, set_name, data, yardstick, frames, threshold):
    """The numbers of Table 2 and a few more from `PixelScores`, as a tidy row."""
    at = counted.at_threshold(threshold)
    return {
        "set": set_name,
        "data": data,
        "detector": detector,
        "against": yardstick,
        "frames": frames,
        "pixels": counted.positives + counted.negatives,
        "cr_pixels": counted.positives,
        "tpr_at_0.01%": counted.tpr_at_fpr(1e-4),
        "tpr_at_0.1%": counted.tpr_at_fpr(1e-3),
        "precision_at_95%": counted.precision_at_recall(0.95, prevalence=PREVALENCE),
        "precision_at_99%": counted.precision_at_recall(0.99, prevalence=PREVALENCE),
        "average_precision": counted.average_precision(),
        "threshold": threshold,
        "recall": at["recall"],
        "precision": at["precision"],
        "dice": at["dice"],
    }


def pool(scores, names, pooled_name):
    """Add up the scores of several sets for each detector and yardstick."""
    pooled = {}
    for (detector, set_name, yardstick), counted in scores.items():
        if set_name in names:
            pooled.setdefault((detector, pooled_name, yardstick), PixelScores()).merge(counted)
    return pooled


def curve_rows(scores, *, points=300):
    """ROC and precision-recall curves as tidy rows, thinned to about ``points`` each."""
    rows = []
    for (detector, set_name, yardstick), counted in scores.items():
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
            y, x = np.unravel_index(np.argmax(density), density.shape)
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
