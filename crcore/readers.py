"""Other people's labelled data in their own layouts: all become the same `crcore.labelled.Sequence`.

The LCO CR dataset (`crcore.dataset.read_sequence`), deepCR's stamps (``.npz``), frames reduced by Gemini's DRAGONS, and
HST's ``flc`` and ``flt``. ``data/README.md`` has the layouts.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from crcore.dataset import read_sequence, single_sequence, write_sequence
from crcore.errors import InputError
from crcore.fits_input import find_fits, fits_stem, open_fits, readable
from crcore.frame import Frame
from crcore.labelled import NO_DATA, SOURCE

__all__ = ["convert", "read_deepcr", "read_dragons", "read_hst", "read_labelled"]

#: DRAGONS marks rays with 8; anything else above 0 is not judged
DRAGONS_RAY = 8
#: HST marks rays with 4096 (found by comparing exposures) and 8192 (found otherwise)
HST_RAYS = 4096 | 8192
#: bits of HST's DQ that say nothing against a pixel: a hot pixel that is stable, a warm one
HST_HARMLESS = 64 | 16


def read_deepcr(path):
    """A stamp of the HST ACS/WFC set that was released with deepCR (Zhang & Bloom 2020).

    One ``.npz`` with ``raw``, ``clean``, ``crmask``, ``badmask`` (256, 256), and ``exp``, ``gain``, ``sky``. Counts are
    taken as electrons. Arrays of Python objects are refused: reading them would run their code.

    Raises
    ------
    InputError
        When the file is not one.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as stamp:
            raw, crmask, badmask = (np.asarray(stamp[k]) for k in ("raw", "crmask", "badmask"))
            scalars = {k: float(stamp[k]) for k in ("exp", "gain", "sky") if k in stamp.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except Exception as error:  # zip, pickle and array errors of many kinds
        raise InputError(f"{path}: is no stamp of deepCR ({str(error).splitlines()[0][:100]})") from None
    if raw.ndim != 2 or not raw.shape == crmask.shape == badmask.shape:
        raise InputError(
            f"{path}: raw, crmask and badmask are of {raw.shape}, {crmask.shape} and {badmask.shape} pixels"
        )
    header = fits.Header({"INSTRUME": "ACS/WFC", "FILTER": "F606W", "BUNIT": "electron"})
    header["EXPTIME"], header["SKY"] = scalars.get("exp", 0.0), scalars.get("sky", 0.0)
    bad = (badmask > 0) & (crmask == 0)
    frame = Frame(raw.astype(np.float32), read_noise=5.0, bad=bad, header=header, name=path.name)
    return single_sequence(frame, (crmask > 0) & ~bad, np.where(bad, NO_DATA, 0))


def read_dragons(path):
    """A frame reduced by DRAGONS, one sequence for each ``SCI``: rays where ``DQ`` has 8, ignored where other bits.

    Raises
    ------
    InputError
        When the file has no ``SCI`` with a ``DQ`` of its shape.
    """
    return _by_dq(path, DRAGONS_RAY, 0, "DRAGONS frame")


def read_hst(path):
    """An HST ``flc`` or ``flt``, one sequence for each chip: rays where ``DQ`` has 4096 or 8192.

    Only exposures whose association was drizzled have these bits set well. Other bits are ignored pixels, but for warm
    and hot ones that are stable (16, 64).

    Raises
    ------
    InputError
        When the file has no ``SCI`` with a ``DQ`` of its shape.
    """
    return _by_dq(path, HST_RAYS, HST_HARMLESS, "HST frame")


def _by_dq(path, rays, harmless, what):
    path, sequences = Path(path), []
    with readable(path), open_fits(path) as hdus:
        for index, hdu in enumerate(hdus):
            if hdu.name != "SCI" or np.ndim(hdu.data) != 2:
                continue
            version = hdu.header.get("EXTVER", 1)
            dq = _companion(hdus, "DQ", version, hdu.data.shape)
            if dq is None or dq.dtype.kind not in "iu":
                continue
            dq = dq.astype(np.int64)
            sources = _companion(hdus, "OBJMASK", version, hdu.data.shape)
            frame = _without_dq(hdus, index, path)
            other = (dq & ~(rays | harmless)) != 0
            ray = ((dq & rays) != 0) & ~other
            ignore = np.where(other | frame.bad, NO_DATA, 0).astype(np.uint8)
            if sources is not None:
                ignore[(sources > 0) & ~ray] |= SOURCE
            sequences.append(single_sequence(frame, ray, ignore))
    if not sequences:
        raise InputError(f"{path}: is no {what}: a SCI with a DQ of its shape is needed")
    return sequences


def _companion(hdus, name, version, shape):
    for hdu in hdus:
        if hdu.name == name and hdu.header.get("EXTVER", 1) == version and np.shape(hdu.data) == shape:
            return np.asarray(hdu.data)
    return None


def _without_dq(hdus, index, path):
    """The frame of one extension, its own DQ left aside: rays are no bad pixels."""
    parts = [fits.PrimaryHDU(header=hdus[0].header), fits.ImageHDU(np.array(hdus[index].data), hdus[index].header)]
    parts[1].name = "SCI"
    frame = Frame.from_hdus(fits.HDUList(parts), ext=1)
    name = path.name if sum(hdu.name == "SCI" for hdu in hdus) == 1 else f"{path.name}[{index}]"
    header = frame.header.copy()
    header["ORIGNAME"] = hdus[0].header.get("ORIGNAME", path.name)
    return replace(frame, header=header, name=name)


def read_labelled(path):
    """Sequences of a labelled file in any of the layouts.

    Returns
    -------
    list of crcore.labelled.Sequence

    Raises
    ------
    InputError
        When it is in none of them.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return [read_deepcr(path)]
    with readable(path), open_fits(path) as hdus:
        names = [hdu.name for hdu in hdus]
        telescope = str(hdus[0].header.get("TELESCOP", "")).upper()
    if "IGNORE" in names or "VALID_MASK" in names:
        return [read_sequence(path)]
    if "DQ" in names:
        return read_hst(path) if telescope == "HST" else read_dragons(path)
    raise InputError(f"{path}: is in none of the known layouts: see data/README.md")


def convert(source, folder, *, say=print):
    """Write labelled files of any layout in that of the LCO CR dataset, as training and judging read it.

    Parameters
    ----------
    source : path-like
        A folder, searched with all in it.
    folder : path-like
        Gets ``masked_fits/*.fits``, where they are not there yet.
    say : callable, optional
        Told of each file that could not be read.

    Returns
    -------
    list of pathlib.Path
    """
    source, written = Path(source), []
    for path in sorted([*find_fits(source), *source.rglob("*.npz")]):
        try:
            sequences = read_labelled(path)
        except InputError as error:
            say(f"left out: {error}")
            continue
        stem = "-".join([*path.relative_to(source).parent.parts, fits_stem(path.name.removesuffix(".npz"))])
        for k, sequence in enumerate(sequences, 1):
            name = stem if len(sequences) == 1 else f"{stem}-{k}"
            target = Path(folder) / "masked_fits" / f"{name}_1frms_masks.fits"
            if target in written:
                say(f"left out: {path}: would be written as {target.name}, as another is: rename one of them")
                continue
            if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
                write_sequence(target, sequence)
            written.append(target)
    return written
