"""Masks of the explorer on disk: with all that made them, to go on from, and as examples to learn from."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from crcore import dq, results, zoo
from crcore.dataset import single_sequence, write_sequence
from crcore.detection import Detection
from crcore.errors import InputError
from crcore.explorer.session import Edit, Session
from crcore.fits_input import fits_stem, open_fits
from crcore.labelled import NO_DATA

__all__ = ["load_mask", "save_mask", "save_training"]


def save_mask(session, path):
    """Write the mask with all that made it; whole or not at all.

    The file holds ``CRMASK`` (bits 1 ray, 2 not evaluated), ``CRPROB``, and ``CREDITS``, a table of the edits.

    Parameters
    ----------
    session : crcore.explorer.session.Session
    path : path-like

    Raises
    ------
    InputError
        When a file is there that is no saved mask, such as the frame itself.
    """
    path = Path(path)
    if path.exists() and not _is_saved(path):
        raise InputError(f"{path}: is there, and is no mask that the explorer saved: choose another name")
    primary = fits.PrimaryHDU()
    mask = session.mask
    cards = {
        "CRFRAME": (_ascii(session.frame.name), "what was looked at"),
        "CRMODEL": (session.detection.model, "detector"),
        "CRSHA": _sha(session.detection.model),
        "CRTHRESH": (session.threshold, "probability above which a pixel is flagged"),
        "CRDILATE": (session.dilate, "pixels by which the mask was grown"),
        "CRMINPIX": (session.min_pixels, "smaller groups were dropped"),
        "CREDITED": (len(session.edits), "changes by hand, see CREDITS"),
        "CRNPIX": (int(mask.sum()), "flagged pixels"),
        "CRNOBJ": (session.counts()["rays"], "flagged groups"),
        "CRVER": (results.version(), "crcore"),
    }
    for key, card in cards.items():
        primary.header[key] = card
    bits = dq.bits("crcore", cosmic_ray=mask, not_evaluated=session.detection.not_evaluated)
    rows = [(e.kind, e.x, e.y, len(e.pixels)) for e in session.edits]
    kinds = Table(rows=rows or None, names=("kind", "x", "y", "n_pixels"), dtype=("U10", int, int, int))
    touched = np.concatenate([e.pixels for e in session.edits]) if session.edits else np.zeros(0, dtype=int)
    hdus = fits.HDUList([
        primary,
        fits.CompImageHDU(bits, name="CRMASK"),
        fits.CompImageHDU(session.detection.prob, name="CRPROB", compression_type="GZIP_2", quantize_level=0),
        fits.BinTableHDU(kinds, name="CREDITS"),
        fits.BinTableHDU(Table({"pixel": touched.astype(np.int64)}), name="CRTOUCH"),
    ])  # fmt: skip
    with results.atomic(path) as part:
        hdus.writeto(part, overwrite=True)


def load_mask(path, frame, *, truth=None):
    """Go on from a file of `save_mask`: the same mask, with its threshold and edits.

    Parameters
    ----------
    path : path-like
    frame : crcore.frame.Frame
        The frame that was looked at.
    truth : numpy.ndarray of bool, optional

    Returns
    -------
    crcore.explorer.session.Session

    Raises
    ------
    InputError
        When the file is no saved mask, or of a frame of another shape.
    """
    try:
        with open_fits(path) as hdus:
            header = hdus[0].header
            bits, prob = np.asarray(hdus["CRMASK"].data), np.asarray(hdus["CRPROB"].data, dtype=np.float32)
            rows, touched = Table(hdus["CREDITS"].data), np.asarray(hdus["CRTOUCH"].data["pixel"], dtype=np.int64)
            threshold, model = float(header["CRTHRESH"]), str(header["CRMODEL"])
            dilate, min_pixels = int(header["CRDILATE"]), int(header["CRMINPIX"])
            name = str(header["CRFRAME"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no saved mask ({error}): use a file that the explorer has written") from None
    if prob.shape != frame.shape:
        raise InputError(f"{path}: is of {prob.shape} pixels, {frame.name} has {frame.shape}")
    if name != _ascii(frame.name):
        raise InputError(f"{path}: is the mask of {name}, not of {frame.name}")
    detection = Detection(prob, (bits & 2) > 0, threshold, model, frame=frame)
    session = Session(detection, truth=truth)
    session.set(dilate=dilate, min_pixels=min_pixels)
    parts = np.split(touched, np.cumsum(rows["n_pixels"])[:-1]) if len(rows) else []
    session.replay(
        Edit(str(row["kind"]).strip(), int(row["x"]), int(row["y"]), pixels)
        for row, pixels in zip(rows, parts, strict=True)
    )
    return session


def save_training(session, folder):
    """Write the frame with the mask as its labels, as ``crcore train -d FOLDER`` reads it.

    Parameters
    ----------
    session : crcore.explorer.session.Session
    folder : path-like
        Gets ``masked_fits/<frame>_1frms_masks.fits``; one that is there is not overwritten, the new one gets a number.

    Returns
    -------
    pathlib.Path
    """
    frame, model = session.frame, session.detection.model
    header = frame.header.copy()
    header["LABELS"] = ("hand", f"threshold {session.threshold:g} of {model}, {len(session.edits)} edits")
    ignore = np.where(session.detection.not_evaluated, NO_DATA, 0)
    labelled = single_sequence(frame, session.mask, ignore, header=header, name=_ascii(frame.name))
    stem, number = fits_stem(frame.name), 1
    path = Path(folder) / "masked_fits" / f"{stem}_1frms_masks.fits"
    while path.exists():  # another night's frame of that name, or an earlier mask
        number += 1
        path = path.with_name(f"{stem}-{number}_1frms_masks.fits")
    write_sequence(path, labelled)
    return path


def _sha(model):
    """SHA-256 of a released model's weights; an empty text for others."""
    return zoo.fingerprint(zoo.load(model, network=False)) if model in zoo.names() else ""


def _ascii(name):
    """As FITS headers can hold it."""
    return str(name).encode("ascii", "backslashreplace").decode()


def _is_saved(path):
    """True for a file that `save_mask` has written."""
    try:
        with open_fits(path) as hdus:
            return "CRTHRESH" in hdus[0].header and "CREDITED" in hdus[0].header
    except (OSError, ValueError, InputError):
        return False
