"""How exposures are read from FITS files of many layouts: which extension, which mask, overscan, gain."""

import contextlib
import re
import warnings
import zlib
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from crcore.errors import InputError

__all__ = [
    "BROKEN_FITS",
    "FITS_SUFFIXES",
    "extension_number",
    "find_fits",
    "frame_parts",
    "image_index",
    "mask_index",
    "open_fits",
    "readable",
    "science_extensions",
]

#: what reading a damaged FITS file may raise
BROKEN_FITS = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, VerifyError, zlib.error)

#: bits of ``DQ`` that mark cosmic rays (HST: data handbooks; Gemini: DRAGONS; LCO: BANZAI)
_RAY_BITS = {"HST": 4096 | 8192, "Gemini": 8, "LCO": 8}

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.fz", ".fits.gz", ".fit.gz", ".fz")


@contextlib.contextmanager
def open_fits(path, **options):
    """Open a FITS file for reading.

    The file is closed even when it is no FITS file. A file that ends too early raises
    OSError, where astropy would warn and give what there is; headers that only bend the
    standard are read without a word. Further options go to `astropy.io.fits.open`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)
        warnings.filterwarnings("error", "(?s).*(truncated|may be corrupted|file is corrupted)", AstropyUserWarning)
        warnings.filterwarnings("error", "(?s).*(truncated|may be corrupted|file is corrupted)", VerifyWarning)
        try:
            with Path(path).open("rb") as stream, fits.open(stream, memmap=False, **options) as hdus:
                yield hdus
        except (AstropyUserWarning, VerifyWarning) as warning:
            raise OSError(_first_line(warning)) from None


def frame_parts(hdus, *, ext=None, name="HDU list", gain=None, read_noise=None):
    """What `crcore.frame.Frame` takes, from an open list of HDUs; parameters as of ``Frame.read``."""
    index = image_index(hdus, ext, name)
    return calibrated(
        hdus[index].data, merged_header(hdus, index), bad_pixels(hdus, index), name, gain=gain, read_noise=read_noise
    )


def find_fits(folder):
    """All FITS files below a folder, sorted.

    Raises
    ------
    InputError
        When the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: check the path")
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.name.lower().endswith(FITS_SUFFIXES) and not p.name.startswith(".")
    )


def extension_number(path, ext):
    """Number of the extension called ``ext`` (a name or a number), which must hold a two-dimensional image."""
    with readable(path), open_fits(path) as hdus:
        return image_index(hdus, ext, path)


def science_extensions(path):
    """Numbers of the extensions that hold images of the sky: one, or one for each chip of a mosaic.

    Those named ``SCI``; where there are none, the first image, and those that say with it by ``DETSEC`` that they
    are parts of one mosaic.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of int

    Raises
    ------
    InputError
        When the file cannot be read or holds no two-dimensional image.
    """
    path = Path(path)
    with readable(path), open_fits(path) as hdus:
        first = image_index(hdus, None, path)
        parts = hdus[first].name == "SCI" or "DETSEC" in hdus[first].header
        return [first] + [
            i
            for i, hdu in enumerate(hdus)
            if parts and i != first and _is_image(hdu) and (hdu.name == "SCI" or "DETSEC" in hdu.header)
        ]


def _is_image(hdu):
    return getattr(hdu, "is_image", False) and hdu.header.get("NAXIS") == 2


@contextlib.contextmanager
def readable(path):
    """Says in one line what is wrong with a file that cannot be read."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except BROKEN_FITS as error:
        raise InputError(f"{path}: cannot be read as FITS ({_first_line(error)}): is it whole?") from None


def _first_line(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


def image_index(hdus, ext, path):
    """Number of the extension that holds the image."""
    if ext is not None:
        try:
            index = hdus.index_of(ext)
            found = hdus[index].data
        except (KeyError, IndexError):
            raise InputError(f"{path}: has no extension {ext!r}: it has {_listing(hdus)}") from None
        if found is None or np.ndim(found) != 2 or not getattr(hdus[index], "is_image", False):
            raise InputError(f"{path}: extension {ext!r} is no two-dimensional image: it has {_listing(hdus)}")
        return index
    order = [i for i, h in enumerate(hdus) if h.name == "SCI"]
    order += [i for i in range(len(hdus)) if i not in order]
    for i in order:
        if _is_image(hdus[i]) and hdus[i].data is not None:
            return i
    raise InputError(f"{path}: holds no two-dimensional image (found {_listing(hdus)}): name one with --ext")


def _listing(hdus):
    return ", ".join(f"{i} {h.name or 'unnamed'} {getattr(h, 'shape', ())}" for i, h in enumerate(hdus))


def merged_header(hdus, index):
    header = hdus[index].header.copy()
    if index:
        for card in hdus[0].header.cards:
            if card.keyword not in header and card.keyword not in ("SIMPLE", "EXTEND", "COMMENT", "HISTORY", ""):
                header.append(card)
    return header


def mask_index(hdus, index):
    """Number of the mask of an image extension, the ``BPM`` or ``DQ`` that follows it or stands alone; or None."""
    shape = hdus[index].data.shape
    images = [i for i, h in enumerate(hdus) if h.name == hdus[index].name]
    following = [i for i in images if i > index]
    for name in ("BPM", "DQ"):
        masks = [i for i, h in enumerate(hdus) if h.name == name and h.data is not None and h.data.shape == shape]
        mine = [i for i in masks if i > index and (not following or i < following[0])]
        if not mine and len(images) == 1:
            mine = masks
        if mine:
            return mine[0]
    return None


def bad_pixels(hdus, index):
    """Bad pixels of an image extension by its mask, or None without one.

    Bits by which an observatory has marked cosmic rays do not make a pixel bad.
    """
    place = mask_index(hdus, index)
    if place is None:
        return None
    heads = (hdus[0].header, hdus[index].header)
    owner = " ".join(str(head.get(key, "")) for head in heads for key in ("TELESCOP", "ORIGIN"))
    ray_bits = next((bits for name, bits in _RAY_BITS.items() if name in owner), 0)
    mask = hdus[place].data
    return (mask.astype(np.int64) & ~ray_bits if ray_bits else mask) != 0


def number(header, keyword, default):
    value = header.get(keyword, default)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _section(header, keyword, shape):
    """``[x1:x2, y1:y2]`` as slices, or None where absent or outside the array."""
    match = re.fullmatch(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]", str(header.get(keyword, "")))
    if not match:
        return None
    x1, x2, y1, y2 = (int(g) for g in match.groups())
    if not (1 <= x1 <= x2 <= shape[1] and 1 <= y1 <= y2 <= shape[0]):
        return None
    return slice(y1 - 1, y2), slice(x1 - 1, x2)


def _overscan(values, header):
    """Bias-subtracted illuminated part of a raw array and its place (slices), or the array as it is and None."""
    trim, overscan = (_section(header, key, values.shape) for key in ("TRIMSEC", "BIASSEC"))
    if trim is not None and overscan is not None and values[trim].shape != values.shape:
        level = np.median(values[overscan], axis=1, keepdims=True)  # one level a row, as the amplifier drifts
        if level.shape[0] != values[trim].shape[0]:
            level = np.median(values[overscan])
        return values[trim] - level, trim, float(np.max(level))
    columns, amplifiers = header.get("COVER"), header.get("AMPSROW")
    trim = _section(header, "DATASEC", values.shape)
    if isinstance(columns, int) and isinstance(amplifiers, int) and columns > 0 and amplifiers > 0 and trim is not None:
        width = trim[1].stop  # Lick: the overscan of each amplifier, one after the other, follows the image
        if values.shape[1] == width + columns * amplifiers:
            image = np.array(values[:, :width])
            edges = np.linspace(0, width, amplifiers + 1).astype(int)
            for k in range(amplifiers):
                start = width + k * columns
                level = np.median(values[:, start : start + columns], axis=1, keepdims=True)
                image[:, edges[k] : edges[k + 1]] -= level
            return image, (slice(0, values.shape[0]), slice(0, width)), float(np.median(values[:, width:]))
    return values, None, 0.0


def _by_amplifier(gain, width, name):
    """A gain, or those of amplifiers that share the columns equally, as a row of float32."""
    gain = np.atleast_1d(np.asarray(gain, dtype=np.float32))
    if width % len(gain):
        raise InputError(f"{name}: {width} columns cannot be shared equally by {len(gain)} amplifiers: check the gains")
    return np.repeat(gain, width // len(gain))


def calibrated(data, header, bad, name, gain=None, read_noise=None):
    """Electrons from what a file holds, as a dictionary of what `crcore.frame.Frame` takes.

    Overscan is subtracted and trimmed where it is there. Changes ``header``. ``gain`` and ``read_noise`` may be
    sequences: one value for each amplifier, side by side along a row.
    """
    given = number(header, "GAIN", None) if gain is None else gain
    if given is not None and not (np.isfinite(given).all() and np.min(given) > 0):
        raise InputError(f"{name}: GAIN = {given}: electrons per ADU must be positive")
    if gain is None and str(header.get("BUNIT", "")).strip().lower() in ("electron", "electrons", "e-", "e"):
        given = 1.0  # the data are electrons already; GAIN tells how they became so
    saturation = number(header, "SATURATE", None)
    values, trim, bias = _overscan(np.asarray(data, dtype=np.float32), header)
    offset = (0, 0)
    if trim is not None:
        if saturation is not None:
            saturation -= bias
        bad = None if bad is None else bad[trim]
        offset = (trim[0].start, trim[1].start)
        header.add_history("crcore: overscan subtracted and trimmed")
        for keyword, shift in (("CRPIX1", offset[1]), ("CRPIX2", offset[0])):
            if keyword in header:
                header[keyword] = number(header, keyword, 0.0) - shift
    if given is not None:
        header["GAIN"] = (1.0, "electrons per unit of the data")
        if np.any(np.not_equal(given, 1)):
            values = values * _by_amplifier(given, values.shape[1], name)
            saturation = None if saturation is None else saturation * float(np.min(given))
    if saturation is not None:
        header["SATURATE"] = (saturation, "electrons")
    if read_noise is not None:  # of several amplifiers their quadratic mean: the noise itself is measured on the image
        header["RDNOISE"] = (float(np.sqrt(np.mean(np.square(read_noise)))), "electrons")
    return {
        "data": values,
        "read_noise": number(header, "RDNOISE", None),
        "saturation": saturation,
        "bad": bad,
        "header": header,
        "name": name,
        "offset": offset,
        "full_shape": np.shape(data),
        "calibrated": given is not None,
    }
