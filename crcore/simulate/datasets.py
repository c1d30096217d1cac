"""Datasets of simulated sequences: drawn, exposed, labelled like real ones, and written with their truth."""

import dataclasses
import hashlib
import shutil
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from crcore import results
from crcore.batch import run_jobs
from crcore.dataset import sha256, write_frame, write_sequence
from crcore.errors import InputError
from crcore.instruments import CAMERAS, Camera, get_camera
from crcore.labeling import KINDS, LabelingConfig, label_sequence
from crcore.labelled import BORDER, NO_DATA, SOURCE
from crcore.simulate.known import label_by_truth
from crcore.simulate.observe import STREAK_SHARE, simulate_sequence
from crcore.simulate.recorded import read_rays
from crcore.simulate.sky import FIELD_KINDS

__all__ = [
    "SimulationConfig",
    "labeling_for",
    "simulate_dataset",
    "simulate_exposures",
    "simulate_labelled",
]

#: the modules that decide what a simulated sequence is
_CODE = (
    "alignment",
    "dataset",
    "deviation",
    "fits_input",
    "frame",
    "instruments",
    "labeling",
    "labelled",
    "preprocess",
    "rejection",
    "simulate",
    "sources",
)

_MANIFEST = (
    "file",
    "split",
    "instrument",
    "data",
    "class",
    "exposure_s",
    "date",
    "filter",
    "ray_source",
    "rays",
    "cr_pixels",
    "true_pixels",
    "true_on_sources",
    "lost_to_sources",
    "sources",
    "pixels",
    "field",
    "refused",
    "seed",
    "revision",
    "key",
    "sha256",
)


#: names of cameras that are drawn at random
_RANDOM = {"random": "imaging", "random_slit": "slit", "random_echelle": "echelle", "random_orbit": "orbit"}


@dataclass(frozen=True)
class SimulationConfig:
    """How much to simulate.

    Attributes
    ----------
    seed : int
        Root of all randomness; sequence k of an instrument has its own stream.
    shape : tuple of int
        Rows and columns of each frame.
    exposure_s : tuple of float
        Range from which exposure times are drawn (logarithmically).
    rate_factor : float
        Multiplies the natural rate of rays.
    crossings : bool
        Let satellites, aeroplanes and asteroids cross fields.
    streak_share : float
        Share of the exposures of fields that a satellite or an aeroplane crosses, where ``crossings`` are let.
    galaxy_factor : float
        Multiplies the number of galaxies of a field.
    recorded : str
        File of recorded rays (`crcore.simulate.recorded.read_rays`) that stand in for simulated ones; none if empty.
    recorded_share : float
        Share of the sequences that get recorded rays.
    visits : int
        Exposures of each field.
    prnu : float
        Largest response from pixel to pixel, RMS, that no flat field has taken out; each sequence draws its own.
    labels : {"appendix A", "truth", "reference"}
        How rays are marked: as the paper labels repeated exposures, or by what is known (`crcore.simulate.known`),
        exactly or with the noise that a median of other visits would have. What is known needs no second visit, has
        rays on sources too, and marks sources without ignoring them.
    field : str
        One kind of sky for all images (`crcore.simulate.sky.FIELD_KINDS`); those of each camera where it is empty.
    sequences : dict
        For each camera, the numbers of sequences for training, validation and test. ``random`` is
        another camera each time (`crcore.instruments.Camera.random`), as are ``random_slit``, ``random_echelle`` and
        ``random_orbit``.
    """

    seed: int = 2021
    shape: tuple[int, int] = (768, 768)
    exposure_s: tuple[float, float] = (100.0, 900.0)
    rate_factor: float = 1.0
    crossings: bool = True
    streak_share: float = STREAK_SHARE
    galaxy_factor: float = 1.0
    prnu: float = 0.0
    recorded: str = ""
    recorded_share: float = 0.5
    visits: int = 3
    labels: str = "appendix A"
    field: str = ""
    sequences: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, length in (("shape", 2), ("exposure_s", 2)):
            value = getattr(self, name)
            if len(value) != length or not all(isinstance(v, int | float) and v > 0 for v in value):
                raise InputError(f"{name} = {value}: {length} positive numbers are needed")
        if self.field and self.field not in FIELD_KINDS:
            raise InputError(f"field = {self.field!r}: use one of {', '.join(FIELD_KINDS)}, or leave it empty")
        if self.labels not in ("appendix A", "truth", "reference"):
            raise InputError(f"labels = {self.labels!r}: use 'appendix A', 'truth' or 'reference'")
        if not 0 <= self.streak_share <= 1:
            raise InputError(f"streak_share = {self.streak_share}: a share between 0 and 1 is needed")
        if not 0 <= self.galaxy_factor <= 100:
            raise InputError(f"galaxy_factor = {self.galaxy_factor}: a number between 0 and 100 is needed")
        if not 0 <= self.prnu < 0.2:
            raise InputError(f"prnu = {self.prnu}: a share between 0 and 0.2 is needed")
        least = 3 if self.labels == "appendix A" else 1
        if self.visits < least:
            raise InputError(f"visits = {self.visits}: at least {least} for labels by {self.labels}")
        if not 0 <= self.recorded_share <= 1:
            raise InputError(f"recorded_share = {self.recorded_share}: a share between 0 and 1 is needed")
        for name, counts in self.sequences.items():
            if name not in _RANDOM:
                get_camera(name)
            if not isinstance(counts, list | tuple) or len(counts) != 3 or not all(isinstance(c, int) for c in counts):
                raise InputError(f"sequences: {name}: {counts}: numbers for training, validation and test are needed")


def labeling_for(camera, labeling=LabelingConfig()):  # noqa: B008
    """How the paper labels this camera: spectra by section 4.4, GMOS as DRAGONS does, all else by appendix A.

    Parameters
    ----------
    camera : crcore.instruments.Camera
    labeling : LabelingConfig, optional
        Thresholds for images.
    """
    if camera.kind != "imaging":
        return KINDS["spectroscopy"]
    return KINDS["gemini"] if camera.name.startswith("GMOS") else labeling


def simulate_exposures(folder, names, config, *, field="galaxies"):
    """Write three exposures of each camera as the telescope would: one file each, no labels.

    Parameters
    ----------
    folder : path-like
        Emptied first.
    names : sequence of str
        Cameras.
    config : SimulationConfig
        Shape, seed, rate; the longest of its exposure times.
    field : str, optional
        Kind of sky.

    Returns
    -------
    dict of str to numpy.ndarray
        What is true of each file, by its name.
    """
    shutil.rmtree(folder, ignore_errors=True)
    truth = {}
    for k, name in enumerate(names):
        observed = simulate_sequence(
            get_camera(name),
            shape=config.shape,
            exposure_s=config.exposure_s[1],
            rng=np.random.default_rng([config.seed, 101, k]),  # no stream of the dataset
            identifier=k + 1,
            rate_factor=config.rate_factor,
            field=field,
            crossings=False,
        )
        for frame, mask in zip(observed.frames, observed.truth, strict=True):
            write_frame(Path(folder) / f"{frame.name}.fits.fz", frame)
            truth[f"{frame.name}.fits.fz"] = mask
    return truth


def simulate_labelled(name, config, labeling=LabelingConfig(), *, exposure_s=900.0, field="sparse"):  # noqa: B008
    """Simulate one sequence of a camera and label it by the camera's variant; a `crcore.labelled.Sequence`."""
    camera = get_camera(name)
    made = simulate_sequence(
        camera,
        shape=config.shape,
        exposure_s=exposure_s,
        rng=np.random.default_rng([config.seed, 102, sorted(CAMERAS).index(name)]),
        field=field,
        crossings=False,
    )
    return label_sequence(made.frames, labeling_for(camera, labeling), truth=made.truth)


def simulate_dataset(folder, config, labeling=LabelingConfig(), *, workers=1, progress=None):  # noqa: B008
    """Simulate sequences of every camera, label them and write them below ``folder``.

    A sequence that is already there with the same settings and code is kept, so that a
    killed run goes on where it was. The split into training, validation and test is by
    sequence: each has a field, a chip and a random stream of its own. A field that cannot
    be labelled (too crowded, crossed by a satellite) is refused as a real one would be,
    and another is drawn; the manifest tells.

    Parameters
    ----------
    folder : path-like
        Gets ``<split>/<camera>/masked_fits/*.fits`` and ``manifest.csv``.
    config : SimulationConfig
        How much.
    labeling : LabelingConfig, optional
        Thresholds for images.
    workers : int, optional
        Processes (see `crcore.batch.run_jobs`).
    progress : callable, optional
        Wraps an iterable with a length, as ``tqdm`` does.

    Returns
    -------
    list of dict
        The manifest: one row a sequence.

    Raises
    ------
    InputError
        When five fields in a row cannot be labelled.
    """
    folder = Path(folder)
    settings = {"simulation": dataclasses.asdict(config), "labeling": dataclasses.asdict(labeling)}
    del settings["simulation"]["sequences"]  # more of them change nothing in those that are there
    if config.recorded:
        read_rays(config.recorded)  # before anything starts: is it there, and whole?
        settings["simulation"]["recorded"] = sha256(config.recorded)
        config = dataclasses.replace(config, recorded=str(Path(config.recorded).resolve()))
    key = hashlib.sha256(repr((settings, results.code_hash(*_CODE))).encode()).hexdigest()[:16]
    jobs = []
    for name, counts in sorted(config.sequences.items()):
        code = zlib.crc32(name.encode())  # each camera has streams of its own, whatever others there are
        splits = [s for s, count in zip(("train", "valid", "test"), counts, strict=True) for _ in range(count)]
        jobs += [(str(folder), split, name, code, k, config, labeling, key) for k, split in enumerate(splits)]
    rows = {}
    bar = iter(progress(jobs)) if progress else None
    for index, result in run_jobs(_simulate_one, jobs, workers=workers):
        if isinstance(result, Exception):
            raise result
        rows[index] = result
        if bar is not None:
            next(bar)
    if bar is not None:
        next(bar, None)  # lets the bar see its end
    rows = [rows[i] for i in range(len(jobs))]
    results.write_rows(folder / "manifest.csv", rows)
    return rows


@cache
def _recorded_rays(path):
    return read_rays(path)


def _simulate_one(folder, split, name, code, k, config, labeling, key):
    """Make one sequence, or find it made; returns its row of the manifest."""
    folder = Path(folder)
    path = folder / split / name / "masked_fits" / f"{name}-{k:04d}_{config.visits}frms_masks.fits"
    card = path.with_suffix(".json")
    if path.exists() and card.exists():
        row = results.read_json(card)
        if row["key"] == key:
            return {column: row[column] for column in _MANIFEST}
    refused = []
    for attempt in range(5):
        seed = [config.seed, code, k, attempt]
        rng = np.random.default_rng(seed)
        camera = Camera.random(rng, _RANDOM[name]) if name in _RANDOM else get_camera(name)
        shortest = 1.0 if camera.kind == "imaging" else 900.0  # spectra: 15 minutes or longer (section 4.4)
        extra = rng.spawn(1)[0]  # what came later draws from a stream of its own: older datasets stay as they are
        injected = bool(config.recorded) and rng.random() < config.recorded_share
        exposure = float(np.round(max(np.exp(rng.uniform(*np.log(config.exposure_s))), shortest)))
        observed = simulate_sequence(
            camera,
            shape=config.shape,
            exposure_s=exposure,
            rng=rng,
            field=config.field or None,
            rate_factor=config.rate_factor,
            identifier=10_000 * (1 + code % 9_999) + k,
            crossings=config.crossings,
            streak_share=config.streak_share,
            galaxy_factor=config.galaxy_factor,
            n_frames=config.visits,
            footprints=_recorded_rays(config.recorded) if injected else None,
            prnu=float(extra.uniform(0, config.prnu)),
        )
        try:
            if config.labels != "appendix A":
                sequence = label_by_truth(observed, extra if config.labels == "reference" else None)
            else:
                sequence = label_sequence(observed.frames, labeling_for(camera, labeling), truth=observed.truth)
            break
        except InputError as error:
            refused.append(str(error))
    else:
        raise InputError(f"{name}, sequence {k}: five fields in a row could not be labelled: {refused[-1]}")
    write_sequence(path, sequence)
    header = sequence.headers[0]
    inside = (sequence.ignore & (BORDER | NO_DATA)) == 0
    rays = (sequence.truth == 1) & inside
    row = {
        "file": str(path.relative_to(folder)),
        "split": split,
        "instrument": name,
        "data": "simulated",
        "class": camera.telescope_class,
        "exposure_s": exposure,
        "date": header["DATE-OBS"][:10],
        "filter": header["FILTER"],
        "ray_source": "recorded" if injected else "simulated",
        "rays": int(sum(observed.n_rays)),
        "cr_pixels": sum(sequence.facts["cr_pixels"]),
        "true_pixels": int(rays.sum()),
        "true_on_sources": int((rays & ((sequence.ignore & SOURCE) > 0)).sum()),
        "lost_to_sources": sum(sequence.facts["lost_to_sources"]),
        "sources": len(sequence.catalog),
        "pixels": int((sequence.ignore == 0).sum()),
        "field": header["FIELD"],
        "refused": "; ".join(refused),
        "seed": " ".join(map(str, seed)),
        "revision": results.provenance()["revision"],
        "key": key,
        "sha256": sha256(path),
    }
    results.write_json(card, row)
    return row
