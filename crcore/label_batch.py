"""Label a folder of exposures: all sequences, over processes or a cluster; a manifest accounts for every file."""

import csv
import hashlib
import time
from pathlib import Path

from crcore import results
from crcore.batch import run_jobs
from crcore.dataset import assign_splits, find_reference, sha256, write_sequence
from crcore.errors import InputError
from crcore.fits_input import science_extensions
from crcore.label_files import read_run
from crcore.labeling import LabelingConfig, label_sequence
from crcore.labelled import BORDER, NO_DATA
from crcore.review import contact_sheet, write_index
from crcore.sequences import find_sequences, night_of

__all__ = ["MANIFEST", "label_batch"]

#: columns of the manifest of a labelled folder; ``status``: labelled, left out, failed; ``frames`` are parted by "|"
MANIFEST = (
    "file",
    "status",
    "split",
    "split_by",
    "data",
    "site",
    "camera",
    "night",
    "filter",
    "exposure_s",
    "run",
    "frames",
    "cr_pixels",
    "lost_to_sources",
    "sources",
    "pixels",
    "sheet",
    "review",
    "reason",
    "left_out",
    "key",
    "revision",
    "versions",
    "seconds",
    "sha256",
)

#: the modules that decide what a labelled sequence is
_CODE = (
    "alignment",
    "dataset",
    "deviation",
    "fits_input",
    "frame",
    "label_files",
    "labeling",
    "labelled",
    "rejection",
    "sequences",
    "sources",
)


def label_batch(
    source,
    output,
    config=LabelingConfig(),  # noqa: B008
    *,
    min_exposure_s=100.0,
    gain=None,
    read_noise=None,
    workers=1,
    scheduler=None,
    sheets=True,
    reference=None,
    say=print,
):
    """Find, label and write all sequences of a folder.

    A run of visits that cannot be labelled is explained in the manifest and on the way,
    and stops no other. What was labelled before from the same files, with the same
    settings and code, is kept, with what the review decided.

    Parameters
    ----------
    source : path-like or list of path-like
        Folder or files.
    output : path-like
        Gets ``masked_fits/``, ``contact_sheets/`` and ``manifest.csv``.
    config : crcore.labeling.LabelingConfig, optional
        Thresholds.
    min_exposure_s : float, optional
        Shorter exposures are left out.
    gain, read_noise : float, optional
        In place of what headers say (electrons per unit of the data; electrons).
    workers, scheduler : int, str, optional
        See `crcore.batch.run_jobs`.
    sheets : bool, optional
        Draw contact sheets.
    reference : path-like, optional
        Folder with known masks (see `crcore.dataset.find_reference`); they travel in ``TRUTH`` extensions.
    say : callable, optional
        Told one line per file or sequence.

    Returns
    -------
    list of dict
        The manifest.

    Raises
    ------
    InputError
        When no sequence is found, or two would be written under one name.
    """
    output = Path(output).resolve()
    old = _old_manifest(output)
    reference = None if reference is None else Path(reference).resolve()
    runs, rejected = find_sequences(source, min_exposure_s=min_exposure_s)
    rejected = [(path, why) for path, why in rejected if output not in path.resolve().parents]  # our own products
    runs = [[path.resolve() for path in run] for run in runs]  # workers may have another current folder
    left = [_row(status="left out", frames=path.name, left_out=reason) for path, reason in rejected]
    for path, reason in rejected:
        say(f"left out: {path}: {reason}")
    if not runs:
        raise InputError(f"{_named(source)}: no three consecutive exposures of one field found")
    names = [run[0].name.split(".fits")[0] for run in runs]
    names = [f"{run[0].parent.name}-{n}" if names.count(n) > 1 else n for run, n in zip(runs, names, strict=True)]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)}: several sequences would be written under this name: rename the files")
    jobs, done = [], {}
    for run, name in zip(runs, names, strict=True):
        key = _key(run, config, gain, read_noise, reference)
        mine = [r for r in old if r["key"] == key]
        files = [r for r in mine if r["file"]]
        wanted = ("file", "sheet") if sheets else ("file",)
        if files and all(r[k] and (output / r[k]).is_file() for r in files for k in wanted):
            done[len(jobs)] = mine
        jobs.append((run, str(output), name, config, gain, read_noise, sheets, reference, key))
    others = [r for r in old if r["file"] and r["run"] not in names and (output / r["file"]).is_file()]
    todo = [i for i in range(len(jobs)) if i not in done]
    if done:
        say(f"{len(done)} of {len(jobs)} runs of visits were labelled before and are kept")
    rows = _collect(output, others, done, left, old)
    for count, (index, result) in enumerate(
        run_jobs(label_run, [jobs[i] for i in todo], workers=workers, scheduler=scheduler), 1
    ):
        run, name = runs[todo[index]], names[todo[index]]
        if not isinstance(result, Exception):
            files = [output / r["file"] for r in result if r["file"]]
            missing = [path for path in files if not path.is_file()]
            if missing:
                result = InputError(f"{missing[0]}: a worker has written it elsewhere: do all see the same folders?")
        if isinstance(result, Exception):
            reason = str(result) if isinstance(result, InputError) else f"{type(result).__name__}: {result}"
            result = [_row(status="failed", frames="|".join(p.name for p in run), left_out=reason)]
            say(f"[{count}/{len(todo)}] failed: {reason}")
        else:
            pixels = sum(int(r["cr_pixels"]) for r in result if r["file"])
            say(f"[{count}/{len(todo)}] {name}: {len(files)} sequences of three, {pixels} pixels of rays")
        done[todo[index]] = result
        rows = _collect(output, others, done, left, old)  # after each: an interrupted batch loses nothing
    if sheets and any(r["sheet"] for r in rows):
        write_index(output)
    return rows


def _collect(output, others, done, left, old):
    """Write the manifest of what is there so far; splits and reviews of known sequences stay."""
    labelled = [*others, *(r for i in sorted(done) for r in done[i])]
    known = {(r["file"], r["sha256"]): r for r in old if r["file"]}
    files = [r for r in labelled if r["file"]]
    for row in files:
        before = known.get((row["file"], row["sha256"]))
        if before:
            row.update({k: before[k] for k in ("split", "split_by", "review", "reason")})
        else:  # of this call: what was said of it before the others came does not count
            row.update(split="", split_by="")
    assign_splits(files)
    rows = labelled + left
    results.write_rows(output / "manifest.csv", rows)
    return rows


def label_run(paths, output, name, config, gain, read_noise, sheets, reference, key):
    """Label one run of visits and write its sequences of three: what a worker does. Returns manifest rows.

    Each chip of a mosaic is labelled by itself; a chip that cannot be does not hide the others.
    """
    begun = time.monotonic()
    extensions = science_extensions(paths[0])
    if len(extensions) == 1:
        extensions = [None]  # each file says itself where its image is
    # a reference mask is of one image: nothing says of which chip of a mosaic
    whole = reference is not None and len(extensions) == 1
    known = (lambda path: find_reference(reference, path.name)) if whole else None
    rows, failed = [], []
    for chip, ext in enumerate(extensions, 1):
        label = name if len(extensions) == 1 else f"{name}-chip{chip}"
        try:
            frames, truth = read_run(paths, ext=ext, gain=gain, read_noise=read_noise, reference=known)
            rows += _write_threes(label_sequence(frames, config, truth=truth), Path(output), name, label, sheets)
        except InputError as error:
            if len(extensions) == 1:
                raise
            reason = f"chip {chip} (extension {ext}): {error}"
            failed.append(_row(status="failed", frames="|".join(p.name for p in paths), left_out=reason))
        frames = truth = None  # memory for the next
    if len(failed) == len(extensions):
        raise InputError("; ".join(row["left_out"] for row in failed))
    rows += failed
    seconds = round((time.monotonic() - begun) / sum(bool(row["file"]) for row in rows), 1)
    made = results.provenance()
    versions = " ".join(f"{k}={made['versions'].get(k, '')}" for k in ("astropy", "numpy", "sep", "reproject"))
    for row in rows:
        row.update(key=key, revision=made["revision"], versions=versions, seconds=seconds)
    return rows


def _write_threes(labelled, output, name, label, sheets):
    """Write a labelled run in sequences of three, with contact sheets; returns manifest rows."""
    parts = labelled.threes()
    used = {n for part in parts for n in part.names}
    spare = [n for n in labelled.names if n not in used]
    rows = [_row(status="left out", frames=n, left_out=why) for n, why in labelled.facts["left_out"].items()]
    rows += [_row(status="left out", frames=n, left_out="left over after cutting into threes") for n in spare]
    for number, part in enumerate(parts, 1):
        file = f"masked_fits/{label}-{number:02d}_3frms_masks.fits"
        write_sequence(output / file, part)
        sheet = f"contact_sheets/{label}-{number:02d}.png"
        if sheets:
            contact_sheet(output / sheet, part)
        header = part.headers[0]
        rows.append(
            _row(
                file=file,
                status="labelled",
                data="simulated" if part.simulated else "real",
                site=header.get("SITEID", header.get("TELESCOP", "")),
                camera=header.get("INSTRUME", ""),
                night=night_of(header),
                filter=header.get("FILTER", ""),
                exposure_s=header.get("EXPTIME", ""),
                run=name,
                frames="|".join(part.names),
                cr_pixels=sum(part.facts["cr_pixels"]),
                lost_to_sources=sum(part.facts["lost_to_sources"]),
                sources=len(part.catalog),
                pixels=int(((part.ignore & (BORDER | NO_DATA)) == 0).sum()),
                sheet=sheet if sheets else "",
                sha256=sha256(output / file),
            )
        )
    return rows


def _row(**values):
    return {column: values.get(column, "") for column in MANIFEST}


def _named(source):
    return ", ".join(map(str, source[:3])) if isinstance(source, list | tuple) else source


def _key(run, config, gain, read_noise, reference):
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in run]
    masks = sorted((p.name, p.stat().st_mtime_ns) for p in (reference / "truth").glob("*")) if reference else None
    state = (files, config, gain, read_noise, masks, results.code_hash(*_CODE))
    return "k" + hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def _old_manifest(output):
    """Rows of an earlier call, all as text; a file of that name that is none of ours is not touched."""
    path = output / "manifest.csv"
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    if reader.fieldnames != list(MANIFEST) and (rows or reader.fieldnames != ["empty"]):
        raise InputError(f"{path}: is no manifest of this version of 'crcore label': choose another output folder")
    return rows
