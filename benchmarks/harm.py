"""Stars that detectors harm at equal completeness, on enough of them to tell detectors apart.

python benchmarks/harm.py [MODEL ...] [--rivals [WORD ...]] -o FOLDER [--fields N] [--table FILE.csv]

Notebook 11 has some 800 stars a width in the ``laptop`` profile, of which few are harmed at 2 px. Here each detector's
threshold falls until it finds a share of the ray pixels, away from sources, of 48 simulated exposures by cameras drawn
at random; at that threshold stars of other simulated exposures, of one width each and without a ray, are harmed where
a pixel of their core reaches it. Saturated stars are left out. Intervals of 95 %, and of the first model's stars harmed
per 1,000 less those of each other detector, draw exposures with rays and fields of stars anew, the same for all in each
draw; where no star is harmed they are [0, 0], which up to three in so many stars would not contradict. FOLDER keeps the
exposures with rays. Astro-SCRAPPY has eleven settings of ``sigclip``: it is taken at the first that finds as much. The
table is ``data/results/generic_harm.csv``.
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
from crcore.dataset import read_sequence
from crcore.generic_study import unseen_cameras
from crcore.harm import harm_at_recall, harm_by_width
from crcore.metrics import PixelScores, draws
from crcore.profiles import load_profile
from crcore.progress import report
from crcore.rivals import AstroScrappy, ReleasedDeepCR, sweep

SEED, EXPOSURES, DRAWS = 90220, 48, 1000
WIDTHS_PX = (1.5, 2.0, 2.5, 3.0, 5.0, 8.0)
RECALLS = (0.80, 0.85, 0.90, 0.92, 0.95, 0.97, 0.99)


def rays_found(detectors, folder):
    """Each detector's `PixelScores.sparse` of each exposure with rays."""
    config = load_profile("laptop").generic
    observed = dataclasses.replace(config.simulation, seed=SEED, sequences={"random": (0, 0, EXPOSURES)})
    (exposures,) = unseen_cameras(
        folder, dataclasses.replace(config, simulation=observed), progress=lambda jobs: report(jobs, "simulating")
    )
    scores = {name: [] for name in detectors}
    for path in report(exposures.paths, "exposures with rays"):
        sequence = read_sequence(path)
        for name, detector in detectors.items():
            found, frame = detector(sequence.frame(0)), PixelScores()
            frame.add(np.where(found.not_evaluated, 0, found.prob), sequence.cr[0] > 0, sequence.judged(0))
            scores[name].append(frame.sparse())
    return scores


def core_peaks(detectors, fields):
    """Detector and width to the highest probability in the core of each star, one array a field."""
    peaks, rng = {(name, width): [] for width in WIDTHS_PX for name in detectors}, np.random.default_rng(SEED + 1)
    for width, _ in report([(w, k) for w in WIDTHS_PX for k in range(fields)], "fields of stars"):
        harm_by_width(detectors, (width,), rng, fields=1, keep=(of_field := {}))
        for name in detectors:
            peaks[name, width].append(of_field[name, width])
    return peaks


def thresholds_drawn(frames, pooled, taken):
    """Bin where each share of the ray pixels is found, (draws, shares); NaN where it is not reached."""
    bins, prob = pooled.sparse()[0], pooled.histogram()[0]
    rays = np.zeros((len(frames), len(bins)))
    for row, (own, _, counts) in zip(rays, frames, strict=True):
        row[np.searchsorted(bins, own)] = counts
    thresholds = np.full((len(taken), len(RECALLS)), np.nan)
    for row, times in zip(thresholds, taken, strict=True):
        found = np.cumsum((times @ rays)[::-1])
        place = np.minimum(np.searchsorted(found, np.array(RECALLS) * found[-1]), len(bins) - 1)
        row[:] = np.where(prob[::-1][place] < 1e-6, np.nan, bins[::-1][place])  # as in `harm_at_recall`
    return thresholds


def harmed_drawn(peaks, thresholds, taken):
    """Stars harmed per 1,000 at each draw's thresholds; NaN where the share is not reached."""
    fields = []
    for peak in peaks:
        stars = PixelScores()
        stars.add(peak.astype(np.float32), np.ones(len(peak), dtype=bool))
        bins, _, counts = stars.sparse()
        fields.append(np.repeat(bins, counts))
    stars = np.array([len(field) for field in fields])
    result = np.full(thresholds.shape, np.nan)
    for row, limits, times in zip(result, thresholds, taken, strict=True):
        harmed = np.array([len(field) - np.searchsorted(field, limits) for field in fields])
        row[:] = np.where(np.isnan(limits), np.nan, 1000 * (times @ harmed) / (times @ stars))
    return result


def interval(values):
    """95 % of the draws; empty where more than one in forty does not reach the share."""
    return np.nanpercentile(values, [2.5, 97.5]) if np.isnan(values).mean() < 0.025 else ("", "")


def table_rows(scores, peaks):
    rng = np.random.default_rng(SEED + 2)
    first, taken = next(iter(scores)), draws(EXPOSURES, DRAWS, rng)
    pooled = {name: PixelScores.from_sparse(*frames) for name, frames in scores.items()}
    thresholds = {name: thresholds_drawn(frames, pooled[name], taken) for name, frames in scores.items()}
    rows = []
    for width in WIDTHS_PX:
        taken, at_first = draws(len(peaks[first, width]), DRAWS, rng), {}
        harmed = {name: harmed_drawn(peaks[name, width], thresholds[name], taken) for name in scores}
        for name in scores:
            for found in harm_at_recall(pooled[name], np.concatenate(peaks[name, width]), RECALLS):
                k, share = RECALLS.index(found["recall"]), 1000 * found["harmed"] / found["stars"]
                row = {"fwhm_px": width, "recall": found["recall"], "detector": name, "threshold": found["threshold"]}
                row |= {"stars": found["stars"], "harmed": found["harmed"], "per_1000": share}
                row["low"], row["high"] = interval(harmed[name][:, k])
                row |= {"first_less_this": "", "difference_low": "", "difference_high": ""}
                if name == first:
                    at_first[k] = share
                elif k in at_first:
                    row["first_less_this"] = at_first[k] - share
                    row["difference_low"], row["difference_high"] = interval(harmed[first][:, k] - harmed[name][:, k])
                rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["generic"])
    parser.add_argument("--rivals", nargs="*", metavar="WORD")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.monotonic()
    rivals = RIVALS | {"deepCR DECam (released)": lambda: ReleasedDeepCR("decam")}
    rivals |= {"Astro-SCRAPPY, sigclip sweep": lambda: AstroScrappy(sigclips=sweep(10))}
    detectors = detectors_asked_for(parser, args.models, args.rivals, rivals)
    rows = table_rows(rays_found(detectors, args.output), core_peaks(detectors, args.fields))
    for row in rows:
        print(" | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    if args.table:
        results.write_rows(args.table, rows)
        rivals = [] if args.rivals is None else ["--rivals", *args.rivals]
        options = [*args.models, *rivals, "-o", str(args.output), "--fields", str(args.fields)]
        command = shlex.join(["python", "benchmarks/harm.py", *options, "--table", str(args.table)])
        how = results.provenance(seed=SEED, seconds=time.monotonic() - begun)
        results.write_json(args.table.with_suffix(".json"), {"command": command, "made": how})


if __name__ == "__main__":
    main()
