"""From a recipe and labelled sequences to a released model: train, calibrate, find the threshold, write the card."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits

from crcore import results, zoo
from crcore.calibration import calibrate, expected_calibration_error, operating_curve
from crcore.dataset import read_sequence
from crcore.detection import NetworkDetector
from crcore.errors import InputError
from crcore.metrics import PixelScores
from crcore.training import train, training_seconds

__all__ = ["best_threshold", "labelled_files", "train_model"]

#: what a card says of normalisation over a tile
_TILES = dict.fromkeys(
    ("group", "instance"),
    "Normalisation takes its mean over a tile, so\nprobabilities change a little with the tile. ",
)

_CANDIDATES = np.round(np.concatenate([np.geomspace(0.001, 0.1, 13), np.linspace(0.15, 0.95, 17)]), 4)


def labelled_files(folder, split=None):
    """Labelled sequences of a dataset.

    A manifest with splits decides; else the folders ``train``, ``valid``, ``test``; else
    every fifth sequence is for validation and the others are for training.

    Parameters
    ----------
    folder : path-like
        With ``manifest.csv`` (only what it lists and no review has rejected counts), or
        just with ``masked_fits`` folders in it.
    split : {"train", "valid", "test"}, optional
        All by default.

    Returns
    -------
    list of pathlib.Path
        Sorted.

    Raises
    ------
    InputError
        When there are none.
    """
    folder = Path(folder)
    manifest = folder / "manifest.csv"
    rows = [r for r in results.read_rows(manifest) if r.get("file")] if manifest.exists() else []
    listed = [r for r in rows if r.get("review") != "rejected"]
    if rows and "split" in rows[0]:
        paths = [folder / r["file"] for r in listed if split in (None, r["split"])]
    elif split and (folder / split).is_dir():
        paths = _below(folder / split)
    else:
        paths = sorted(folder / r["file"] for r in listed) if rows else _below(folder)
        if split:  # every fifth sequence is for validation, as in appendix C; none is for tests
            kept = {"train": lambda i: i % 5 != 4, "valid": lambda i: i % 5 == 4}.get(split, lambda i: False)
            paths = [p for i, p in enumerate(paths) if kept(i)]
    if not paths:
        what = f"{split} sequences" if split else "labelled sequences"
        raise InputError(f"{folder}: holds no {what}: run 'crcore simulate' or 'crcore label' first (5 are the least)")
    return sorted(paths)


def _below(folder):
    """Labelled sequences below a folder, sorted; half-written ones, which begin with a dot, are none."""
    return sorted(p for p in folder.rglob("masked_fits/*.fits*") if not p.name.startswith("."))


def best_threshold(model, paths):
    """The threshold with the highest Dice on labelled sequences, and the scores there.

    Returns
    -------
    threshold : float
    scores : crcore.metrics.PixelScores
    """
    detector, scores = NetworkDetector(model), PixelScores()
    for path in paths:
        sequence = read_sequence(path)
        for i in range(len(sequence.data)):
            scores.add(detector(sequence.frame(i)).prob, sequence.cr[i] > 0, sequence.judged(i))
    dice = [scores.at_threshold(t)["dice"] for t in _CANDIDATES]
    best = float(_CANDIDATES[int(np.argmax(dice))]) if np.isfinite(dice).any() else 0.5
    return best, scores


def _kinds(paths):
    """How many of the sequences are simulated and real, and how they are labelled."""
    headers = [fits.getheader(path, 1) for path in paths]
    simulated = sum(bool(header.get("SIMULATE", False)) for header in headers)
    known = sum(header.get("LABELS") == "truth" for header in headers)
    by = {0: "appendix A", len(headers): "what is known"}.get(known, f"what is known ({known}) and by appendix A")
    return f"{simulated} of the former simulated, {len(paths) - simulated} real; labels by {by}"


def _known(paths):
    """Sequences labelled by what is known, of simulated ones: a median of few visits shows no faint rims. Else all."""
    headers = [fits.getheader(path, 1) for path in paths]
    if not all(header.get("SIMULATE", False) for header in headers):  # what is real decides beside them
        return paths
    return [p for p, header in zip(paths, headers, strict=True) if header.get("LABELS") == "truth"] or paths


def _ties(share, top):
    """What a card says where many ray pixels have one probability, the highest."""
    if share < 0.01:
        return ""
    return (
        f"- {share:.0%} of the ray pixels share the highest probability, {top:.3f}: no threshold tells them apart.\n\n"
    )


def train_model(recipe, data, folder, *, command="", **options):
    """Train by a recipe and release the result as a model folder.

    Parameters
    ----------
    recipe : crcore.recipe.Recipe
    data : path-like or sequence of path-like
        With ``train/`` and ``valid/`` as `crcore.simulate.datasets.simulate_dataset` writes them. Where all validation
        sequences are simulated, and some labelled by what is known, these alone give calibration and threshold.
    folder : path-like
        The model's folder; its name is the model's. Checkpoints go to ``<folder>-training``.
    command : str, optional
        What was typed, for the card.
    **options
        ``resume``, ``devices``, ``say``, ``progress`` of `crcore.training.train`.

    Returns
    -------
    crcore.zoo.Model, or None in a process that only helps another
    """
    folder = Path(folder)
    data = [data] if isinstance(data, str | Path) else data
    training, validation = ([p for d in data for p in labelled_files(d, split)] for split in ("train", "valid"))
    work = folder.with_name(folder.name + "-training")
    network, log = train(recipe, training, validation, work, **options)
    if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return None
    model = zoo.Model(folder.name, network, recipe.network, recipe.input)
    deciding = _known(validation)
    calibrate(model, best_threshold(model, deciding)[1])
    threshold, scores = best_threshold(model, deciding)
    share = scores.positives / max(scores.positives + scores.negatives, 1)
    model = dataclasses.replace(model, threshold=threshold, share=share, curve=operating_curve(scores))
    parameters = sum(p.numel() for p in network.parameters())
    at = scores.at_threshold(threshold)
    made = results.provenance(seed=recipe.seed)
    prob, rays, _ = scores.histogram()
    top, ties = prob[-1], rays[-1] / max(scores.positives, 1)
    limits = "faint rays on bright sources are missed more often than on the sky.\n"
    if not recipe.source_weight:
        limits = (
            "sources' rims are ignored in training labels, as in the paper,\n"
            "so rays on top of sources are not expected to be found. "
        )
    chose = "chose the epoch" if recipe.keep == "best" else "were watched; the last epoch was kept"
    if recipe.average_epochs:
        chose = f"were watched; the mean of the last {recipe.average_epochs} epochs was kept"
    card = f"""# {folder.name}

{recipe.network.architecture}, width {recipe.network.width}, {recipe.network.norm} normalisation:
{parameters:,} parameters.
Input: {recipe.input}. Loss: {recipe.loss}. Threshold: {threshold} (highest Dice on validation data).
Probabilities are calibrated on validation data (Platt scaling, inside the last convolution).

- Made by: `{command}`
- Data: {len(training)} training and {len(deciding)} validation sequences ({len(validation)} {chose}),
  {_kinds(training)}.
- Length: {log[-1]["epoch"]} epochs, {log[-1]["stamps"]} stamps of {recipe.stamp_px} pixels;
  {training_seconds(work):.0f} seconds.
- Validation: average precision {scores.average_precision():.4f}, TPR {scores.tpr_at_fpr(1e-4):.4f} at 0.01% FPR,
  precision {at["precision"]:.3f} and recall {at["recall"]:.3f} at the threshold; {scores.positives} ray pixels,
  one for {1 / max(share, 1e-9):,.0f}; expected calibration error above 0.01: {expected_calibration_error(scores):.3f}.
- Code {made["code"]}, torch {made["versions"].get("torch", "?")}, seed {recipe.seed}.

{_ties(ties, top)}Limits: {limits}{_TILES.get(recipe.network.norm, "")}License: BSD-3-Clause.
"""
    zoo.save(folder, model, card=card, recipe=recipe)
    results.write_rows(folder / "log.csv", log)
    return model
