"""A camera of one's own, from a folder of its frames to a fine-tuned model and a report: ``crcore camera FOLDER``."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from crcore import evaluation, figures, results
from crcore.contenders import contenders
from crcore.dataset import write_sequence
from crcore.detection import NetworkDetector
from crcore.errors import InputError
from crcore.evaluation import TestSet, discrepancy_panels
from crcore.frame import Frame
from crcore.injection import inject, inject_dataset
from crcore.label_batch import label_batch
from crcore.labeling import KINDS
from crcore.recipe import Recipe
from crcore.release import labelled_files, train_model
from crcore.rivals import sweep
from crcore.sequences import find_exposures
from crcore.tables import Table

__all__ = ["study"]

#: sequences that are enough for labels of one's own: training, validation and test need one each
LEAST_SEQUENCES = 3
LEAST_FRAMES = 4
#: below the output: training, validation and test; made anew by each call, so nobody else's files may stand there
PARTED = "own_camera_data"


def study(source, folder, *, kind="imaging", gain=None, read_noise=None, min_exposure_s=100.0, epochs=8, stamps=200,
          seed=1, every=False, command="", say=print, progress=None):  # fmt: skip
    """Label or inject, judge every detector, fine-tune ``generic``, judge again, and report.

    Three repeated exposures of one field, three times over, are labelled from each other; of fewer, rays are put into
    single frames.

    Parameters
    ----------
    source : path-like
        Folder of frames.
    folder : path-like
        Gets ``own_camera_data``, ``model``, ``scores.csv``, ``report.md`` and a picture of where detectors differ.
    kind : {"imaging", "spectroscopy", "gemini"}, optional
        See `crcore.labeling.KINDS`.
    gain, read_noise, min_exposure_s : optional
        As in ``crcore label``.
    epochs, stamps : int, optional
        Length of the fine-tuning; an epoch has so many stamps.
    seed : int, optional
    every : bool, optional
        All rivals, see `crcore.contenders.contenders`.
    command : str, optional
        What was typed, for the card.
    say : callable, optional
        Told of each step.
    progress : callable, optional
        Wraps a list, as ``tqdm`` does.

    Returns
    -------
    list of dict
        Scores before and after (`crcore.evaluation.score_row`).

    Raises
    ------
    InputError
        For too few frames, or none that can be read.
    """
    source, folder, rng = Path(source), Path(folder), np.random.default_rng(seed)
    shutil.rmtree(folder / PARTED, ignore_errors=True)  # an earlier call may have parted the frames otherwise
    generic, frames = NetworkDetector("generic"), []
    options = {"gain": gain, "read_noise": read_noise}
    how = _labelled(source, folder, KINDS[kind], min_exposure_s, options, say)
    if how is None:
        how, frames = _injected(source, folder, _rays(kind), generic, rng, options, say)
    domain = {"spectroscopy": "spectra", "gemini": "gemini"}.get(kind, "lco")
    ours = ["generic", "NRES" if kind == "spectroscopy" else "ground_imaging"]
    detectors, missing = contenders(ours, domain, sigclips=sweep(6), every=every,
                                    tuning=labelled_files(folder / PARTED, "train")[:1])  # fmt: skip
    for name, reason in missing.items():
        say(f"{name}: not there: {reason}")
    for k, frame in enumerate(frames):  # what any of them finds beforehand counts for none
        path = folder / PARTED / "test" / "masked_fits" / f"injected-test-{k:03d}_1frms_masks.fits"
        write_sequence(path, inject(frame, rng, detector=_Any(detectors), kind=_rays(kind)))
    test = tuple(labelled_files(folder / PARTED / "test"))
    sets = [TestSet("this camera, real", "real", test)]
    recipe = Recipe(
        network=generic.model.config, init="generic", input=generic.model.input, loss="bce", use_ignore=True,
        source_weight=1.0 if how.startswith("rays were put") else 0.0, stamp_px=64, batch=8, epochs=epochs,
        samples_per_epoch=stamps, lr=2e-4, schedule="cosine", validate_every=max(epochs // 4, 1), seed=seed,
    )  # fmt: skip
    model = train_model(recipe, folder / PARTED, folder / "model" / "own_camera", command=command, resume=None)
    detectors["generic, fine-tuned"] = NetworkDetector(replace(model, name="generic, fine-tuned"))
    masks = {}
    rows, _ = evaluation.evaluate(detectors, sets, keep=masks, rng=np.random.default_rng(seed), progress=progress)
    rows = [row for row in rows if row["against"] == "labels"]
    results.write_rows(folder / "scores.csv", rows)
    panels = discrepancy_panels(masks, [replace(sets[0], paths=(path,)) for path in test[:4]])
    picture = figures.discrepancy(panels, list(detectors), title=f"Where detectors differ: {source.name}")
    with results.atomic(folder / "discrepancy.png") as part:
        picture.savefig(part, dpi=130)
    _report(folder, source, how, rows, seed)
    say(f"{folder / 'report.md'}: {len(rows)} detectors on {rows[0]['frames']} frames; model: {folder / 'model'}")
    return rows


class _Any:
    """Finds what any of several detectors finds, each at its own threshold."""

    def __init__(self, detectors):
        self.detectors = detectors

    def __call__(self, frame):
        found = [detector(frame) for detector in self.detectors.values()]
        together = np.any([f.mask for f in found], axis=0)
        return replace(found[0], prob=together.astype(np.float32), threshold=0.5, model="any")


def _rays(kind):
    return "slit" if kind == "spectroscopy" else "imaging"


def _labelled(source, folder, config, min_exposure_s, options, say):
    """Label repeated exposures and part them in three; None where there are too few."""
    try:
        rows = label_batch(source, folder / "labelled", config, min_exposure_s=min_exposure_s, say=say, **options)
    except InputError as error:
        say(f"no repeated exposures to label: {error}")
        return None
    files = [folder / "labelled" / row["file"] for row in rows if row.get("file") and row.get("review") != "rejected"]
    if len(files) < LEAST_SEQUENCES:
        say(f"{len(files)} labelled sequences, {LEAST_SEQUENCES} are needed: rays are put into single frames")
        return None
    for k, path in enumerate(sorted(files)):
        split = ("test", "train", "train", "valid")[k % 4] if len(files) > 3 else ("test", "train", "valid")[k]
        target = folder / PARTED / split / "masked_fits" / path.name
        with results.atomic(target) as part:
            shutil.copyfile(path, part)
    return (
        f"{len(files)} sequences were labelled from their repeated exposures (appendix A); those of one field may "
        "stand on both sides of training and test"
    )


def _injected(source, folder, kind, detector, rng, options, say):
    """Put rays into single frames, but for those to be judged on, which are given back."""
    frames = []
    for path in find_exposures(source)[0]:  # what is left out was told when sequences were looked for
        try:
            frame = Frame.read(path, **options)
            if not frame.bad.all():
                frames.append(frame)
        except InputError as error:
            say(f"left out: {error}")
    if len(frames) < LEAST_FRAMES:
        raise InputError(f"{source}: {len(frames)} frames can be read: {LEAST_FRAMES} are needed")
    n_test = max(1, len(frames) // 4)
    inject_dataset(frames[n_test:], folder / PARTED, rng, detector=detector, kind=kind)
    how = (
        f"rays were put into {len(frames)} single frames: labels are what is known, sources count, and what any of the "
        "detectors found before does not"
    )
    return how, frames[:n_test]


def _report(folder, source, how, rows, seed):
    keys = ("tpr_at_0.01%", "recall", "precision", "completeness", "purity", "seconds_per_mpixel")
    columns = ("Detector", "Average precision [95 %]", "TPR at 0.01% FPR", "Recall", "Precision", "Found", "Purity",
               "s/Mpixel")  # fmt: skip
    lines = []
    for row in sorted(rows, key=lambda row: -np.nan_to_num(row["average_precision"])):
        value, low, high = (row[f"average_precision{end}"] for end in ("", "_low", "_high"))
        first = f"{value:.4f} [{low:.4f}, {high:.4f}]"
        lines.append((row["detector"], first, *(f"{row[key]:.3f}" for key in keys)))
    table = Table("Scores on frames that were neither trained on nor validated with.", columns, tuple(lines))
    made = results.provenance(seed=seed)
    text = "\n".join([
        f"# {source.name}: a camera of one's own", "", f"Here, {how}. {rows[0]['frames']} real frames to judge on, "
        f"with {rows[0]['cr_pixels']} ray pixels.", "", table.markdown(),
        "![Where detectors differ](discrepancy.png)", "",
        "The fine-tuned model is `model/own_camera`: `crcore detect FRAMES -m "
        f"{folder / 'model' / 'own_camera'}`. Trust the intervals, not the difference of two numbers.", "",
        f"crcore {results.version()}, revision {made['revision']}, seed {seed}.", "",
    ])  # fmt: skip
    with results.atomic(folder / "report.md") as part:
        part.write_text(text)
