"""Notebook 11: cameras that no network has seen, stars that must not be harmed, and a camera of one's own."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from crcore.dataset import read_sequence, write_sequence
from crcore.evaluation import TestSet, evaluate
from crcore.injection import inject_dataset
from crcore.instruments import Camera
from crcore.labeling import SOURCE
from crcore.metrics import PixelScores, bootstrap
from crcore.objects import ObjectScores
from crcore.recipe import Recipe
from crcore.simulate.datasets import SimulationConfig, label_by_truth, simulate_dataset
from crcore.simulate.observe import simulate_sequence

__all__ = ["GenericStudyConfig", "own_camera", "score_by_kind", "unseen_cameras"]

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


def score_by_kind(detectors, sets, rng, *, progress=None):
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

    Returns
    -------
    rows : list of dict
        ``detector``, ``set``, ``data``, ``frames``, ``average_precision`` with ``low`` and ``high``, ``recall`` and
        ``precision`` of pixels and ``completeness`` and ``purity`` of whole rays (one-pixel halo) at the detector's own
        threshold, ``completeness_short`` and ``_long`` (rays up to 3 px and from 8 px), ``seconds_per_mpixel``.
    scores : dict
        ``(detector, set)`` to `crcore.metrics.PixelScores`.
    """
    rows, pooled_scores = [], {}
    for test_set in progress(sets) if progress else sets:
        seconds, frames, thresholds = {}, {}, {}
        objects = {name: ObjectScores(halo_px=1) for name in detectors}
        for path in test_set.paths:
            one = TestSet(test_set.name, test_set.data, (path,))
            masks = {}
            scored, scores = evaluate(detectors, [one], seconds=seconds, keep=masks)
            sequence = read_sequence(path)
            truth, use = sequence.cr[0] > 0, sequence.judged(0)
            source = (sequence.ignore[0] & SOURCE) > 0
            for name, packed in masks[path].items():
                mask = np.unpackbits(packed, axis=1, count=truth.shape[1]).astype(bool)
                objects[name].add(mask, truth, use, source=source)
            thresholds |= {row["detector"]: row["threshold"] for row in scored}
            for (name, _, yardstick), counted in scores.items():
                if yardstick == "labels":
                    frames.setdefault(name, []).append(counted)
        for name in detectors:
            pooled = PixelScores()
            for counted in frames[name]:
                pooled.merge(counted)
            pooled_scores[name, test_set.name] = pooled
            low, high = bootstrap(frames[name], {"ap": PixelScores.average_precision}, rng)["ap"]
            at = pooled.at_threshold(thresholds[name])
            rays = objects[name].rays
            taken, mpixels = np.sum(seconds[name], axis=0)
            rows.append(
                {
                    "detector": name,
                    "set": test_set.name,
                    "data": test_set.data,
                    "frames": len(frames[name]),
                    "cr_pixels": pooled.positives,
                    "average_precision": pooled.average_precision(),
                    "low": low,
                    "high": high,
                    "threshold": thresholds[name],
                    "recall": at["recall"],
                    "precision": at["precision"],
                    "completeness": objects[name].completeness,
                    "completeness_short": _mean(rays["found"][rays["length_px"] <= 3]),
                    "completeness_long": _mean(rays["found"][rays["length_px"] >= 8]),
                    "purity": objects[name].purity,
                    "seconds_per_mpixel": float(taken / mpixels),
                }
            )
    return rows, pooled_scores


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")


def own_camera(folder, config, rng, *, detector):
    """A camera of one's own: a handful of exposures with rays put into them, and others to judge by.

    The camera is drawn at random; a real one's exposures come from ``crcore inject``.

    Parameters
    ----------
    folder : path-like
        Gets a dataset for `crcore.training.train`, and ``test`` with exposures whose natural rays are known.
    config : GenericStudyConfig
    rng : numpy.random.Generator
    detector : callable
        Finds the rays that the exposures hold already.

    Returns
    -------
    camera : crcore.instruments.Camera
    test_set : crcore.evaluation.TestSet
    """
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
