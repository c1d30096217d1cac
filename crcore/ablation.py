"""Which part of the recipe does what (appendix B, Table 3): variants that differ in one thing, and whole grids of them.

``python -m crcore.ablation GRID.yaml -o FOLDER`` trains and scores every combination of a grid with several
seeds, over the cores of the machine; killed, it goes on where it was.
"""

import argparse
import dataclasses
import itertools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from crcore import results, zoo
from crcore.batch import run_jobs
from crcore.config import from_mapping, read_yaml
from crcore.dataset import read_sequence, sha256
from crcore.detection import NetworkDetector
from crcore.errors import InputError
from crcore.evaluation import TestSet, evaluate
from crcore.labeling import LabelingConfig
from crcore.labelled import SOURCE
from crcore.recipe import Recipe
from crcore.release import labelled_files
from crcore.simulate.datasets import SimulationConfig, simulate_dataset
from crcore.training import train, training_seconds

__all__ = [
    "Grid",
    "effects",
    "epochs_to",
    "goal_dice",
    "read_grid",
    "recall_by_distance",
    "run_grid",
    "summarise",
    "variant",
]

#: the modules that decide what a finished run is
_CODE = (
    *("dataset", "detection", "evaluation", "losses", "metrics", "networks", "preprocess", "recipe", "sampling"),
    *("tiling", "training"),
)

#: the Dice score whose epoch Table 3 gives
PAPER_DICE = 0.85


@dataclass(frozen=True)
class Grid:
    """Recipes that differ in some settings, in all combinations.

    Attributes
    ----------
    simulation : crcore.simulate.datasets.SimulationConfig
        Data; test sequences of any camera are test sets.
    labeling : crcore.labeling.LabelingConfig
    recipe : crcore.recipe.Recipe
        What all have in common. ``samples_per_epoch`` and ``batch`` are for its own ``stamp_px``: variants
        with other stamps see as many pixels.
    factors : dict
        Name of a setting (``norm`` is the network's) to the values that it takes.
    seeds : int
        Runs of each.
    tiles_px : tuple of int
        Tiles in which each network is scored.
    """

    simulation: SimulationConfig
    labeling: LabelingConfig = LabelingConfig()
    recipe: Recipe = Recipe()
    factors: dict = field(default_factory=dict)
    seeds: int = 3
    tiles_px: tuple[int, ...] = (1024,)

    def __post_init__(self):
        known = {f.name for f in dataclasses.fields(Recipe)} | {"norm"}
        for name, values in self.factors.items():
            if name not in known:
                raise InputError(f"factors: {name!r} is no setting of a recipe: known are {', '.join(sorted(known))}")
            if not isinstance(values, list | tuple) or not values:
                raise InputError(f"factors: {name} = {values!r}: a list of values is needed")
        if "stamp_px" in self.factors and not self.recipe.samples_per_epoch:
            raise InputError(
                "factors: stamp_px needs the recipe's samples_per_epoch, so that variants see equal pixels"
            )

    def variants(self):
        """All combinations as dictionaries of settings, with their recipes (without seeds)."""
        for values in itertools.product(*self.factors.values()):
            settings = dict(zip(self.factors, values, strict=True))
            yield settings, variant(self.recipe, settings)


def variant(recipe, settings):
    """A recipe with other settings that sees as many pixels.

    Batch normalisation gets deepCR's two phases: statistics freeze after two fifths of the epochs.
    """
    changes = dict(settings)
    if "norm" in changes:
        changes["network"] = dataclasses.replace(recipe.network, norm=changes.pop("norm"))
        if changes["network"].norm == "batch":
            changes["freeze_epoch"] = max(1, round(0.4 * recipe.epochs))
    if "stamp_px" in changes:
        more = (recipe.stamp_px / changes["stamp_px"]) ** 2
        changes["batch"] = max(1, round(recipe.batch * more))
        changes["samples_per_epoch"] = max(1, round(recipe.samples_per_epoch * more))
    return dataclasses.replace(recipe, **changes)


def goal_dice(baseline_log):
    """The Dice that variants are timed to: the paper's 0.85, or nine tenths of the best of the baseline if less."""
    best = max(row["dice"] for row in baseline_log)
    return PAPER_DICE if best > PAPER_DICE else 0.9 * best


def epochs_to(log, goal):
    """The first epoch whose validation Dice exceeds ``goal``, or None."""
    return next((row["epoch"] for row in log if row["dice"] > goal), None)


def run_grid(grid, folder, *, workers=2, say=print):
    """Train and score everything in a grid; finished runs are kept.

    Parameters
    ----------
    grid : Grid
    folder : path-like
        Gets data, checkpoints, and one JSON file a run.
    workers : int, optional
        Processes; each computes with one thread.
    say : callable, optional
        Told one line a run.

    Returns
    -------
    list of dict
        One row a run, tile and test set: the settings, ``seed``, ``tile_px``, ``set``, scores of
        `crcore.evaluation.score_row`, ``best_dice``, ``seconds`` of training.

    Raises
    ------
    InputError
        When a run fails; the others are done before.
    """
    folder = Path(folder).resolve()
    simulate_dataset(folder / "data", grid.simulation, grid.labeling, workers=workers)
    jobs = [
        (settings, dataclasses.replace(recipe, seed=seed), str(folder), grid.tiles_px)
        for seed in range(1, grid.seeds + 1)
        for settings, recipe in grid.variants()
    ]
    rows, failed = {}, []
    for count, (index, result) in enumerate(run_jobs(_run_one, jobs, workers=workers), 1):
        settings, recipe = jobs[index][:2]
        if isinstance(result, Exception):
            failed.append(f"{settings}, seed {recipe.seed}: {result}")
            say(f"[{count}/{len(jobs)}] failed: {failed[-1]}")
            continue
        rows[index] = result
        say(
            f"[{count}/{len(jobs)}] {settings}, seed {recipe.seed}: Dice {result[0]['best_dice']:.3f}, "
            f"{result[0]['seconds']:.0f} s"
        )
    if failed:
        raise InputError(f"{len(failed)} of {len(jobs)} runs failed, the first: {failed[0]}")
    return [row for index in sorted(rows) for row in rows[index]]


def _run_one(settings, recipe, folder, tiles_px):
    """One run: what a worker does."""
    import torch

    folder = Path(folder)
    data = folder / "data"
    name = "-".join(str(v) for v in settings.values()) + f"-{recipe.seed}"
    done = folder / "runs" / f"{name}.json"
    state = repr((recipe, tiles_px, sha256(data / "manifest.csv"), results.code_hash(*_CODE)))
    if done.exists() and results.read_json(done)["state"] == state:
        return results.read_json(done)["rows"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one process a core
    try:
        training, validation = labelled_files(data, "train"), labelled_files(data, "valid")
        network, log = train(recipe, training, validation, folder / "training" / name)
        rows = _score(settings, recipe, network, log, data, tiles_px, training_seconds(folder / "training" / name))
    finally:
        torch.set_num_threads(threads)
    results.write_json(done, {"state": state, "rows": rows, "log": log})
    return rows


def _score(settings, recipe, network, log, data, tiles_px, seconds):
    """Rows of one trained network: every test set in every tile."""
    name = "-".join(str(v) for v in settings.values())
    model = zoo.Model(name, network, recipe.network, recipe.input)
    sets = {}
    for row in results.read_rows(data / "manifest.csv"):
        if row["split"] == "test":
            camera = row["instrument"]
            where = "LCO" if camera in ("sbig6303", "sinistro", "spectral") else camera
            sets.setdefault(where, []).append(data / row["file"])
    sets = [TestSet(f"{name}, simulated", "simulated", tuple(paths)) for name, paths in sets.items()]
    rows = []
    for tile in tiles_px:
        scored, _ = evaluate({name: NetworkDetector(model, tile_px=tile)}, sets)
        rows += [
            {**settings, "seed": recipe.seed, "tile_px": tile, **row, "best_dice": max(r["dice"] for r in log),
             "seconds": round(seconds, 1)}
            for row in scored
            if row["against"] == "labels"
        ]  # fmt: skip
    return rows


def summarise(rows, by, value):
    """Mean and range over seeds of one column.

    Parameters
    ----------
    rows : list of dict
    by : sequence of str
        Columns whose combinations are told apart.
    value : str

    Returns
    -------
    list of dict
        The columns of ``by``, ``mean``, ``low``, ``high`` (least and largest), ``n``.
    """
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in by), []).append(row[value])
    return [
        dict(zip(by, key, strict=True))
        | {"mean": float(np.mean(v)), "low": float(min(v)), "high": float(max(v)), "n": len(v)}
        for key, v in groups.items()
    ]


def effects(rows, value="precision_at_95%"):
    """What each factor of a grid does on each test set: differences between runs that agree in everything else.

    Runs of one seed share weights, stamps and test frames, so differences are averaged within a seed first, and
    the error is that over seeds.

    Parameters
    ----------
    rows : list of dict
        From `run_grid`.
    value : str, optional
        Column that is compared.

    Returns
    -------
    dict
        ``"norm: group - batch"`` and so on (first value less last; ``tile_px``: largest less smallest) to the test set
        to ``mean``, ``error`` (95 % half width, Student's t over seeds) and ``seeds``. Training factors are
        compared in the largest tile. The set ``"unseen less LCO"`` is the mean over the other cameras less LCO's.
    """
    settings = [k for k in rows[0] if k in ("stamp_px", "norm", "loss", "tile_px")]
    tiles = [row["tile_px"] for row in rows]
    found = {}
    for factor in settings:
        values = list(dict.fromkeys(row[factor] for row in rows))
        a, b = (max(tiles), min(tiles)) if factor == "tile_px" else (values[0], values[-1])
        if a == b:
            continue
        used = [row for row in rows if factor == "tile_px" or row["tile_px"] == max(tiles)]
        others = [k for k in settings if k != factor]
        table = {(r[factor], r["set"], r["seed"], *(r[k] for k in others)): r[value] for r in used}
        by_set = {}
        for (level, name, seed, *rest), measured in table.items():
            if level == a and (b, name, seed, *rest) in table:
                by_set.setdefault(name, {}).setdefault(seed, []).append(measured - table[b, name, seed, *rest])
        means = {name: np.array([np.mean(d) for _, d in sorted(seeds.items())]) for name, seeds in by_set.items()}
        lco = next((name for name in means if name.startswith("LCO")), None)
        unseen = [means[name] for name in means if name != lco]
        if lco is not None and unseen:
            means["unseen less LCO"] = np.mean(unseen, axis=0) - means[lco]
        found[f"{factor}: {a} - {b}"] = {name: _interval(values) for name, values in means.items()}
    return found


def _interval(values):
    """Mean of a number a seed, and its 95 % half width."""
    n = len(values)
    error = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return {"mean": float(values.mean()), "error": error, "seeds": n}


def recall_by_distance(models, paths, near_px=5, far_px=20):
    """Whether a network shuns rays beside sources: recall near and far, at its own threshold.

    Parameters
    ----------
    models : dict of str to crcore.zoo.Model
    paths : sequence of path-like
        Labelled sequences.
    near_px, far_px : int, optional
        Ray pixels at most, and at least, this far from what the labels ignore as a source.

    Returns
    -------
    dict of str to dict
        ``near``, ``far``: recall; ``pixels_near``, ``pixels_far``: of how many.
    """
    counts = {name: np.zeros(4, dtype=int) for name in models}
    detectors = {name: NetworkDetector(model) for name, model in models.items()}
    for path in paths:
        sequence = read_sequence(path)
        for i in range(len(sequence.data)):
            rays = (sequence.cr[i] > 0) & (sequence.ignore[i] == 0)
            source = (sequence.ignore[i] & SOURCE) > 0
            distance = ndimage.distance_transform_edt(~source) if source.any() else np.full(source.shape, np.inf)
            near, far = rays & (distance <= near_px), rays & (distance >= far_px)
            for name, detector in detectors.items():
                mask = detector(sequence.frame(i)).mask
                counts[name] += [(mask & near).sum(), near.sum(), (mask & far).sum(), far.sum()]
    return {
        name: {
            "near": float(c[0] / max(c[1], 1)),
            "far": float(c[2] / max(c[3], 1)),
            "pixels_near": int(c[1]),
            "pixels_far": int(c[3]),
        }
        for name, c in counts.items()
    }


def read_grid(path):
    """Read a `Grid` from YAML; raises `crcore.errors.InputError` for what it does not know."""
    return from_mapping(Grid, read_yaml(path), str(path))


def main(argv=None):
    """Entry point of ``python -m crcore.ablation``."""
    parser = argparse.ArgumentParser(prog="python -m crcore.ablation", description="Train and score a grid of recipes.")
    parser.add_argument("grid", metavar="GRID.yaml")
    parser.add_argument("-o", "--output", required=True, help="folder for data, checkpoints and results")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--table", metavar="FILE.csv", help="write the rows there too, with how they were made")
    args = parser.parse_args(argv)
    begun = time.monotonic()
    try:
        rows = run_grid(read_grid(args.grid), args.output, workers=args.workers, say=lambda s: print(s, flush=True))
    except InputError as error:
        print(f"crcore: {error}", file=sys.stderr)
        return 2
    results.write_rows(Path(args.output) / "rows.csv", rows)
    if args.table:
        table = Path(args.table)
        results.write_rows(table, rows)
        command = f"python -m crcore.ablation {args.grid} -o {args.output} --workers {args.workers} --table {table}"
        made = results.provenance(seconds=time.monotonic() - begun)
        trained = {(row["detector"], row["seed"]): row["seconds"] for row in rows}
        results.write_json(
            table.with_suffix(".json"),
            {"command": command, "made": made, "runs": len(trained), "training_seconds": round(sum(trained.values()))},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
