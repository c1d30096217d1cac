"""Detectors on simulated sequences of every camera of the paper, enough of them to tell detectors apart.

python benchmarks/simulated.py MODEL ... [--rivals [WORD ...]] -o FOLDER [--table data/results/generic_simulated.csv]

The notebooks' own test sets have one or two sequences a camera in the ``laptop`` profile. Here are 46, with a seed of
their own: none was trained on. Average precision, against what was put in and against labels by appendix A, with 95 %
intervals by frame, and that of the first model less each detector's, both on the same frames in each draw. ``--rivals``
takes the released detectors, those alone whose names hold one of the words where there are any. FOLDER keeps sequences
and scores, so that what has not changed is not judged again.
"""

import argparse
import dataclasses
import shlex
import time
import warnings
from pathlib import Path

import numpy as np
from unseen import RIVALS, detectors_asked_for

from crcore import results
from crcore.evaluation import TestSet, evaluate, pool
from crcore.judging import SHOWN
from crcore.metrics import PixelScores, bootstrap, bootstrap_difference
from crcore.profiles import load_profile
from crcore.progress import report
from crcore.rivals import ReleasedDeepCR
from crcore.simulate.datasets import simulate_dataset

#: sequences of three visits of each camera; rays are few where exposures are short
SEQUENCES = {
    "simulation": {"sbig6303": 12, "sinistro": 8, "spectral": 8, "gmosn_1x1": 4, "gmoss_2x2": 4},
    "hst": {"acs_wfc": 4},
    "spectra": {"nres": 4, "longslit": 2},
}
SEED = 90210
LCO = {"sbig6303": "LCO 0.4 m", "sinistro": "LCO 1 m", "spectral": "LCO 2 m"}
NAMES = LCO | SHOWN | {"acs_wfc": "HST ACS/WFC"}


def simulated_sets(folder):
    """The test sets, as the ``laptop`` profile observes them, of 512 x 512 pixels."""
    profile, sets = load_profile("laptop"), []
    for k, (part, cameras) in enumerate(SEQUENCES.items()):
        counts = {camera: (0, 0, n) for camera, n in cameras.items()}
        config = dataclasses.replace(getattr(profile, part), seed=SEED + k, shape=(512, 512), sequences=counts)
        rows = simulate_dataset(folder / part, config, progress=lambda jobs: report(jobs, "simulating"))
        for camera in cameras:
            paths = tuple(folder / part / row["file"] for row in rows if row["instrument"] == camera)
            sets.append(TestSet(f"{NAMES[camera]}, simulated", "simulated", paths))
    return sets


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rivals", nargs="*", metavar="WORD")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    rivals = RIVALS | {"deepCR DECam (released)": lambda: ReleasedDeepCR("decam")}
    detectors = detectors_asked_for(parser, args.models, args.rivals, rivals)
    if len(detectors) < 2:
        parser.error("name another model, or --rivals: the table says what is better than what")
    sets = simulated_sets(args.output)
    _, scores = evaluate(detectors, sets, progress=lambda jobs: report(jobs, "judging"), cache=args.output / "judged")
    scores |= pool(scores, [f"{name}, simulated" for name in LCO.values()], "LCO, simulated")
    rows, first = [], next(iter(detectors))
    for (detector, name, against), judged in sorted(scores.items(), key=lambda item: (item[0][1:], item[0][0])):
        low, high = bootstrap(judged.frames, {"ap": PixelScores.average_precision}, np.random.default_rng(1))["ap"]
        row = {"set": name, "against": against, "frames": len(judged.frames), "cr_pixels": judged.pixels.positives}
        row |= {"detector": detector, "average_precision": judged.pixels.average_precision(), "low": low, "high": high}
        row |= {"first_less_this": "", "difference_low": "", "difference_high": ""}
        if detector != first:
            best = scores[first, name, against]
            row["first_less_this"] = best.pixels.average_precision() - row["average_precision"]
            row["difference_low"], row["difference_high"] = bootstrap_difference(
                best.frames, judged.frames, PixelScores.average_precision, np.random.default_rng(1)
            )
        rows.append(row)
        print(" | ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
    if args.table:
        results.write_rows(args.table, rows)
        options = [*args.models, *([] if args.rivals is None else ["--rivals", *args.rivals]), "-o", str(args.output)]
        command = shlex.join(["python", "benchmarks/simulated.py", *options, "--table", str(args.table)])
        how = results.provenance(seed=SEED, seconds=time.monotonic() - begun)
        results.write_json(args.table.with_suffix(".json"), {"command": command, "made": how})


if __name__ == "__main__":
    main()
