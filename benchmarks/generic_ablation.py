"""What mattered for ``generic``: the same short training with one thing changed.

CRCORE_DATA=FOLDER python benchmarks/generic_ablation.py -o build/generic_ablation [--table FILE.csv] [--epochs N]

Simulates a quarter of ``generic_data.yaml``, once with a reference's labels and once with exact ones, trains
``config/recipes/generic_short.yaml`` on it for each row, and scores: validation exposures (simulated), real frames that
nothing here was trained on (``unseen.py``), and stars of those that are harmed. Finished rows are resumed.
"""

import argparse
import dataclasses
import time
import warnings
from pathlib import Path

import yaml
from unseen import judge

from crcore import results
from crcore.detection import NetworkDetector
from crcore.evaluation import TestSet, evaluate
from crcore.paths import user_data
from crcore.progress import report
from crcore.recipe import read_recipe
from crcore.release import labelled_files, train_model
from crcore.simulate.datasets import SimulationConfig, simulate_dataset

RECIPES = Path(__file__).parents[1] / "config" / "recipes"
LCO = ("sbig6303", "sinistro", "spectral")

#: changes of the recipe, of its network, and of its data
VARIANTS = {
    "as generic": {},
    "input: the paper's counts": {"recipe": {"input": "counts"}},
    "told the widths of peaks (census)": {"network": {"census": True}},
    "LCO's cameras only": {"cameras": LCO},
    "a source weighs a third": {"recipe": {"source_weight": 0.3}},
    "sources ignored": {"recipe": {"source_weight": 0.0}},
    "single hot pixels count": {"recipe": {"hot_weight": 0.5}},
    "labels by chance": {"recipe": {"soft_labels": True}},
    "a ray on a source weighs a third": {"recipe": {"source_ray_weight": 0.3}},
    "mean of weights, at one rate": {"recipe": {"schedule": "constant", "average_epochs": 10}},
    "by Adam": {"recipe": {"optimizer": "adam", "lr": 3.0e-3}},
    "labels exact": {"labels": "truth"},
    "a level less": {"network": {"depth": 2}},
    "no layer at full resolution": {"network": {"fine": 0}},
    "half the width": {"network": {"width": 8}},
}


def dataset(folder, labels):
    """A quarter of generic's data, with labels of a kind; the images are the same."""
    settings = yaml.safe_load((RECIPES / "generic_data.yaml").read_text())
    settings["sequences"] = {k: [max(n // 4, 2) if n else 0 for n in v] for k, v in settings["sequences"].items()}
    config = SimulationConfig(**settings | {"labels": labels})
    simulate_dataset(folder, config, progress=lambda jobs: report(jobs, f"simulating, labels: {labels}"))
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    base = dataclasses.replace(read_recipe(RECIPES / "generic_short.yaml"), epochs=args.epochs)
    kinds = {"reference", *(VARIANTS[name].get("labels", "reference") for name in args.only)}
    made = {labels: dataset(args.output / "data" / labels, labels) for labels in sorted(kinds)}
    sets = [TestSet("unseen exposures, simulated", "simulated", tuple(labelled_files(made["reference"], "valid")))]
    real = user_data()
    real_sets = ("lowell", "lco", "slit") if real else ()
    rows = []
    for name, change in ((n, VARIANTS[n]) for n in args.only):
        data = made[change.get("labels", "reference")]
        if "cameras" in change:
            data = _of_cameras(data, change["cameras"], args.output)
        network = dataclasses.replace(base.network, **change.get("network", {}))
        recipe = dataclasses.replace(base, network=network, **change.get("recipe", {}))
        model = train_model(recipe, data, args.output / "models" / name.replace(" ", "_").replace("'", ""))
        (scored, _) = evaluate({name: NetworkDetector(model)}, sets)
        row = {
            "variant": name,
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "simulated": next(r["average_precision"] for r in scored if r["against"] == "labels"),
        }
        if real:
            *cells, harmed, _ = judge(NetworkDetector(model), real, real_sets)
            row |= dict(zip(real_sets, cells, strict=True)) | {"harmed": harmed}
        rows.append(row)
        print(" | ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
    if args.table:
        results.write_rows(args.table, rows)
        command = f"python benchmarks/generic_ablation.py -o {args.output} --epochs {args.epochs} --table {args.table}"
        if args.only != list(VARIANTS):
            command += " --only " + " ".join(f"'{name}'" if "'" not in name else f'"{name}"' for name in args.only)
        how = results.provenance(seed=base.seed, seconds=time.monotonic() - begun)
        results.write_json(args.table.with_suffix(".json"), {"command": command, "made": how})


def _of_cameras(data, cameras, folder):
    """A dataset of some cameras of another, by links."""
    made = folder / "data" / "_".join(cameras)
    for split in ("train", "valid"):
        for camera in cameras:
            for path in (data / split / camera / "masked_fits").glob("*.fits"):
                link = made / path.relative_to(data)
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.exists():
                    link.symlink_to(path.resolve())
    return made


if __name__ == "__main__":
    main()
