"""``crcore detect``: its options, and what it does with them; how the commands find files."""

import glob
import math
import os
import sys
from functools import partial
from pathlib import Path

from crcore.errors import InputError

#: as `crcore.zoo.DEFAULT_MODEL` and `crcore.calibration.RAYS_PER_CM2_S`, without waiting for what these import
DEFAULT_MODEL, RAYS_PER_CM2_S = "generic", 1 / 60

__all__ = ["DEFAULT_MODEL", "add_detect_options", "detect_command", "expand"]


def add_detect_options(detect):
    """Add the options of ``crcore detect`` to its parser."""
    detect.add_argument("paths", nargs="*", metavar="PATH", help="files, folders or patterns")
    detect.add_argument("-i", "--input", action="append", default=[], metavar="PATH", help="the same")
    detect.add_argument("-m", "--model", default=DEFAULT_MODEL, help=f"model name or folder (default: {DEFAULT_MODEL})")
    detect.add_argument(
        "-o", "--output", default="crcore_output", help="folder for the copies (default: crcore_output)"
    )
    detect.add_argument(
        "-e",
        "--ext",
        default="",
        help="image by name or number, or 'all' (default: SCI, or the first and the other chips of its mosaic)",
    )
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
    detect.set_defaults(run=detect_command)


def _numbers(text):
    """Positive numbers parted by commas."""
    values = tuple(float(part) for part in text.split(","))
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(text)
    return values


def expand(patterns):
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


def _target_names(paths, ending):
    """One file name for each path, different for different paths."""
    from crcore.fits_input import fits_stem

    stems = [fits_stem(p.name) for p in paths]
    if len(set(stems)) < len(stems):  # say where each is from
        root = Path(os.path.commonpath([p.absolute().parent for p in paths]))
        stems = ["-".join([*p.absolute().parent.relative_to(root).parts, fits_stem(p.name)]) for p in paths]
    twice = {p for p, stem in zip(paths, stems, strict=True) if stems.count(stem) > 1}
    if twice:
        raise InputError(f"{', '.join(sorted(map(str, twice)))}: would be written under one name: give one of them")
    return [stem + ending for stem in stems]


def detect_command(args):
    """Look at the files that were asked for; returns the exit status: 0, or 1 where files failed."""
    from tqdm import tqdm

    for name, least in (("workers", 1), ("dilate", 0)):
        if getattr(args, name) < least:
            raise InputError(f"--{name} {getattr(args, name)}: at least {least} is needed")
    for name in ("rate", "pixel_um"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"--{name.replace('_', '-')} {value}: must be positive")
    paths = expand([*args.paths, *args.input])
    if not any(path.exists() for path in paths):
        raise InputError(f"{paths[0]}: no such file: check the path")
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
    return 1 if failed else 0


def _write(line):
    """A line above the progress bar; failures go to standard error."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr if "] failed: " in line else sys.stdout)
