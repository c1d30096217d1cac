"""``generic`` at other widths: accuracy and speed, for the frontier of notebook 11.

python benchmarks/generic_widths.py -o build/generic_widths [-d DATA] [--table data/results/generic_widths.csv]

Trains ``config/recipes/generic_short.yaml`` at each width on generic's data (``-d``, else simulated in the folder),
scores the imaging set of notebook 11 (laptop profile), and times 2048² on two threads in one run. Resumed where it was
stopped.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from detection import seconds, sky

from crcore import generic_study, results
from crcore.detection import NetworkDetector
from crcore.profiles import load_profile
from crcore.progress import report
from crcore.recipe import read_recipe
from crcore.release import train_model
from crcore.simulate.datasets import SimulationConfig, simulate_dataset

RECIPES = Path(__file__).parents[1] / "config" / "recipes"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-d", "--data", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--widths", type=int, nargs="*", default=[8, 12, 16, 24, 32])
    args = parser.parse_args()
    torch.set_num_threads(2)
    begun = time.monotonic()
    data = args.data or args.output / "data"
    if args.data is None:
        config = SimulationConfig(**yaml.safe_load((RECIPES / "generic_data.yaml").read_text()))
        simulate_dataset(data, config, progress=lambda jobs: report(jobs, "simulating"))
    base = dataclasses.replace(read_recipe(RECIPES / "generic_short.yaml"), epochs=args.epochs)
    study = load_profile("laptop").generic
    only = {"random": study.simulation.sequences["random"]}
    study = dataclasses.replace(study, simulation=dataclasses.replace(study.simulation, sequences=only))
    sets = generic_study.unseen_cameras(args.output / "imaging", study)
    frame, rows = sky(2048), []
    for width in args.widths:
        recipe = dataclasses.replace(base, network=dataclasses.replace(base.network, width=width))
        model = train_model(recipe, data, args.output / "models" / str(width))
        detector = NetworkDetector(model)
        scored, _ = generic_study.score_by_kind({"network": detector}, sets, np.random.default_rng(1))
        taken = seconds(lambda detector=detector: detector(frame), turns=7)
        row = {
            "width": width,
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "average_precision": scored[0]["average_precision"],
            "seconds_per_mpixel": taken / frame.data.size * 1e6,
        }
        rows.append(row)
        print(row, flush=True)
    if args.table:
        results.write_rows(args.table, rows)
        command = f"python benchmarks/generic_widths.py -o {args.output} --epochs {args.epochs} --table {args.table}"
        command += f" -d {args.data}" * bool(args.data) + " --widths " + " ".join(map(str, args.widths))
        how = results.provenance(seed=base.seed, seconds=time.monotonic() - begun)
        results.write_json(args.table.with_suffix(".json"), {"command": command, "made": how})


if __name__ == "__main__":
    main()
