"""Detect in many files: over processes or a cluster; a bad file stops no other, and a summary accounts for all."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from astropy.table import Table

from crcore import results, zoo
from crcore.batch import run_jobs
from crcore.calibration import RAYS_PER_CM2_S, expected_share
from crcore.detection import Detection, NetworkDetector, detect
from crcore.errors import InputError
from crcore.fits_input import extensions_named, images_of_the_sky, science_extensions
from crcore.frame import Frame
from crcore.mask_files import Products, write_catalog, write_detection
from crcore.zoo import DEFAULT_MODEL

__all__ = ["COLUMNS", "Settings", "check", "detect_batch", "detect_file"]

#: columns of the summary; ``status``: done or failed
COLUMNS = ("file", "status", "output", "extensions", "rays", "pixels", "share", "not_evaluated", "seconds", "reason")

_KEPT = "{}: is there already: use --overwrite, or another folder"

#: header keywords that give the side of a pixel in micrometres
_PIXEL_SIZE = ("PIXSIZE", "PIXSIZE1", "XPIXSZ", "XPIXELSZ")


@dataclass(frozen=True)
class Settings:
    """How files are looked at.

    Attributes
    ----------
    model : str
        Name or folder.
    ext : str
        Extension by name or number; empty is ``SCI``, or the first image and the other chips of its mosaic; ``all``,
        where none is named ``SCI``, every image that is no mask or variance (`crcore.fits_input.science_extensions`).
    threshold : float or None
        In place of the model's own.
    gain, read_noise : tuple of float or None
        In place of the header's; several values are those of amplifiers side by side.
    tile_px : int or None
    device : str or None
        See `crcore.detection.NetworkDetector`.
    rate : float or None
        Rays per second and cm², to which probabilities are shifted by exposure time and pixel size; None leaves them.
    pixel_um : float or None
        Side of a pixel, in place of the header's.
    products : crcore.mask_files.Products
    catalog : bool
        Write a table of the rays beside the copy.
    overwrite : bool
        Replace copies that are there.
    threads : int
        Of each process; 0 leaves the choice to PyTorch.
    """

    model: str = DEFAULT_MODEL
    ext: str = ""
    threshold: float | None = None
    gain: tuple[float, ...] | None = None
    read_noise: tuple[float, ...] | None = None
    tile_px: int | None = None
    device: str | None = None
    rate: float | None = None
    pixel_um: float | None = None
    products: Products = Products()
    catalog: bool = False
    overwrite: bool = False
    threads: int = 0


def detect_batch(paths, output, names, settings=Settings(), *, workers=1, scheduler=None, say=print, progress=None):
    """Look at many files and write their copies.

    Parameters
    ----------
    paths : list of pathlib.Path
    output : path-like
        Folder; gets the copies and ``crcore_detect.ecsv``, which accounts for every file.
    names : list of str
        Names of the copies.
    settings : Settings, optional
    workers, scheduler : int, str, optional
        See `crcore.batch.run_jobs`.
    say : callable, optional
        Told one line a file.
    progress : callable, optional
        Wraps an iterator, given its length as ``total``, as ``tqdm`` does.

    Returns
    -------
    list of dict
        One row a file, in the order of ``paths``, with the columns of `COLUMNS`.
    """
    output = Path(output).resolve()
    jobs, kept = {}, []
    for index, (path, name) in enumerate(zip(paths, names, strict=True)):
        target = output / name
        if _is_kept(path, target, settings):
            kept.append((index, InputError(_KEPT.format(target))))
        else:  # workers may have another current folder; a job that is done again replaces its own copy
            jobs[index] = (str(Path(path).resolve()), str(target), replace(settings, overwrite=True))
    numbers = list(jobs)
    made = run_jobs(detect_file, list(jobs.values()), workers=workers, scheduler=scheduler) if jobs else ()
    done = chain(kept, ((numbers[number], result) for number, result in made))
    rows = {}
    for count, (index, result) in enumerate(progress(done, total=len(paths)) if progress else done, 1):
        where = f"[{count}/{len(paths)}]"
        if isinstance(result, Exception):
            reason = str(result) if isinstance(result, InputError) else _one_line(result)
            if paths[index].name not in reason:
                reason = f"{paths[index]}: {reason}"
            result = _row(file=str(paths[index]), status="failed", reason=reason)
            say(f"{where} failed: {reason}")
        else:
            target = output / names[index]
            if not target.is_file():
                reason = f"{target}: a worker has written it elsewhere: do all see the same folders?"
                result = _row(file=str(paths[index]), status="failed", reason=reason)
                say(f"{where} failed: {reason}")
            else:
                result |= {"file": str(paths[index]), "output": str(target)}
                say(
                    f"{where} {paths[index]} -> {target}: {result['rays']} rays, {result['pixels']} pixels, "
                    f"{result['seconds']:.1f} s" + (f" ({result['reason']})" if result["reason"] else "")
                )
        rows[index] = result
    rows = [rows[index] for index in sorted(rows)]
    if output.is_dir():
        with results.atomic(output / "crcore_detect.ecsv") as part:
            table = Table(rows=[tuple(row.values()) for row in rows], names=COLUMNS)
            table.meta |= {"model": settings.model, "made": results.provenance()["revision"]}
            table.write(part, format="ascii.ecsv", overwrite=True)
    return rows


def check(settings):
    """Find out before the first file whether a model, its device and a threshold can be: raises `InputError`."""
    _detector(settings.model, settings.tile_px, settings.device, settings.threshold, 0)


def detect_file(path, target, settings):
    """Look at one file and write its copy: what a worker does. Returns a row of the summary.

    Raises
    ------
    InputError
        For a file that cannot be read, holds no image, or has none that can be looked at; or a target that is there.
    """
    begun = time.monotonic()
    path, target = Path(path), Path(target)
    if _is_kept(path, target, settings):
        raise InputError(_KEPT.format(target))
    detector = _detector(settings.model, settings.tile_px, settings.device, settings.threshold, settings.threads)
    found, dead = {}, []
    chosen, others = _extensions(path, settings.ext)
    for index in chosen:
        frame = Frame.read(path, ext=index, gain=settings.gain, read_noise=settings.read_noise)
        why = _unfit(frame)
        if why:  # one dead chip does not hide the others
            dead.append(f"extension {index}: {why}")
            everywhere = np.ones(frame.shape, dtype=bool)
            nothing = np.zeros(frame.shape, dtype=np.float32)
            found[index] = Detection(nothing, everywhere, detector.threshold, detector.name, frame=frame)
            continue
        expected = None if settings.rate is None else _expected(frame, settings)
        found[index] = detect(frame, detector=detector, expected=expected)
    if len(dead) == len(found):
        raise InputError(f"{path}: {dead[0]}: nothing to look at")
    notes = [f"not evaluated: {reason}" for reason in dead]
    if others:
        notes.append(f"not looked at: extension {', '.join(map(str, others))}: -e all takes all images")
    if (settings.catalog or settings.products.repair) and not all(d.frame.calibrated for d in found.values()):
        notes.append("no GAIN: charges and repaired images are in adu, errors are for 1 e-/adu: give --gain")
    write_detection(path, target, found, settings.products, sha=_sha(settings.model))
    if settings.catalog:
        try:
            write_catalog(target.with_name(target.name.removesuffix(".fits") + ".ecsv"), found)
        except OSError as error:
            target.unlink()  # all that was asked for, or nothing
            raise InputError(f"{target}: its catalogue cannot be written ({error.strerror or error})") from None
    masks = [d.dilated(settings.products.dilate) for d in found.values()]
    pixels = int(sum(mask.sum() for mask in masks))
    return _row(
        file=str(path),
        status="done",
        output=str(target),
        extensions=len(found),
        rays=sum(d.n_rays for d in found.values()),
        pixels=pixels,
        share=pixels / sum(mask.size for mask in masks),
        not_evaluated=int(sum(d.not_evaluated.sum() for d in found.values())),
        reason="; ".join(notes),
        seconds=round(time.monotonic() - begun, 3),
    )


def _is_kept(path, target, settings):
    """Whether a copy is there that was not to be replaced; the original itself is refused where copies are written."""
    return target.exists() and not settings.overwrite and not (path.exists() and target.samefile(path))


def _unfit(frame):
    """Why nothing can be said of a frame; empty where something can."""
    good = frame.data[~(frame.bad | frame.saturated)]
    if frame.bad.all():
        return "every pixel is bad or not a number"
    if good.size == 0:
        return f"every pixel is bad, or saturated above {frame.saturation:g} electrons"
    if good.size > 1 and good.min() == good.max():
        return f"every pixel is {good[0]:g}"
    return ""


def _extensions(path, ext):
    """Numbers of the extensions that are to be looked at, and of images that nobody has asked for or against."""
    if ext == "":
        return images_of_the_sky(path)
    return (science_extensions(path, every=True) if ext == "all" else extensions_named(path, ext)), []


@lru_cache(maxsize=2)
def _detector(model, tile_px, device, threshold, threads):
    return NetworkDetector(model, tile_px=tile_px, device=device, threshold=threshold, threads=threads)


@lru_cache(maxsize=2)
def _sha(model):
    return zoo.fingerprint(zoo.load(model, network=False))


def _expected(frame, settings):
    """Share of ray pixels that exposure time, pixel size and rate lead one to expect."""
    sizes = [frame.header.get(key) for key in _PIXEL_SIZE]
    pixel_um = settings.pixel_um or next((float(s) for s in sizes if isinstance(s, int | float) and s > 0), None)
    if pixel_um is None:
        raise InputError(f"{frame.name}: no {' or '.join(_PIXEL_SIZE)} in the header: give --pixel-um")
    if not frame.exposure_s:
        raise InputError(f"{frame.name}: no EXPTIME in the header, which --rate needs")
    return expected_share(frame.exposure_s, pixel_um, rate_per_cm2_s=settings.rate or RAYS_PER_CM2_S)


def _one_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _row(**values):
    numbers = {"extensions": 0, "rays": 0, "pixels": 0, "share": np.nan, "not_evaluated": 0, "seconds": np.nan}
    return {column: values.get(column, numbers.get(column, "")) for column in COLUMNS}
