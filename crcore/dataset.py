"""Labelled sequences on disk, in the layout of the LCO CR dataset, with a manifest.

One file a sequence: primary header, ``SCI`` x n, ``VALID_MASK``, ``CAT``, ``CR`` x n,
``IGNORE`` x n (doi:10.5281/zenodo.5034763). As in the released files all ``CR`` and
``IGNORE`` extensions carry ``EXTVER`` 0, so they are addressed by position: the i-th
``CR`` is number 3 + n + i. Simulated sequences carry ``TRUTH`` x n after these, and
``CHANCE`` x n after that where it is known.
"""

import hashlib
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_area

from crcore import results
from crcore.errors import InputError
from crcore.fits_input import BROKEN_FITS, open_fits
from crcore.labelled import NO_DATA, SOURCE, UNDECIDED, Sequence
from crcore.preprocess import CENSUS_EDGES_PX, peak_census, prepare

__all__ = [
    "assign_splits",
    "find_reference",
    "lco_class",
    "open_cached",
    "read_sequence",
    "sha256",
    "single_sequence",
    "summarise",
    "summarise_files",
    "survey",
    "write_frame",
    "write_sequence",
]


def _science_hdu(data, header):
    """A float image compressed to 1/64 of its noise, the same bytes for the same data.

    Tiles of 16 rows: a tile without any spread, as a row of no data, would fall back to
    gzip, which writes down the time.
    """
    return fits.CompImageHDU(
        data,
        header=header.copy(),
        name="SCI",
        compression_type="RICE_1",
        tile_shape=(min(16, data.shape[0]), data.shape[1]),
        quantize_level=64,
        quantize_method=1,
        dither_seed=fits.hdu.compressed.DITHER_SEED_CHECKSUM,
    )


def write_frame(path, frame):
    """Write a `Frame` like an LCO ``e91`` file: tile-compressed ``SCI`` and ``BPM``."""
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(),
            _science_hdu(frame.data, frame.header),
            fits.CompImageHDU(frame.bad.astype(np.uint8), name="BPM"),
        ]
    )
    with results.atomic(path) as part:
        hdus.writeto(part, overwrite=True, output_verify="silentfix")


def write_sequence(path, sequence):
    """Write a labelled sequence, whole or not at all.

    Parameters
    ----------
    path : path-like
        Usually ``.../masked_fits/<name>_3frms_masks.fits``.
    sequence : crcore.labelled.Sequence
    """
    n = len(sequence.data)
    primary = fits.PrimaryHDU()
    primary.header["FRMTOTAL"] = n
    for key in ("SIMULATE", "CAMERA", "TELID"):
        if key in sequence.headers[0]:
            primary.header[key] = sequence.headers[0][key]
    hdus = [primary]
    for i in range(n):
        header = sequence.headers[i].copy()
        header["FILENAME"] = sequence.names[i]
        hdu = _science_hdu(sequence.data[i], header)
        hdu.header["EXTVER"] = i
        hdus.append(hdu)
    valid = ((sequence.ignore[0] & NO_DATA) == 0).astype(np.uint8)
    hdus.append(fits.CompImageHDU(valid, name="VALID_MASK"))
    hdus.append(fits.BinTableHDU(sequence.catalog, name="CAT"))
    masks = [("CR", sequence.cr), ("IGNORE", sequence.ignore)]
    if sequence.truth is not None:
        masks.append(("TRUTH", sequence.truth))
    if sequence.chance is not None:
        masks.append(("CHANCE", sequence.chance))
    for name, stack in masks:
        for mask in stack:
            hdu = fits.CompImageHDU(np.ascontiguousarray(mask, dtype=np.uint8), name=name)
            hdu.header["EXTVER"] = 0
            hdus.append(hdu)
    with results.atomic(path) as part:
        fits.HDUList(hdus).writeto(part, overwrite=True, output_verify="silentfix")


def single_sequence(frame, cr, ignore, *, header=None, name=None, facts=None, truth=None):
    """One exposure with its masks, (H, W) each, as a `crcore.labelled.Sequence` without a catalogue.

    Parameters
    ----------
    frame : crcore.frame.Frame
    cr, ignore : numpy.ndarray, shape (H, W)
    header, name : optional
        In place of the frame's own.
    facts : dict, optional
    truth : numpy.ndarray, shape (H, W), optional
    """
    masks = (np.asarray(mask, dtype=np.uint8)[None] for mask in (cr, ignore))
    header, name = header or frame.header, name or frame.name
    nothing = Table({"x": np.zeros(0), "y": np.zeros(0)})
    known = None if truth is None else truth[None]
    return Sequence(frame.data[None], *masks, (header,), (name,), nothing, facts or {}, known)


def read_sequence(path):
    """Read a labelled sequence in the layout of the LCO CR dataset.

    Raises
    ------
    InputError
        When the file is not one.
    """
    path = Path(path)
    try:
        with open_fits(path) as hdus:
            n = int(hdus[0].header.get("FRMTOTAL") or hdus[1].header["FRMTOTAL"])
            stacks = [np.stack([hdus[start + i].data for i in range(n)]) for start in (1, 3 + n, 3 + 2 * n)]
            known, start = dict.fromkeys(("TRUTH", "CHANCE")), 3 + 3 * n
            for name in known:
                if len(hdus) >= start + n and hdus[start].name == name:
                    known[name] = np.stack([hdus[start + i].data for i in range(n)]).astype(np.uint8)
                    start += n
            headers = tuple(hdus[1 + i].header.copy() for i in range(n))
            catalog = Table(hdus[2 + n].data)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except BROKEN_FITS as error:
        raise InputError(f"{path}: is no labelled sequence ({error}): see data/README.md for the layout") from None
    data, cr, ignore = stacks
    names = tuple(str(h.get("FILENAME", h.get("ORIGNAME", f"{path.name}[{i}]"))) for i, h in enumerate(headers))
    return Sequence(
        np.ascontiguousarray(data, dtype=np.float32),
        cr.astype(np.uint8),
        ignore.astype(np.uint8),
        headers,
        names,
        catalog,
        {},
        known["TRUTH"],
        known["CHANCE"],
    )


def sha256(path):
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def assign_splits(rows, *, valid=0.16, test=0.2):
    """Put rows of a manifest into training, validation and test, never parting what belongs together.

    All rows of one night of one camera at one site go the same way; with fewer than three
    such groups, all rows of one run of visits. The order in which groups are taken is that
    of a hash of their names, so that it depends on no random number; a group that has a split keeps it.

    Parameters
    ----------
    rows : list of dict
        With ``site``, ``camera``, ``night``, ``run``; ``split`` and ``split_by`` are filled in.
    valid, test : float, optional
        Shares of the rows; the paper withholds 20 % of the training set (appendix C).
    """
    for kind, columns in (("night", ("site", "camera", "night")), ("run", ("site", "camera", "night", "run"))):
        name, groups = kind, {}
        for row in rows:
            groups.setdefault(tuple(str(row[c]) for c in columns), []).append(row)
        if len(groups) >= 3:
            break
    given = {}  # what an earlier call has decided stays, so that no test sequence is ever trained on
    for group, members in groups.items():
        given[group] = next((row["split"] for row in members if row.get("split")), "")
    order = sorted(groups, key=lambda group: hashlib.sha256(repr(group).encode()).hexdigest())
    quota = {"test": test * len(rows), "valid": valid * len(rows)} if len(groups) >= 3 else {}
    for group in order:
        if given[group] in quota:
            quota[given[group]] -= len(groups[group])
    for group in order:
        size = len(groups[group])
        if given[group]:
            for row in groups[group]:
                row.update(split=given[group], split_by=name)
            continue
        split = next((s for s, left in quota.items() if left >= size / 3), "train")
        if split in quota:
            quota[split] -= size
        for row in groups[group]:
            row.update(split=split, split_by=name)
    if (
        rows and not any(given.values()) and all(row["split"] != "train" for row in rows)
    ):  # a few nights of very different size
        for row in max(groups.values(), key=len):
            row.update(split="train")


def find_reference(folder, name):
    """The reference mask of a frame below ``folder/truth``, or None.

    A file there belongs to the frame when it has its name, with or without something
    before it that ends in ``-`` or ``_``. Bit 1 of its
    first image marks rays, bit 2 pixels that are undecided.

    Returns
    -------
    numpy.ndarray or None
        uint8, (H, W): 1 ray, 2 undecided.
    """
    folder, name = Path(folder) / "truth", str(name)
    for path in sorted(folder.glob("*")):
        head = path.name.removesuffix(name)
        if path.name.endswith(name) and (not head or head[-1] in "-_"):
            with open_fits(path) as hdus:
                for hdu in hdus:
                    if hdu.is_image and hdu.data is not None and hdu.data.dtype.kind in "ui":
                        return np.where(hdu.data & 2, 2, hdu.data & 1).astype(np.uint8)
    return None


def summarise(rows):
    """Sums of a manifest of simulated sequences, one row for each telescope class."""
    summary = []
    for name in sorted({r["class"] for r in rows}):
        mine = [r for r in rows if r["class"] == name]
        summary.append(
            {
                "camera": f"LCO {name}",
                "data": "simulated",
                "exposures": 3 * len(mine),
                "seconds": f"{min(r['exposure_s'] for r in mine):.0f} to {max(r['exposure_s'] for r in mine):.0f}",
                "pixels": sum(r["pixels"] for r in mine),
                "cr_pixels": sum(r["cr_pixels"] for r in mine),
            }
        )
    return summary


def survey(paths, *, progress=None):
    """What labelled files hold, without their images: one row a sequence.

    Parameters
    ----------
    paths : sequence of path-like
        In the layout of the LCO CR dataset.
    progress : callable, optional
        Wraps a sequence, as ``tqdm`` does.

    Returns
    -------
    list of dict
        ``class`` (of LCO's telescopes, else empty), ``camera``, ``filter``, ``date``, ``exposure_s``, ``exposures``,
        ``shape``, ``scale_arcsec`` (None where the header does not say), ``pixels`` that are judged, ``cr_pixels``.
    """
    rows = []
    for path in progress(paths) if progress else paths:
        with open_fits(path) as hdus:
            header, n = hdus[1].header, int(hdus[0].header["FRMTOTAL"])
            rows.append(
                {
                    "class": lco_class(header),
                    "camera": str(header.get("INSTRUME", "")),
                    "filter": str(header.get("FILTER", "")),
                    "date": str(header.get("DATE-OBS", ""))[:10],
                    "exposure_s": float(header["EXPTIME"]),
                    "exposures": n,
                    "shape": hdus[1].shape,
                    "scale_arcsec": _pixel_scale(header),
                    "pixels": sum(int((hdus[3 + 2 * n + i].data == 0).sum()) for i in range(n)),
                    "cr_pixels": sum(int(hdus[3 + n + i].data.sum()) for i in range(n)),
                }
            )
    return rows


def lco_class(header):
    """Class of one of LCO's telescopes by its ``TELID``, such as "0.4 m"; empty for any other."""
    return {"0m4": "0.4 m", "1m0": "1 m", "2m0": "2 m"}.get(str(header.get("TELID", ""))[:3], "")


def _pixel_scale(header):
    """Arcseconds a pixel, by the header's WCS or its PIXSCALE; None where there is neither."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # of dates and places, which do not matter here
        wcs = WCS(header, relax=False)
    if wcs.has_celestial:
        return float(np.sqrt(proj_plane_pixel_area(wcs.celestial))) * 3600
    return float(header["PIXSCALE"]) if "PIXSCALE" in header else None


def summarise_files(rows, data):
    """The same for labelled files, from their `survey`: one row for each camera and filter."""
    groups = {}
    for row in rows:
        groups.setdefault(f"{row['camera']} {row['filter']}", []).append(row)
    return [
        {
            "camera": name,
            "data": data,
            "exposures": sum(r["exposures"] for r in group),
            "seconds": f"{min(r['exposure_s'] for r in group):.0f} to {max(r['exposure_s'] for r in group):.0f}",
            "pixels": sum(r["pixels"] for r in group),
            "cr_pixels": sum(r["cr_pixels"] for r in group),
        }
        for name, group in sorted(groups.items())
    ]


def open_cached(path, how):
    """What training reads of a labelled sequence, memory-mapped from a cache beside the file.

    Decompressing FITS for each stamp would take most of the training time; mapped arrays take no
    memory of their own. The cache is made anew when the file or the preparation changes.

    Parameters
    ----------
    path : path-like
        In the layout of the LCO CR dataset.
    how : str
        Input preparation (`crcore.preprocess.prepare`).

    Returns
    -------
    dict
        ``inputs`` (n, H, W), float16 in units of the noise and float32 else; ``cr``, ``ignore``
        (n, H, W) uint8; ``chance`` the same, where the file has it, else 255 times ``cr``; ``median`` (H, W) float32;
        ``census`` (n, 10) float32.
    """
    path = Path(path)
    cache = path.parent.parent / "cache" / path.stem / how
    stamp = cache / "stamp.json"
    status = path.stat()
    state = {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "code": results.code_hash("dataset", "labeling", "labelled", "preprocess", "sources"),
    }
    if not stamp.exists() or results.read_json(stamp) != state:
        sequence = read_sequence(path)
        none = (sequence.ignore & NO_DATA) > 0
        inputs = np.stack([prepare(image, how, bad=bad) for image, bad in zip(sequence.data, none, strict=True)])
        census = np.zeros((len(inputs), len(CENSUS_EDGES_PX) - 1), dtype=np.float32)
        if how == "noise":
            census = np.stack([peak_census(image) for image in inputs])
        ignore = sequence.ignore.copy()
        if (
            sequence.truth is not None and sequence.simulated
        ):  # rays that the labels have lost to sources look like rays
            ignore[(sequence.truth == 1) & (sequence.cr == 0) & ((ignore & SOURCE) > 0)] |= UNDECIDED
        arrays = {
            "inputs": inputs.astype(np.float16 if how == "noise" else np.float32),
            "cr": sequence.cr,
            "chance": 255 * sequence.cr if sequence.chance is None else sequence.chance,
            "ignore": ignore,
            "median": sequence.median,
            "census": census,
        }
        for name, array in arrays.items():
            with results.atomic(cache / f"{name}.npy") as part:
                np.save(part, array)
        results.write_json(stamp, state)
    mapped = ("inputs", "cr", "chance", "ignore", "median")
    arrays = {name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in mapped}
    return arrays | {"census": np.load(cache / "census.npy")}
