"""Notebook 11: cameras that no network has seen, stars that must not be harmed, and a camera of one's own."""

import dataclasses
import shutil
from dataclasses import dataclass, field

import numpy as np

from crcore import results
from crcore.dataset import read_sequence, write_sequence
from crcore.evaluation import TestSet, evaluate
from crcore.injection import inject_dataset
from crcore.instruments import Camera
from crcore.labelled import NO_DATA, SOURCE
from crcore.objects import ObjectScores
from crcore.paths import DATA_RESULTS
from crcore.preprocess import sky_and_noise
from crcore.recipe import Recipe
from crcore.simulate.datasets import SimulationConfig, simulate_dataset
from crcore.simulate.known import label_by_truth
from crcore.simulate.observe import simulate_sequence

__all__ = [
    "RAY_BINS",
    "GenericStudyConfig",
    "measured",
    "own_camera",
    "score_by_kind",
    "unseen_cameras",
    "with_seconds",
]

#: lower edges of what whole rays, and single pixels (``sigma``), are told apart by
RAY_BINS = {
    "length_px": (0.0, 2.5, 3.5, 5.5, 7.5, 15.5),
    "charge_e": (0.0, 200.0, 500.0, 1000.0, 3000.0, 10_000.0),
    "distance_px": (0.0, 0.5, 2.5, 5.5, 10.5),
    "sigma": (2.5, 3.0, 4.0, 5.0, 10.0, 30.0),
}

_KINDS = {
    "random": "imaging",
    "random_orbit": "orbit",
    "random_slit": "slit",
    "random_echelle": "echelle",
}


@dataclass(frozen=True)
class GenericStudyConfig:
    """What notebook 11 compares.

    Attributes
    ----------
    simulation : crcore.simulate.datasets.SimulationConfig
        Test exposures of cameras drawn at random, with another seed than any training data.
    widths_px : tuple of float
        Widths of stars at which harm is counted.
    fields : int
        Exposures of each width.
    own_exposures : int
        Exposures of the camera "of one's own".
    finetune : crcore.recipe.Recipe
        How the generic model is fine-tuned for it.
    """

    simulation: SimulationConfig = SimulationConfig()
    widths_px: tuple[float, ...] = (1.2, 1.5, 2.0, 3.0, 5.0, 8.0)
    fields: int = 3
    own_exposures: int = 5
    finetune: Recipe = field(default_factory=Recipe)


def measured(name):
    """Rows of ``data/results/<name>.csv``: what takes too long for a notebook; none where it is missing."""
    path = DATA_RESULTS / f"{name}.csv"
    return results.read_rows(path) if path.exists() else []


def unseen_cameras(folder, config, *, progress=None):
    """Simulate the test exposures; one `crcore.evaluation.TestSet` a kind of camera.

    Parameters
    ----------
    folder : path-like
    config : GenericStudyConfig
    progress : callable, optional
        See `crcore.simulate.datasets.simulate_dataset`.
    """
    rows = simulate_dataset(folder, config.simulation, progress=progress)
    sets = []
    for name in dict.fromkeys(row["instrument"] for row in rows):
        paths = tuple(folder / row["file"] for row in rows if row["instrument"] == name and row["split"] == "test")
        sets.append(TestSet(f"{_KINDS.get(name, name)}, simulated", "simulated", paths))
    return sets


def score_by_kind(detectors, sets, rng, *, progress=None, cache=None, binned=None):
    """Scores of each detector on each set, with intervals by frame, and what they cost.

    Parameters
    ----------
    detectors : dict
        Name to detector.
    sets : sequence of crcore.evaluation.TestSet
        Of single exposures.
    rng : numpy.random.Generator
        For the intervals.
    progress : callable, optional
        Wraps a list, as ``tqdm`` does.
    cache : path-like, optional
        See `crcore.evaluation.evaluate`.
    binned : list, optional
        Gets rows of `RAY_BINS`: ``detector``, ``set``, ``by``, ``low`` (the bin's lower edge), ``rays`` and those
        ``found``, ``detections`` and those that are ``right``; of ``sigma`` they are pixels. A ray on a source, or a
        detection there, counts in ``distance_px`` alone, since its charge cannot be told from the source's light.

    Returns
    -------
    rows : list of dict
        Those of `crcore.evaluation.evaluate`, with ``low`` and ``high`` of the average precision, ``completeness`` and
        ``purity`` of whole rays with a one-pixel halo, ``completeness_short`` and ``_long`` (up to 3 px, from 8 px).
    scores : dict
        ``(detector, set)`` to `crcore.metrics.PixelScores`.
    """
    rows, pooled = [], {}
    for test_set in progress(sets) if progress else sets:
        masks = {}
        scored, scores = evaluate(detectors, [test_set], keep=masks, rng=rng, cache=cache)
        rays = {name: ObjectScores(halo_px=1) for name in detectors}
        pixels = {name: [] for name in detectors}
        for path, packed in masks.items():
            sequence = read_sequence(path)
            truth, use = sequence.cr[0] > 0, sequence.judged(0)
            source = (sequence.ignore[0] & SOURCE) > 0
            level = None
            if binned is not None:
                none = (sequence.ignore[0] & NO_DATA) > 0
                sky, noise = sky_and_noise(np.where(none, 0, sequence.data[0]), bad=none if none.any() else None)
                level = sequence.data[0] - sky
            for name, mask in packed.items():
                mask = np.unpackbits(mask, axis=1, count=truth.shape[1]).astype(bool)
                rays[name].add(mask, truth, use, charge=level, source=source)
                if level is not None:
                    pixels[name].append(_pixels_by_sigma(mask, truth, use & ~source, level / noise))
        if binned is not None:
            for name in detectors:
                binned += [{"detector": name, "set": test_set.name, **row} for row in _bins(rays[name], pixels[name])]
        for row in scored:
            if row["against"] == "labels":
                name = row["detector"]
                table = rays[name].rays
                found, length = np.asarray(table["found"]), np.asarray(table["length_px"])
                row |= {"completeness": row["completeness_halo"], "purity": row["purity_halo"]}
                row |= {"completeness_short": _mean(found[length <= 3]), "completeness_long": _mean(found[length >= 8])}
                row |= {"low": row["average_precision_low"], "high": row["average_precision_high"]}
                rows.append(row)
                pooled[name, test_set.name] = scores[name, test_set.name, "labels"].pixels
    return rows, pooled


def _pixels_by_sigma(mask, truth, use, sigma):
    """Pixels of rays, those found, flagged ones, those that are right, in each bin of ``sigma``: (4, bins)."""
    edges = [*RAY_BINS["sigma"], np.inf]
    return np.array([np.histogram(sigma[m & use], edges)[0] for m in (truth, truth & mask, mask, truth & mask)])


def _bins(scores, pixels):
    """Rows of `RAY_BINS` of one detector on one set."""
    rays, detections = scores.rays, scores.detections
    for by, edges in RAY_BINS.items():
        if by == "sigma":
            counts = np.sum(pixels, axis=0)
        else:
            counts = np.zeros((4, len(edges)), dtype=int)
            for k, (table, good) in enumerate(((rays, "found"), (detections, "right"))):
                if len(table):
                    table = table[(table["distance_px"] > 0) | (by == "distance_px")]
                    bin_of = np.searchsorted(edges, table[by], side="right") - 1
                    counts[2 * k] = np.bincount(bin_of, minlength=len(edges))
                    counts[2 * k + 1] = np.bincount(bin_of[np.asarray(table[good])], minlength=len(edges))
        for low, (n, found, n_detected, right) in zip(edges, counts.T, strict=True):
            yield {"by": by, "low": low, "rays": n, "found": found, "detections": n_detected, "right": right}


def with_seconds(rows, where, seconds):
    """Rows of the set ``where`` with ``seconds_per_mpixel``, from the timings of notebook 10 on a Sinistro's frame.

    Parameters
    ----------
    rows : list of dict
        From `score_by_kind`.
    where : str
        A set's name.
    seconds : dict
        ``"sinistro SIDE"`` to seconds of each detector, by name; detectors that were not timed are left out.
    """
    taken, side = next((taken, int(name.split()[1])) for name, taken in seconds.items() if name.startswith("sinistro"))
    mine = [row for row in rows if row["set"] == where and row["detector"] in taken]
    return [{**row, "seconds_per_mpixel": 1e6 * taken[row["detector"]] / side**2} for row in mine]


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")


def own_camera(folder, config, rng, *, detector):
    """A camera of one's own: a handful of exposures with rays put into them, and others to judge by.

    The camera is drawn at random; a real one's exposures come from ``crcore inject``.

    Parameters
    ----------
    folder : path-like
        Made anew; gets a dataset for `crcore.training.train`, and ``test`` with exposures whose natural rays are known.
    config : GenericStudyConfig
    rng : numpy.random.Generator
    detector : callable
        Finds the rays that the exposures hold already.

    Returns
    -------
    camera : crcore.instruments.Camera
    test_set : crcore.evaluation.TestSet
    """
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, perhaps with other numbers of exposures
    camera = dataclasses.replace(Camera.random(rng), name="mine")
    made = [
        simulate_sequence(
            camera, shape=config.simulation.shape, exposure_s=300.0, rng=rng, n_frames=1, rate_factor=rate, identifier=k
        )
        for k, rate in enumerate([1.0] * config.own_exposures + [3.0] * 4)
    ]
    inject_dataset([m.frames[0] for m in made[: config.own_exposures]], folder, rng, detector=detector)
    paths = []
    for k, sequence in enumerate(made[config.own_exposures :]):
        paths.append(folder / "test" / "masked_fits" / f"mine-{k}_1frms_masks.fits")
        write_sequence(paths[-1], label_by_truth(sequence))
    return camera, TestSet("my camera, simulated", "simulated", tuple(paths))
