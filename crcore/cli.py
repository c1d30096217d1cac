"""The ``crcore`` command: detect, app, fetch, camera, label, review, simulate, inject, train, export."""

import argparse
import math
import shlex
import sys
from pathlib import Path

from crcore.cli_detect import DEFAULT_MODEL, add_detect_options, expand
from crcore.errors import InputError

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
        prog="crcore",
        description="Cosmic rays in CCD images: find them, look at them, label, simulate, train, judge.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_detect_options(commands.add_parser("detect", help="find cosmic rays in FITS files"))

    app = commands.add_parser("app", help="tune and edit a mask in the browser; nothing leaves this machine")
    app.add_argument("file", nargs="?", metavar="FITS", help="frame to open (default: chosen in the page)")
    app.add_argument("--port", type=int, help="port on this machine (default: a free one)")
    app.add_argument("--no-browser", action="store_true", help="print the address only")
    app.set_defaults(run=_app)

    fetch = commands.add_parser("fetch", help="get the paper's data, or more, from the archives")
    fetch.add_argument("set", choices=("lco-cr", "lco-archive", "hst", "gemini"))
    fetch.add_argument("query", nargs="*", metavar="KEY=VALUE", help="in the archive's words, as in start=2019-01-01")
    fetch.add_argument("-o", "--output", metavar="FOLDER", help="default: data/sets/SET")
    fetch.add_argument("--subset", default="", choices=("test", "0m4", "1m0", "2m0"), help="of lco-cr")
    fetch.add_argument("--limit", type=int, default=0, metavar="N", help="at most N files (lco-archive: runs)")
    fetch.add_argument("--dry-run", action="store_true", help="say what would come, and what it would cost")
    fetch.set_defaults(run=_fetch)

    camera = commands.add_parser("camera", help="your own camera: label or inject, judge, fine-tune, report")
    camera.add_argument("folder", metavar="FOLDER", help="frames of one camera")
    camera.add_argument("-o", "--output", required=True, metavar="FOLDER")
    camera.add_argument("--kind", choices=("imaging", "spectroscopy", "gemini"), default="imaging")
    camera.add_argument("--gain", type=float, metavar="E/ADU", help="in place of GAIN in the header")
    camera.add_argument("--read-noise", type=float, metavar="E", help="in place of RDNOISE in the header")
    camera.add_argument("--min-exposure", type=float, default=100.0, metavar="S", help="seconds (default: 100)")
    camera.add_argument("--epochs", type=int, default=8, help="of 200 stamps, to fine-tune (default: 8)")
    camera.add_argument("--all-rivals", action="store_true", help="slow ones and tuned Astro-SCRAPPY too")
    camera.add_argument("--seed", type=int, default=1)
    camera.set_defaults(run=_camera)

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

    inject = commands.add_parser("inject", help="put rays into your own exposures, as data for 'crcore train -d'")
    inject.add_argument("paths", nargs="+", metavar="FILES|FOLDER", help="two exposures or more")
    inject.add_argument("-o", "--output", required=True, metavar="FOLDER")
    inject.add_argument("-e", "--ext", help="image by name or number")
    inject.add_argument(
        "--kind",
        choices=("imaging", "slit", "echelle", "orbit"),
        default="imaging",
        help="whose rays (default: imaging)",
    )
    inject.add_argument("--rays", metavar="FILE", help="recorded rays, in place of simulated ones")
    inject.add_argument("--times", type=int, default=4, metavar="N", help="how often into each exposure (default: 4)")
    inject.add_argument("-m", "--model", default=DEFAULT_MODEL, help="finds the rays that are there already")
    inject.add_argument("--seed", type=int, default=1, help="of the rays (default: 1)")
    inject.set_defaults(run=_inject)

    train = commands.add_parser("train", help="train a network; resumes when it was stopped")
    train.add_argument("recipe", metavar="RECIPE.yaml")
    train.add_argument(
        "-d",
        "--data",
        action="append",
        help="folder with labelled sequences, several times for several (default: what the recipe's 'data' simulates)",
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


def _app(args):
    from crcore.explorer.app import serve

    serve(args.file, port=args.port, browser=not args.no_browser)
    return 0


def _fetch(args):
    from tqdm import tqdm

    from crcore.fetch import fetch_set

    if args.limit < 0:
        raise InputError(f"--limit {args.limit}: at least 1, or 0 for all")
    report = fetch_set(
        args.set,
        args.query,
        args.output,
        limit=args.limit,
        subset=args.subset,
        dry_run=args.dry_run,
        say=_tell,
        progress=tqdm,
    )
    if not args.dry_run:
        _tell(f"{len(report.fetched)} fetched, {len(report.kept)} were there, {len(report.failed)} failed")
    return 1 if report.failed else 0


def _camera(args):
    from tqdm import tqdm

    from crcore.own_camera import study

    if args.epochs < 1:
        raise InputError(f"--epochs {args.epochs}: at least 1 is needed")
    _check_positive(args)
    study(
        args.folder, args.output, kind=args.kind, gain=args.gain, read_noise=args.read_noise, say=_tell, progress=tqdm,
        min_exposure_s=args.min_exposure, epochs=args.epochs, every=args.all_rivals, seed=args.seed,
        command=args.command_line,
    )  # fmt: skip
    return 0


def _check_positive(args):
    for name, value in (("--gain", args.gain), ("--read-noise", args.read_noise)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value}: must be positive")


def _label(args):
    import dataclasses

    from crcore.label_batch import label_batch
    from crcore.labeling import KINDS

    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: one or more are needed")
    _check_positive(args)
    if args.border is not None and args.border < 0:
        raise InputError(f"--border {args.border}: must not be negative")
    config = KINDS[args.kind]
    if args.border is not None:
        config = dataclasses.replace(config, border_px=args.border)
    rows = label_batch(
        args.paths[0] if len(args.paths) == 1 and Path(args.paths[0]).is_dir() else expand(args.paths),
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


def _inject(args):
    import numpy as np
    from tqdm import tqdm

    from crcore.detection import NetworkDetector
    from crcore.frame import Frame
    from crcore.injection import inject_dataset
    from crcore.simulate.recorded import read_rays

    if args.times < 1:
        raise InputError(f"--times {args.times}: at least 1 is needed")
    ext = int(args.ext) if args.ext and args.ext.isdigit() else args.ext
    rays = read_rays(args.rays) if args.rays else None
    frames, failed = [], 0
    for path in expand(args.paths):
        try:
            frames.append(Frame.read(path, ext=ext))
        except InputError as error:
            failed += 1
            print(f"left out: {error}", file=sys.stderr)
    written = inject_dataset(
        tqdm(frames, unit="exposure", disable=None),
        args.output,
        np.random.default_rng(args.seed),
        detector=NetworkDetector(args.model),
        times=args.times,
        kind=args.kind,
        footprints=rays,
    )
    print(f"{args.output}: {len(written)} files from {len(frames)} exposures")
    return 1 if failed else 0


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
        data = []
        for name in recipe.data.split(","):
            settings = Path(args.recipe).parent / name.strip()
            data.append(release / settings.stem)
            _make_dataset(settings, data[-1], args.workers)
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
