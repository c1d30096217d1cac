"""Leave one instrument out: train without its simulator, and look how well it is read all the same.

``python -m crcore.leave_one_out RECIPE.yaml -d DATA -o FOLDER`` trains one network on all cameras of a dataset and one
without each group, and scores them on the validation exposures of that group, which none has seen.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

from crcore import results, zoo
from crcore.detection import NetworkDetector
from crcore.errors import InputError
from crcore.evaluation import TestSet, evaluate
from crcore.recipe import read_recipe
from crcore.training import train, training_seconds

__all__ = ["GROUPS", "leave_one_out"]

#: what is left out together: cameras that share optics and silicon
GROUPS = {
    "LCO": ("sbig6303", "sinistro", "spectral"),
    "GMOS": ("gmosn_1x1", "gmosn_2x2", "gmoss_1x1", "gmoss_2x2"),
    "ACS/WFC": ("acs_wfc", "random_orbit"),
    "NRES": ("nres", "random_echelle"),
    "long slit": ("longslit", "random_slit"),
}


def leave_one_out(recipe, data, folder, *, groups=GROUPS, say=print):
    """Train and score; finished runs are resumed from their checkpoints.

    Parameters
    ----------
    recipe : crcore.recipe.Recipe
    data : path-like
        A dataset of `crcore.simulate.datasets.simulate_dataset` with training and validation sequences.
    folder : path-like
        Gets checkpoints.
    groups : dict, optional
        Name to the cameras that are left out together; those without a validation sequence are passed over.
    say : callable, optional
        Told one line a run.

    Returns
    -------
    list of dict
        ``left_out`` (empty: nothing), ``set``, and the scores of `crcore.evaluation.score_row`.

    Raises
    ------
    InputError
        When the dataset has no manifest, or nothing is left to train on.
    """
    data, folder = Path(data), Path(folder)
    manifest = data / "manifest.csv"
    if not manifest.exists():
        raise InputError(f"{manifest}: no such file: run 'crcore simulate' first")
    listed = results.read_rows(manifest)

    def files(split, cameras, inside):
        return [data / r["file"] for r in listed if r["split"] == split and (r["instrument"] in cameras) is inside]

    tests = {name: tuple(files("valid", cameras, True)) for name, cameras in groups.items()}
    tests = {name: paths for name, paths in tests.items() if paths}
    rows = []
    for left_out in ("", *tests):
        cameras = groups.get(left_out, ())
        training, validation = files("train", cameras, False), files("valid", cameras, False)
        if not training or not validation:
            raise InputError(f"without {left_out} nothing is left to train on: use a dataset with more cameras")
        name = left_out.replace("/", "-").replace(" ", "-") or "all"
        network, log = train(recipe, training, validation, folder / name)
        detector = NetworkDetector(zoo.Model(name, network, recipe.network, recipe.input))
        for test in [left_out] if left_out else tests:
            one = TestSet(f"{test}, simulated", "simulated", tests[test])
            scored, _ = evaluate({name: detector}, [one], rng=np.random.default_rng(recipe.seed))
            best = {"best_dice": max(row["dice"] for row in log)}
            seconds = {"seconds": round(training_seconds(folder / name), 1)}
            rows += [{"left_out": left_out, **row, **best, **seconds} for row in scored if row["against"] == "labels"]
        say(f"without {left_out or 'nothing'}: " + ", ".join(
            f"{r['set']}: AP {r['average_precision']:.4f}" for r in rows if r["left_out"] == left_out))  # fmt: skip
    return rows


def main(argv=None):
    """Entry point of ``python -m crcore.leave_one_out``."""
    parser = argparse.ArgumentParser(
        prog="python -m crcore.leave_one_out", description="Train without each instrument."
    )
    parser.add_argument("recipe", metavar="RECIPE.yaml")
    parser.add_argument("-d", "--data", required=True, help="dataset with training and validation sequences")
    parser.add_argument("-o", "--output", required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--table", metavar="FILE.csv", help="write the rows there, with how they were made")
    args = parser.parse_args(argv)
    begun = time.monotonic()
    try:
        recipe = read_recipe(args.recipe)
        recipe = dataclasses.replace(recipe, epochs=args.epochs) if args.epochs else recipe
        rows = leave_one_out(recipe, args.data, args.output, say=lambda s: print(s, flush=True))
    except InputError as error:
        print(f"crcore: {error}", file=sys.stderr)
        return 2
    if args.table:
        table = Path(args.table)
        results.write_rows(table, rows)
        options = f" --epochs {args.epochs}" if args.epochs else ""
        command = (
            f"python -m crcore.leave_one_out {args.recipe} -d {args.data} -o {args.output}{options} --table {table}"
        )
        made = results.provenance(seed=recipe.seed, seconds=time.monotonic() - begun)
        results.write_json(table.with_suffix(".json"), {"command": command, "made": made})
    return 0


if __name__ == "__main__":
    sys.exit(main())
