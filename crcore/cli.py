"""The ``crcore`` command: detect, label, review, simulate, train, export."""

import argparse
import glob
import math
import os
import shlex
import sys
from functools import partial
from pathlib import Path

from crcore.errors import InputError

#: as `crcore.zoo.DEFAULT_MODEL` and `crcore.calibration.RAYS_PER_CM2_S`, without waiting for what these import
DEFAULT_MODEL, RAYS_PER_CM2_S = "ground_imaging", 1 / 60

__all__ = ["main"]


def main(argv=None):
    """Run the command line; returns the exit status: 0 fine, 1 some files failed, 2 wrong use."""
    parser = _parser()
    args = parser.parse_args(argv)
    args.command_line = "crcore " + shlex.join(sys.argv[1:] if argv is None else argv)
    try:
        return args.run(args)
    except InputError as error:
        print(f"crcore: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"crcore: {error.filename or 'file'}: {error.strerror or error}: check the path and the disk",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("crcore: stopped", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="crcore", description="Cosmic rays in CCD images: detect, label, review, simulate, train, export."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _detect_options(commands.add_parser("detect", help="find cosmic rays in FITS files"))

    label = commands.add_parser("label", help="label the cosmic rays of repeated exposures (appendix A)")
    label.add_argument("paths", nargs="+", metavar="FILES|FOLDER")
    label.add_argument(
        "-o", "--output", default="labelled", help="folder for the labelled sequences (default: labelled)"
    )
    label.add_argument("--min-exposure", type=float, default=100.0, metavar="S", help="seconds (default: 100)")
    label.add_argument(
        "--kind", choices=("imaging", "spectroscopy", "gemini"), default="imaging", help="what the exposures are"
    )
    label.add_argument("--border", type=int, metavar="PX", help="ignored edge (default: 100 for imaging, else 0)")
    label.add_argument("--gain", type=float, metavar="E/ADU", help="in place of GAIN in the header")
    label.add_argument("--read-noise", type=float, metavar="E", help="in place of RDNOISE in the header")
    label.add_argument("--reference", metavar="FOLDER", help="folder with truth/ masks to keep beside the labels")
    label.add_argument("--no-sheets", action="store_true", help="draw no contact sheets")
    spread = label.add_mutually_exclusive_group()
    spread.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    spread.add_argument("--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler")
    label.set_defaults(run=_label)

    review = commands.add_parser("review", help="accept or reject labelled sequences after a look at contact sheets")
    review.add_argument("folder", metavar="FOLDER", help="output of 'crcore label'")
    review.add_argument("--accept", nargs="+", default=[], metavar="NAME", help="file names, or unique parts of them")
    review.add_argument("--reject", nargs="+", default=[], metavar="NAME", help="the same; training will skip them")
    review.add_argument("--why", default="", metavar="TEXT", help="kept in the manifest")
    review.set_defaults(run=_review)

    simulate = commands.add_parser("simulate", help="simulate and label sequences")
    simulate.add_argument("settings", metavar="SETTINGS.yaml")
    simulate.add_argument("-o", "--output", required=True, help="folder for the dataset")
    simulate.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    simulate.set_defaults(run=_simulate)

    train = commands.add_parser("train", help="train a network; resumes when it was stopped")
    train.add_argument("recipe", metavar="RECIPE.yaml")
    train.add_argument(
        "-d", "--data", help="folder with labelled sequences (default: those that the recipe's 'data' simulates)"
    )
    train.add_argument("-o", "--output", help="folder of the model (default: build/release/<name of the recipe>)")
    train.add_argument("--resume", action="store_true", help="go on where an earlier call was stopped")
    train.add_argument("--devices", type=int, default=1, metavar="N", help="processes or GPUs (default: 1)")
    train.add_argument("--workers", type=int, default=1, metavar="N", help="processes that simulate (default: 1)")
    train.set_defaults(run=_train)
    export = commands.add_parser("export", help="write a model as ONNX, for use without PyTorch")
    export.add_argument("model", metavar="MODEL", help="model name or folder")
    export.add_argument("-o", "--output", help="file (default: model.onnx in the model's folder)")
    export.set_defaults(run=_export)
    return parser


def _detect_options(detect):
    detect.add_argument("paths", nargs="*", metavar="PATH", help="files, folders or patterns")
    detect.add_argument("-i", "--input", action="append", default=[], metavar="PATH", help="the same")
    detect.add_argument("-m", "--model", default=DEFAULT_MODEL, help=f"model name or folder (default: {DEFAULT_MODEL})")
    detect.add_argument(
        "-o", "--output", default="crcore_output", help="folder for the copies (default: crcore_output)"
    )
    detect.add_argument("-e", "--ext", default="", help="image by name or number (default: all images of the sky)")
    detect.add_argument("-t", "--threshold", type=float, help="probability above which a pixel is flagged")
    detect.add_argument("--dilate", type=int, default=0, metavar="N", help="grow the mask by N pixels")
    detect.add_argument("--dq", choices=("lco", "gemini", "hst"), default="", help="set an observatory's bit in the DQ")
    detect.add_argument("--prob", action="store_true", help="attach the probabilities as CRPROB")
    detect.add_argument("--catalog", action="store_true", help="write a table of the rays beside each copy (ECSV)")
    detect.add_argument(
        "--repair", nargs="?", const="biharmonic", default="", choices=("median", "biharmonic"),
        help="attach the repaired image and its variance as CRCLEAN and CRVAR (default method: biharmonic)",
    )  # fmt: skip
    per_amplifier = "in place of the header's; values of several amplifiers side by side are parted by commas"
    detect.add_argument("--gain", type=_numbers, metavar="E/ADU[,...]", help=per_amplifier)
    detect.add_argument("--read-noise", type=_numbers, metavar="E[,...]", help=per_amplifier)
    detect.add_argument(
        "--rate", nargs="?", type=float, const=RAYS_PER_CM2_S, metavar="R",
        help=f"shift probabilities to R rays per second and cm² (default: {RAYS_PER_CM2_S:.4f}, muons at sea level)",
    )  # fmt: skip
    detect.add_argument("--pixel-um", type=float, metavar="UM", help="side of a pixel, in place of the header's")
    detect.add_argument("--tile", type=int, metavar="PX", help="side of the tiles (default: chosen)")
    detect.add_argument("--device", help="cuda, mps, cpu, or onnx (no PyTorch; default: a GPU if there is one)")
    detect.add_argument("--overwrite", action="store_true", help="replace copies that are there")
    spread = detect.add_mutually_exclusive_group()
    spread.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    spread.add_argument("--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler")
    detect.set_defaults(run=_detect)


def _numbers(text):
    """Positive numbers parted by commas."""
    values = tuple(float(part) for part in text.split(","))
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(text)
    return values


def _expand(patterns):
    """Files meant by paths, folders and patterns, sorted and each once."""
    from crcore.fits_input import find_fits

    if not patterns:
        raise InputError("no input: name files, folders or patterns, as in 'crcore detect -i FOLDER'")
    found = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = [p for p in find_fits(path) if not p.name.endswith(("_cr.fits", "frms_masks.fits"))]
            if not inside:
                raise InputError(f"{path}: holds no FITS files")
            found.update(dict.fromkeys(inside))
        elif any(c in pattern for c in "*?[") and not path.exists():
            matches = sorted(Path(p) for p in glob.glob(pattern, recursive=True))
            if not matches:
                raise InputError(f"{pattern}: matches no file")
            found.update(dict.fromkeys(matches))
        else:
            found[path] = None
    return list(found)


def _stem(path):
    """File name without its FITS endings: ``name`` for ``name.fits``, ``name.fits.fz``, ``name.fits.gz``."""
    name = path.name
    for suffix in (".fz", ".gz", ".fits", ".fit", ".fts"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def _target_names(paths, ending):
    """One file name for each path, different for different paths."""
    stems = [_stem(p) for p in paths]
    if len(set(stems)) < len(stems):  # say where each is from
        root = Path(os.path.commonpath([p.absolute().parent for p in paths]))
        stems = ["-".join([*p.absolute().parent.relative_to(root).parts, _stem(p)]) for p in paths]
    twice = {p for p, stem in zip(paths, stems, strict=True) if stems.count(stem) > 1}
    if twice:
        raise InputError(f"{', '.join(sorted(map(str, twice)))}: would be written under one name: give one of them")
    return [stem + ending for stem in stems]


def _detect(args):
    from tqdm import tqdm

    for name, least in (("workers", 1), ("dilate", 0)):
        if getattr(args, name) < least:
            raise InputError(f"--{name} {getattr(args, name)}: at least {least} is needed")
    for name in ("rate", "pixel_um"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"--{name.replace('_', '-')} {value}: must be positive")
    paths = _expand([*args.paths, *args.input])
    from crcore.detect_batch import Settings, check, detect_batch
    from crcore.mask_files import Products

    settings = Settings(
        model=args.model,
        ext=args.ext,
        threshold=args.threshold,
        gain=args.gain,
        read_noise=args.read_noise,
        tile_px=args.tile,
        device=args.device,
        rate=args.rate,
        pixel_um=args.pixel_um,
        products=Products(prob=args.prob, dilate=args.dilate, dq=args.dq, repair=args.repair),
        catalog=args.catalog,
        overwrite=args.overwrite,
        threads=1 if args.workers > 1 else 0,
    )
    check(settings)  # an unknown model is wrong for all files
    rows = detect_batch(
        paths,
        args.output,
        _target_names(paths, "_cr.fits"),
        settings,
        workers=args.workers,
        scheduler=args.scheduler,
        say=_write,
        progress=partial(tqdm, unit="file", disable=None) if len(paths) > 1 else None,
    )
    failed = sum(row["status"] == "failed" for row in rows)
    if failed and len(rows) > 1:
        print(f"crcore: {failed} of {len(rows)} files failed", file=sys.stderr)
    return 2 if failed == len(rows) else 1 if failed else 0


def _write(line):
    """A line above the progress bar; failures go to standard error."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr if "] failed: " in line else sys.stdout)


def _label(args):
    import dataclasses

    from crcore.label_batch import label_batch
    from crcore.labeling import KINDS

    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: one or more are needed")
    for name, value in (("--gain", args.gain), ("--read-noise", args.read_noise)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value}: must be positive")
    if args.border is not None and args.border < 0:
        raise InputError(f"--border {args.border}: must not be negative")
    config = KINDS[args.kind]
    if args.border is not None:
        config = dataclasses.replace(config, border_px=args.border)
    rows = label_batch(
        args.paths[0] if len(args.paths) == 1 and Path(args.paths[0]).is_dir() else _expand(args.paths),
        args.output,
        config,
        min_exposure_s=args.min_exposure,
        gain=args.gain,
        read_noise=args.read_noise,
        workers=args.workers,
        scheduler=args.scheduler,
        sheets=not args.no_sheets,
        reference=args.reference,
        say=_tell,
    )
    labelled = [r for r in rows if r["file"]]
    failed = [r for r in rows if r["status"] == "failed"]
    print(f"{Path(args.output) / 'manifest.csv'}: {len(labelled)} sequences; {len(rows) - len(labelled)} left out")
    return 2 if not labelled else 1 if failed else 0


def _tell(line):
    bad = line.startswith("left out") or "] failed: " in line
    print(line, file=sys.stderr if bad else sys.stdout, flush=True)


def _review(args):
    from crcore import results
    from crcore.review import decide

    for names, verdict in ((args.accept, "accepted"), (args.reject, "rejected")):
        for file in decide(args.folder, names, verdict, args.why) if names else []:
            print(f"{verdict}: {file}")
    manifest = Path(args.folder) / "manifest.csv"
    if not manifest.exists():
        raise InputError(f"{manifest}: no such file: run 'crcore label' first")
    rows = [r for r in results.read_rows(manifest) if r.get("file")]
    open_ = [r for r in rows if not r.get("review")]
    print(f"{manifest}: {len(rows)} sequences, {len(open_)} not reviewed: see contact_sheets/index.html")
    return 0


def _simulate(args):
    _make_dataset(args.settings, args.output, args.workers)
    return 0


def _make_dataset(settings, folder, workers):
    from tqdm import tqdm

    from crcore.config import from_mapping, read_yaml
    from crcore.labeling import LabelingConfig
    from crcore.simulate.datasets import SimulationConfig, simulate_dataset

    content = dict(read_yaml(settings))
    labeling = from_mapping(LabelingConfig, content.pop("labeling", {}), f"{settings}: labeling")
    config = from_mapping(SimulationConfig, content, str(settings))
    rows = simulate_dataset(
        folder, config, labeling, workers=workers, progress=lambda jobs: tqdm(jobs, unit="sequence")
    )
    print(f"{folder}: {len(rows)} sequences, {sum(r['cr_pixels'] for r in rows)} labelled pixels of rays")


def _train(args):
    from tqdm import tqdm

    from crcore.recipe import read_recipe
    from crcore.release import train_model

    recipe = read_recipe(args.recipe)
    release = Path("build") / "release"
    output = Path(args.output or release / Path(args.recipe).stem)
    if args.devices < 1:
        raise InputError(f"--devices {args.devices}: one or more are needed")
    data = args.data
    if data is None:
        if not recipe.data:
            raise InputError(f"{args.recipe}: names no 'data' to simulate: give a folder with --data")
        settings = Path(args.recipe).parent / recipe.data
        data = release / settings.stem
        _make_dataset(settings, data, args.workers)
    model = train_model(
        recipe,
        data,
        output,
        command=args.command_line,
        resume=args.resume,
        devices=args.devices,
        say=tqdm.write,
        progress=tqdm,
    )
    if model is not None:
        print(f"{output}: threshold {model.threshold}")
    return 0


def _export(args):
    from crcore import zoo
    from crcore.inference import export_onnx

    model = zoo.load(args.model)
    path = Path(args.output or model.folder / "model.onnx")
    export_onnx(model, path)
    print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
