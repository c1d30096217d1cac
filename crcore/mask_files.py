"""Write what a detector found beside the image: a copy of the FITS file with masks, bits and their provenance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import vstack
from scipy import ndimage

from crcore import dq, results
from crcore.errors import InputError
from crcore.fits_input import image_index, mask_indices, open_fits
from crcore.repair import repair

__all__ = ["Products", "write_catalog", "write_detection"]

#: ranges of pixels without an answer that a header lists; more are counted
MAX_RANGES = 20
_OURS = ("CRMASK", "CRPROB", "CRCLEAN", "CRVAR")


@dataclass(frozen=True)
class Products:
    """What goes into a copy besides ``CRMASK``.

    Attributes
    ----------
    prob : bool
        ``CRPROB``, the probabilities (float32, lossless).
    dilate : int
        Pixels by which the mask is grown.
    dq : str
        Set the cosmic-ray bit of this observatory (`crcore.dq.CONVENTIONS`) in the image's own ``DQ`` or ``BPM``;
        a ``DQ`` is made where there is none. Empty: leave them.
    repair : str
        ``CRCLEAN`` and ``CRVAR``, the repaired image and its variance, in the frame's unit (`crcore.repair.repair`'s
        method). Empty: none.
    """

    prob: bool = False
    dilate: int = 0
    dq: str = ""
    repair: str = ""


def write_detection(source, target, detections, products=Products(), *, sha=""):
    """Copy a FITS file and attach masks to the copy, whole or not at all. Images stay bit for bit as they are.

    Parameters
    ----------
    source, target : path-like
        The file that was read, and where the copy goes; never the same.
    detections : crcore.detection.Detection or dict
        Of the file's image, or by the number of the extension. Where a frame was trimmed, masks are put back into the
        size of the file's image and the rest is marked as not evaluated.
    products : Products, optional
    sha : str, optional
        SHA-256 of the model's weights, for the header.

    Raises
    ------
    InputError
        When the target is the source or cannot be written.
    """
    source, target = Path(source), Path(target)
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input itself: choose another output folder")
    try:
        # Images are copied as they are on disk, compressed and scaled, so that not a bit of them changes.
        raw = {"disable_image_compression": True, "do_not_scale_image_data": True}
        with open_fits(source) as plain, open_fits(source, **raw) as hdus, results.atomic(target) as part:
            # products of an earlier call would hide those of this one
            copy, earlier = fits.HDUList(list(hdus)), [hdu for hdu in hdus[1:] if hdu.name in _OURS]
            if not isinstance(detections, dict):
                detections = {image_index(plain, None, source): detections}
            versions = [plain[index].header.get("EXTVER", k) for k, index in enumerate(sorted(detections), 1)]
            if len(set(versions)) < len(versions):
                versions = range(1, len(versions) + 1)
            for version, (index, detection) in zip(versions, sorted(detections.items()), strict=True):
                if products.dq:
                    _set_bits(copy, plain, index, detection, products)
                for hdu in _extensions(detection, products, sha):
                    hdu.header["EXTVER"] = version
                    hdu.header["CREXT"] = (index, "number of the extension that was looked at")
                    copy.append(hdu)
            copy = fits.HDUList([hdu for hdu in copy if not any(hdu is old for old in earlier)])
            copy.writeto(part, overwrite=True, output_verify="silentfix", checksum=True)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror or error}): check the folder and the disk"
        ) from None


def write_catalog(path, detections):
    """Write the rays of all extensions as one ECSV table, with ``ext`` in front (see ``Detection.objects``).

    Where some extensions have a gain and others have none, a column ``unit`` says in what charges are.
    """
    tables = []
    for index, detection in sorted(detections.items()):
        table = detection.objects()
        for name, shift in zip(("y", "x"), detection.frame.offset, strict=True):  # pixels of the file's image
            table[name] += shift
            table[f"{name}_peak"] += shift
        table.add_column(np.full(len(table), index), name="ext", index=0)
        tables.append(table)
    if len({detection.frame.unit for detection in detections.values()}) > 1:
        for table, (_, detection) in zip(tables, sorted(detections.items()), strict=True):
            table["peak"].unit = table["charge"].unit = None
            table["unit"] = [detection.frame.unit] * len(table)
    with results.atomic(path) as part:
        vstack(tables).write(part, format="ascii.ecsv", overwrite=True)


def _extensions(detection, products, sha):
    """The new HDUs for one image."""
    frame, mask = detection.frame, detection.dilated(products.dilate)
    bits = {"cosmic_ray": mask, "not_evaluated": detection.not_evaluated}
    repaired = None
    if products.repair:
        repaired = repair(
            frame.data,
            mask,
            bad=detection.not_evaluated & ~mask,
            read_noise=frame.read_noise,
            method=products.repair,
        )
        bits["replaced"] = repaired.replaced
    outside = dq.CONVENTIONS["crcore"]["not_evaluated"]
    hdu = fits.CompImageHDU(_on_disk(dq.bits("crcore", **bits), frame, outside), name="CRMASK")
    _describe(hdu.header, detection, mask, products, sha)
    yield hdu
    floats = {"CRPROB": detection.prob if products.prob else None}
    if repaired is not None:
        floats |= {"CRCLEAN": repaired.data, "CRVAR": repaired.variance}
    for name, values in floats.items():
        if values is not None:
            full = _on_disk(np.asarray(values, dtype=np.float32), frame, 0)
            hdu = fits.CompImageHDU(full, name=name, compression_type="GZIP_2", quantize_level=0)
            if name != "CRPROB":
                hdu.header["BUNIT"] = frame.unit if name == "CRCLEAN" else f"{frame.unit}2"
            yield hdu


def _on_disk(values, frame, fill):
    """An array of a frame in the size of the array on disk."""
    full = frame.full_shape or frame.shape
    if full == frame.shape:
        return values
    out = np.full(full, fill, dtype=values.dtype)
    out[tuple(slice(o, o + n) for o, n in zip(frame.offset, frame.shape, strict=True))] = values
    return out


def _describe(header, detection, mask, products, sha):
    full = detection.frame.full_shape or detection.frame.shape
    unseen = int(detection.not_evaluated.sum()) + full[0] * full[1] - detection.not_evaluated.size
    header["CRMODEL"] = (detection.model, "detector")
    header["CRSHA"] = (sha[:16], "SHA-256 of its weights (16 digits)")
    header["CRTHRESH"] = (detection.threshold, "probability threshold")
    header["CRDILATE"] = (products.dilate, "pixels by which the mask was grown")
    header["CRNPIX"] = (int(mask.sum()), "pixels flagged")
    header["CRNOBJ"] = (detection.n_rays, "8-connected groups before growing")
    header["CRFRAC"] = (float(mask.mean()), "share of the pixels that is flagged")
    header["CRNOEVAL"] = (unseen, "pixels not evaluated")
    if detection.tile_px is not None:
        header["CRTILE"] = (detection.tile_px, "side of the tiles; the answer depends on it")
    header["CRVER"] = (results.version(), "version of crcore")
    header["COMMENT"] = f"bits: {dq.describe()}"
    header["HISTORY"] = f"crcore {results.version()}: cosmic rays by {detection.model}"
    header["HISTORY"] = f"crcore revision: {results.provenance()['revision']}"
    for line in _ranges(_on_disk(detection.not_evaluated, detection.frame, True)):
        header["HISTORY"] = line


def _ranges(unseen):
    """Lines that say where nothing was evaluated: boxes of its groups, the largest first; counted from 0."""
    labels, n = ndimage.label(unseen, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    boxes = ndimage.find_objects(labels)
    for number in np.argsort(-sizes, kind="stable")[:MAX_RANGES]:
        rows, columns = boxes[number]
        where = f"columns {columns.start}-{columns.stop - 1}, rows {rows.start}-{rows.stop - 1}"
        yield f"not evaluated: {where}: {sizes[number]} pixels"
    if n > MAX_RANGES:
        yield f"not evaluated: {n - MAX_RANGES} smaller groups more"


def _set_bits(copy, plain, index, detection, products):
    """Set an observatory's bit in the mask that belongs to an image."""
    wanted = dq.bits(products.dq, cosmic_ray=detection.dilated(products.dilate))
    wanted = _on_disk(wanted, detection.frame, 0)
    places = mask_indices(plain, index)  # DQ before BPM
    if not places:
        hdu = fits.CompImageHDU(wanted, name="DQ")
        hdu.header["EXTVER"] = plain[index].header.get("EXTVER", 1)
        copy.append(hdu)
        return
    place = places[0]
    old = plain[place].data
    if old.dtype.kind not in "ui":
        raise InputError(f"extension {place} {plain[place].name} holds {old.dtype}, no bits: leave out --dq")
    kind = np.result_type(old.dtype.newbyteorder("="), wanted.dtype if np.iinfo(old.dtype).max < wanted.max() else "u1")
    new = old.astype(kind) | wanted.astype(kind)
    make = fits.CompImageHDU if isinstance(plain[place], fits.CompImageHDU) else fits.ImageHDU
    copy[place] = make(new, header=plain[place].header, name=plain[place].name)
