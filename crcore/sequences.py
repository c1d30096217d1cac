"""Which exposures in a folder belong together: visits of one field in a row (appendix A)."""

import contextlib
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import Angle
from astropy.time import Time

from crcore.fits_input import BROKEN_FITS, find_fits, open_fits

__all__ = ["MAX_VISITS", "find_exposures", "find_sequences", "night_of"]

#: longest run of visits that is used, so that no field dominates a dataset (appendix A)
MAX_VISITS = 12
#: exposures this far apart (from the end of one to the start of the next) are not "consecutive"
MAX_GAP_S = 900.0
#: pointings this far apart are different fields
MAX_OFFSET_DEG = 0.1

#: keywords of the telescope's longitude, degrees east
_LONGITUDES = ("LONGITUD", "SITELONG", "LONG-OBS", "OBSGEO-L")

_CALIBRATIONS = ("BIAS", "ZERO", "DARK", "FLAT", "ARC", "LAMP", "FOCUS", "BPM", "DOUBLE")


def find_sequences(source, *, min_exposure_s=100.0):
    """Group exposures into runs of 3 to 12 visits, as the paper does.

    The visits of one run have the same camera, filter and exposure time (to 5 %). They
    are one scheduling molecule without gaps (``MOLUID``, ``MOLFRNUM``) or, in frames
    without these, have the same object and pointing and follow each other within
    15 minutes with no exposure of another field, filter or length between them (short ones and
    calibrations do not count). Calibrations, second
    copies of an exposure and products of this package are left out.

    Parameters
    ----------
    source : path-like or list of path-like
        A folder, searched with all folders in it, or files.
    min_exposure_s : float, optional
        Shorter exposures are left out (100 s in the paper).

    Returns
    -------
    runs : list of list of pathlib.Path
        Three to twelve paths each, in the order of observation.
    rejected : list of tuple (pathlib.Path, str)
        What was left out, and why.
    """
    paths = [Path(p) for p in source] if isinstance(source, list | tuple) else find_fits(source)
    rejected, molecules, others = [], {}, {}
    for path in paths:
        try:
            header = _quick_header(path)
        except _ProductError as product:
            rejected.append((path, str(product)))
            continue
        except BROKEN_FITS as error:
            rejected.append((path, f"cannot be read ({error})"))
            continue
        reason = _unusable(header, min_exposure_s)
        if reason:
            rejected.append((path, reason))
            continue
        camera = (str(header.get("INSTRUME")), _filter(header))
        if _is_number(header.get("MOLFRNUM")) and "MOLUID" in header:
            members = molecules.setdefault((*camera, str(header["MOLUID"])), {})
            number, twin = header["MOLFRNUM"], members.get(header["MOLFRNUM"])
            if twin is None or _level(header) > _level(twin[1]):  # the reduced frame rather than the raw one
                members[number] = (path, header)
            if twin is not None:
                kept, dropped = members[number][0], twin[0] if members[number][0] == path else path
                rejected.append((dropped, f"is the same exposure as {kept.name}"))
            continue
        began = _time(header)
        if began is None:
            rejected.append((path, "has neither MOLUID and MOLFRNUM nor a time of observation"))
        else:
            others.setdefault(camera[0], []).append((began, path, header))
    runs = []
    for _, members in sorted(molecules.items()):
        for numbers in _split(sorted(members), lambda a, b: b == a + 1):
            runs += _split([members[n] for n in numbers], lambda a, b: _same_field(a[1], b[1]))
    for _, found in sorted(others.items()):
        found.sort(key=lambda entry: (entry[0], entry[1]))
        unique = []
        for entry in found:
            if unique and abs(entry[0] - unique[-1][0]) < 0.5:
                rejected.append((entry[1], f"is the same exposure as {unique[-1][1].name}"))
            else:
                unique.append(entry)
        runs += [[(path, header) for _, path, header in run] for run in _split(unique, _consecutive)]
    kept = []
    for run in runs:
        names = [path for path, _ in run]
        if len(names) < 3:
            rejected += [(p, f"one of {len(names)} consecutive visits of its field: three are needed") for p in names]
            continue
        rejected += [(p, f"comes after the first {MAX_VISITS} visits of its field") for p in names[MAX_VISITS:]]
        kept.append(names[:MAX_VISITS])
    return kept, rejected


def find_exposures(folder):
    """Single exposures of the sky below a folder: without calibrations, and without products of this package.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    paths : list of pathlib.Path
        Sorted. Files whose headers cannot be read are among them, for the reader to say what is wrong.
    rejected : list of tuple (pathlib.Path, str)
        What was left out, and why.
    """
    paths, rejected = [], []
    for path in find_fits(folder):
        try:
            with open_fits(path) as hdus:
                images = [hdu for hdu in hdus if hdu.header.get("NAXIS") == 2]
                image = next((hdu for hdu in hdus if hdu.name == "SCI"), images[0] if images else hdus[0])
                reason = _product(hdus) or _calibration(image.header) or _calibration(hdus[0].header)
        except BROKEN_FITS:
            reason = ""
        if reason:
            rejected.append((path, reason))
        else:
            paths.append(path)
    return paths, rejected


def night_of(header):
    """The night of an exposure as ``YYYYMMDD``, the date of its evening; empty where the header does not say.

    ``DAY-OBS`` where it is there; else the date at the telescope's longitude twelve hours before the exposure,
    so that no night is parted at midnight. Without a longitude, Greenwich's stands in.
    """
    if "DAY-OBS" in header:
        return str(header["DAY-OBS"]).replace("-", "")
    began = _time(header)
    if began is None:
        return str(header.get("DATE-OBS", ""))[:10].replace("-", "")
    longitude = next((_degrees(header[k]) for k in _LONGITUDES if k in header), 0.0)
    local = Time(began / 86400 + ((longitude + 180) % 360 - 180) / 360 - 0.5, format="mjd", scale="utc")
    return local.strftime("%Y%m%d")


def _degrees(value):
    """Degrees of a number or of ``d:m:s``; 0 for what is neither."""
    with contextlib.suppress(Exception):  # astropy raises several kinds for what is no angle
        return Angle(value, unit=units.deg).deg
    return 0.0


def _unusable(header, min_exposure_s):
    """Why an exposure cannot be part of any sequence, or None."""
    exposure = header.get("EXPTIME")
    if calibration := _calibration(header):
        return calibration
    if not _is_number(exposure):
        return f"has no usable EXPTIME ({exposure!r})"
    if exposure < min_exposure_s:
        return f"exposed {exposure:.0f} s, less than {min_exposure_s:.0f} s"
    planned = header.get("FRMTOTAL")
    if "MOLUID" in header and _is_number(planned) and 0 < planned < 3:
        return f"is one of {planned} visits of its molecule: three are needed"
    return None


def _calibration(header):
    """Why an exposure is none of the sky, or an empty text."""
    kind = str(header.get("OBSTYPE", header.get("IMAGETYP", ""))).upper()
    return f"is a calibration ({kind})" if any(word in kind for word in _CALIBRATIONS) else ""


def _product(hdus):
    """Why a file is none of a telescope's, or an empty text."""
    names = {hdu.name for hdu in hdus}
    made_here = "CRMASK" in names or {"CR", "IGNORE"} <= names
    return "is a product of detection or labeling, not an exposure" if made_here else ""


def _filter(header):
    """What stood in the beam: FILTER, or the filters of all wheels."""
    return "+".join(str(header[k]) for k in ("FILTER", "FILTER1", "FILTER2", "FILTER3") if k in header)


def _level(header):
    """Reduction level of LCO frames: 0 raw, 91 reduced."""
    return header["RLEVEL"] if _is_number(header.get("RLEVEL")) else 0


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_length(a, b):
    return max(a["EXPTIME"], b["EXPTIME"]) <= 1.05 * min(a["EXPTIME"], b["EXPTIME"])


def _consecutive(a, b):
    """Whether exposure ``b`` (time, path, header) goes on where ``a`` stopped."""
    (began, _, first), (next_began, _, second) = a, b
    return next_began - began - first["EXPTIME"] <= MAX_GAP_S and _same_field(first, second)


def _same_field(first, second):
    """Whether two headers are of one field, filter, readout and exposure time (to 5 %)."""
    if _filter(first) != _filter(second) or not _same_length(first, second):
        return False
    if any(first.get(key) != second.get(key) for key in ("OBJECT", "CCDSUM")):
        return False
    here, there = _position(first), _position(second)
    if here is None or there is None:
        return True
    step = np.radians([(there[0] - here[0] + 180) % 360 - 180, there[1] - here[1]])
    return np.degrees(np.hypot(step[0] * np.cos(np.radians(here[1])), step[1])) < MAX_OFFSET_DEG


def _position(header):
    """Right ascension and declination in degrees, or None."""
    pointing = header.get("CRVAL1"), header.get("CRVAL2")
    if str(header.get("CTYPE1", "")).startswith("RA") and all(map(_is_number, pointing)):
        return pointing
    ra, dec = header.get("RA"), header.get("DEC")
    with contextlib.suppress(Exception):  # astropy raises several kinds for what is no angle
        unit = units.deg if _is_number(ra) else units.hourangle
        return Angle(ra, unit=unit).deg, Angle(dec, unit=units.deg).deg
    return None


def _time(header):
    """Start of the exposure in seconds, or None."""
    if _is_number(header.get("MJD-OBS")):
        return header["MJD-OBS"] * 86400.0
    date = str(header.get("DATE-OBS", ""))
    if "T" not in date:
        clock = next((str(header[k]) for k in ("UTSTART", "UTC-OBS", "TIME-OBS", "UTC", "UT") if k in header), "")
        date = f"{date}T{clock}"
    with contextlib.suppress(ValueError):
        return Time(date, format="isot", scale="utc").mjd * 86400.0
    return None


def _split(items, together):
    """Cut a list between neighbours for which ``together(a, b)`` is false."""
    runs = []
    for item in items:
        if runs and together(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


class _ProductError(ValueError):
    """A file that this package has made."""


def _quick_header(path):
    """Header of the first extension with EXPTIME, with the primary's cards where it has none of that name."""
    with open_fits(path) as hdus:
        if product := _product(hdus):
            raise _ProductError(product)
        for hdu in hdus:
            if "EXPTIME" in hdu.header:
                header = hdu.header.copy()
                header.extend(hdus[0].header, unique=True)
                return header
    raise ValueError("no EXPTIME in any header")
