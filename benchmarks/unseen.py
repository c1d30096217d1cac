"""Detectors on real frames that no network here was trained on.

CRCORE_DATA=FOLDER python benchmarks/unseen.py [MODEL ...] [--rivals [WORD ...]] [--sets NAME ...] [--table FILE.csv]
    [--doubted | --paired | --looks]

Average precision of pixels away from sources, with 95 % intervals by frame, on ``lowell-nasa42`` and ``lco-0m4``
(reference truth), on recorded GMOS and ITL rays put into real skies, and on the slit frames of ``kast-blue`` (labelled
from each other); stars of ``lowell-nasa42`` whose cores are flagged in two of three exposures, per 1,000. None of
this is ever trained on. ``--rivals`` takes the released detectors, those alone whose names hold one of the words where
there are any. ``--table`` writes rows, each with its revision, and keeps those of detectors that are not asked for;
notebook 11 shows those of ``data/results/generic_unseen.csv``.

``--doubted`` asks of each whole ray of ``lowell-nasa42`` and ``lco-0m4`` whether a pixel of it reaches 0.2, where false
pixels are, what an asteroid costs, and what a ranking by brightness alone would reach that is given the true rays and
the pixels around them. ``--paired`` gives the average precision of the first model less that of each other detector,
with 95 % intervals, both on the same frames in each draw. ``--looks`` gives that of the mean of all models' logits over
eight turned and mirrored views of each frame: what a single look would gain by being steadier.
"""

import argparse
import dataclasses
import itertools
import shlex
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.special import expit, logit

from crcore import results
from crcore.dataset import find_reference
from crcore.detection import NetworkDetector
from crcore.frame import Frame
from crcore.harm import count_harmed, find_stars
from crcore.labeling import KINDS, label_sequence
from crcore.metrics import PixelScores, bootstrap, bootstrap_difference
from crcore.paths import user_data
from crcore.preprocess import prepare, sky_and_noise
from crcore.rivals import AstroScrappy, ReleasedCosmicConn, ReleasedDeepCR, sweep
from crcore.simulate.observe import ray_truth
from crcore.simulate.recorded import inject_rays, read_rays

#: rows and columns of lowell-nasa42 where an asteroid moves by a pixel from exposure to exposure: its reference counts
#: it as three rays
ASTEROID = (slice(785, 811), slice(1120, 1147))
SETS = ("lowell", "lco", "gmos rays", "itl rays", "slit")
RIVALS = {
    "Cosmic-CoNN ground_imaging (released)": ReleasedCosmicConn,
    "Cosmic-CoNN NRES (released)": lambda: ReleasedCosmicConn("NRES"),
    "deepCR ACS-WFC (released)": ReleasedDeepCR,
    "Astro-SCRAPPY, sigclip sweep": lambda: AstroScrappy(sigclips=sweep(8)),
}


def detectors_asked_for(parser, models, words, rivals):
    """Name to detector: the models, and rivals whose names hold one of the words; all for none, none for None."""
    short = [Path(model).name for model in models]
    named = zip(short if len(set(short)) == len(short) else models, models, strict=True)
    detectors = {name: NetworkDetector(model) for name, model in named}
    for word in [] if words is None else words or [""]:
        asked = {name: make for name, make in rivals.items() if word.lower() in name.lower()}
        if not asked:
            parser.error(f"--rivals {word!r}: is in the name of none: {', '.join(rivals)}")
        detectors |= {name: make() for name, make in asked.items() if name not in detectors}
    return detectors


def with_reference(folder, sub):
    for path in sorted((folder / sub).glob("*.fits.fz")):
        truth = find_reference(folder, path.name)
        if truth is not None:
            yield Frame.read(path), truth == 1, truth != 2


def injected(folder, rays):
    """Recorded rays over real skies; the skies' own rays and sources do not count."""
    rng = np.random.default_rng(7)
    frames = [("lowell-nasa42", 1), ("lco-0m4", 4)]
    for sub, step in frames:
        for frame, ray, use in list(with_reference(folder, sub))[::step]:
            charge, _ = inject_rays(frame.shape, rays, int(2e-4 * frame.data.size), rng)
            _, noise = sky_and_noise(np.where(frame.bad, 0, frame.data), bad=frame.bad if frame.bad.any() else None)
            truth = ray_truth(charge, noise)
            data = frame.data + rng.poisson(np.maximum(charge, 0)).astype(np.float32)
            own = ndimage.binary_dilation(ray, iterations=3)
            made = Frame(data, read_noise=frame.read_noise, saturation=frame.saturation, bad=frame.bad, name=frame.name)
            yield made, truth == 1, use & ~own & (truth != 2)


def slit(folder):
    frames = [
        Frame.read(folder / "kast-blue" / f"kast_blue_b{k}.fits.gz", gain=(1.2, 1.2), read_noise=(3.7, 3.7))
        for k in (27, 28, 29)
    ]
    labelled = label_sequence(frames, KINDS["spectroscopy"])
    for i in range(3):
        yield frames[i], labelled.cr[i] > 0, labelled.ignore[i] == 0


def frames_of(folder, name):
    if name in ("lowell", "lco"):
        return with_reference(folder, {"lowell": "lowell-nasa42", "lco": "lco-0m4"}[name])
    if name == "slit":
        return slit(folder)
    file = {"gmos rays": "gmosn_bias_frames_00-28.npz", "itl rays": "itl_darks_2017.fits.gz"}[name]
    return injected(folder, read_rays(folder / "rays" / file))


def scored(found, truth, use):
    scores = PixelScores()
    scores.add(np.where(found.not_evaluated, 0, found.prob), truth, use)
    return scores


def average_precision(frames):
    pooled = PixelScores()
    for scores in frames:
        pooled.merge(scores)
    return pooled.average_precision()


def judge(detector, folder, sets):
    """Cells of one detector's row."""
    cells, seconds, pixels = [], 0.0, 0
    for name in sets:
        frames, at = [], np.zeros(3)
        for frame, truth, use in frames_of(folder, name):
            begun = time.monotonic()
            found = detector(frame)
            seconds, pixels = seconds + time.monotonic() - begun, pixels + frame.data.size
            frames.append(scored(found, truth, use))
            mask = found.mask & use
            at += [mask.sum(), truth[use].sum(), (mask & truth).sum()]
        low, high = bootstrap(frames, {"ap": PixelScores.average_precision}, np.random.default_rng(1))["ap"]
        recall, precision = at[2] / max(at[1], 1), at[2] / max(at[0], 1)
        cells.append(f"{average_precision(frames):.3f} [{low:.3f}, {high:.3f}] (R {recall:.2f}, P {precision:.2f})")
    paths = sorted((folder / "lowell-nasa42").glob("*.fits.fz"))
    harmed = total = 0
    for k in range(0, 15, 3):
        run = [Frame.read(p) for p in paths[k : k + 3]]
        stars = find_stars(run)
        harmed += int(count_harmed([detector(f).mask for f in run], stars).sum())
        total += len(stars)
    return [*cells, f"{1000 * harmed / total:.1f} of {total}", f"{1e6 * seconds / pixels:.2f}"]


def doubted(detector, folder, sub, *, below=0.2):
    """What keeps a detector from doing better: rays of which no pixel reaches a probability, false pixels on rims."""
    rays = lost = pixels = small = 0
    scores, still, given, judged = PixelScores(), PixelScores(), PixelScores(), []
    for frame, truth, use in with_reference(folder, sub):
        found = detector(frame)
        prob = np.where(found.not_evaluated, 0, found.prob)
        labels, n = ndimage.label(truth & use, np.ones((3, 3)))
        low = np.concatenate([[False], ndimage.maximum(prob, labels, np.arange(1, n + 1)) < below])
        sizes = np.bincount(labels.ravel(), minlength=n + 1)
        rays, lost, pixels = rays + n, lost + int(low.sum()), pixels + int(sizes[low].sum())
        small += int((low & (sizes <= 2)).sum())
        scores.add(prob, truth, use & ~low[labels])
        without = use.copy()
        if sub == "lowell-nasa42":
            without[ASTEROID] = False
        still.add(prob, truth, without)
        rim = ndimage.binary_dilation(truth, np.ones((3, 3))) & ~truth
        sigma = np.sinh(prepare(frame.data, "noise", bad=frame.bad))
        given.add(np.where(rim | truth, expit(sigma - 3), 0), truth, without)
        judged.append([a[use] for a in (prob, truth, rim, sigma)])
    prob, truth, rim, sigma = (np.concatenate(parts) for parts in zip(*judged, strict=True))
    even = np.sort(prob)[-int(truth.sum()) - 1]  # as many pixels above it as are true
    false = (prob > even) & ~truth
    return (
        f"{lost} of {rays} rays have no pixel above {below}, {small} of them two pixels or fewer; "
        f"they have {pixels} pixels; average precision without them {scores.average_precision():.3f}, "
        f"without the asteroid {still.average_precision():.3f}. "
        f"Where recall equals precision {false.sum()} pixels are false; {(false & rim).sum()} of them touch a ray, "
        f"{(false & rim & (sigma < 3)).sum()} of these below 3 sigma. "
        f"Brightness alone, within a pixel of the true rays: {given.average_precision():.3f}"
    )


def paired(detectors, folder, sets):
    """Lines on how much better the first detector is than each of the others, set by set."""
    for name in sets:
        frames = {detector: [] for detector in detectors}
        for frame, truth, use in frames_of(folder, name):
            for detector, find in detectors.items():
                frames[detector].append(scored(find(frame), truth, use))
        first, *others = frames
        for other in others:
            limits = bootstrap_difference(
                frames[first], frames[other], PixelScores.average_precision, np.random.default_rng(1)
            )
            ap, its = (average_precision(frames[d]) for d in (first, other))
            yield f"{name}: {first} {ap:.4f}, {other} {its:.4f}: {ap - its:+.4f} [{limits[0]:+.4f}, {limits[1]:+.4f}]"


def looks(detectors, folder, sets):
    """Lines on the mean of all detectors over eight views of each frame, set by set."""
    for name in sets:
        scores = PixelScores()
        for frame, truth, use in frames_of(folder, name):
            total = np.zeros(frame.shape)
            for mirrored, turns in itertools.product((False, True), range(4)):

                def view(image, mirrored=mirrored, turns=turns):
                    turned = np.rot90(image, turns)
                    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)

                seen = dataclasses.replace(frame, data=view(frame.data), bad=view(frame.bad))
                for detector in detectors.values():
                    found = detector(seen)
                    logits = logit(np.clip(np.where(found.not_evaluated, 0, found.prob), 1e-6, 1 - 1e-6))
                    total += np.rot90(logits[:, ::-1] if mirrored else logits, -turns)
            scores.add(expit(total / (8 * len(detectors))), truth, use)
        yield f"{name}: {scores.average_precision():.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rivals", nargs="*", metavar="WORD")
    modes = parser.add_mutually_exclusive_group()
    for mode in ("--doubted", "--paired", "--looks"):
        modes.add_argument(mode, action="store_true")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    args = parser.parse_args()
    if args.table and (args.doubted or args.paired or args.looks or tuple(args.sets) != SETS):
        parser.error("--table goes with the scores of all sets, not with --doubted, --paired, --looks or --sets")
    folder = user_data()
    if folder is None:
        sys.exit("unseen.py: set CRCORE_DATA to a folder with lowell-nasa42, lco-0m4, kast-blue, rays and truth")
    warnings.simplefilter("ignore")
    detectors = detectors_asked_for(parser, args.models, args.rivals, RIVALS)
    if len(detectors) < 1 + args.paired:
        parser.error("name a model, for --paired another or --rivals too")
    if args.doubted:
        for name, detector in detectors.items():
            for sub in ("lowell-nasa42", "lco-0m4"):
                print(f"{name}, {sub}: {doubted(detector, folder, sub)}", flush=True)
        return
    if args.paired or args.looks:
        for line in (paired if args.paired else looks)(detectors, folder, args.sets):
            print(line, flush=True)
        return
    print("| detector | " + " | ".join(args.sets) + " | stars harmed per 1,000 (Lowell) | s/Mpixel |")
    print("|" + " --- |" * (len(args.sets) + 3))
    revision, rows, made = results.provenance()["revision"], {}, {}
    if args.table and args.table.exists():
        rows = {row["detector"]: {"revision": "", **row} for row in results.read_rows(args.table)}
        made = results.read_json(args.table.with_suffix(".json"))
    for name, detector in detectors.items():
        begun = time.monotonic()
        cells = judge(detector, folder, args.sets)
        columns = ("detector", *args.sets, "harmed", "seconds_per_mpixel", "revision")
        rows[name] = dict(zip(columns, (name, *cells, revision), strict=True))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        if args.table:  # after each, since rivals take long
            results.write_rows(args.table, [{c: row[c] for c in columns} for row in rows.values()])
            options = [*args.models, *([] if args.rivals is None else ["--rivals", *args.rivals])]
            command = shlex.join(["python", "benchmarks/unseen.py", *options, "--table", str(args.table)])
            how = results.provenance(seconds=time.monotonic() - begun) | {"revision": revision}
            made[name] = {"command": command, "made": how}
            results.write_json(args.table.with_suffix(".json"), made)


if __name__ == "__main__":
    main()
