"""How exposures are read from FITS files of many layouts: which extension, which mask, overscan, gain."""

import contextlib
import gzip
import io
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
    "extensions_named",
    "find_fits",
    "fits_stem",
    "frame_parts",
    "image_index",
    "images_of_the_sky",
    "mask_indices",
    "open_fits",
    "readable",
    "science_extensions",
]

#: what reading a damaged FITS file may raise
BROKEN_FITS = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, VerifyError, zlib.error)

#: bits of ``DQ`` that mark cosmic rays (HST: data handbooks; Gemini: DRAGONS; LCO: BANZAI)
_RAY_BITS = {"HST": 4096 | 8192, "Gemini": 8, "LCO": 8}

#: how the names of extensions begin that stand beside an image of the sky and are none
_COMPANIONS = ("DQ", "BPM", "MASK", "VAR", "ERR", "WHT", "IVAR", "CRMASK", "CRPROB", "CRCLEAN", "CRVAR")

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
        warnings.filterwarnings("error", "(?s).*[Dd]atasum verification failed", AstropyUserWarning)
        warnings.filterwarnings(
            "ignore", "(?s).*[Cc]hecksum verification failed", AstropyUserWarning
        )  # headers get edited
        try:
            with _plain(path) as stream, fits.open(stream, memmap=False, **options) as hdus:
                yield hdus
        except (AstropyUserWarning, VerifyWarning) as warning:
            raise OSError(_first_line(warning)) from None


def _plain(path):
    """The file as a stream; one compressed by gzip is read to its end, where its own check is."""
    stream = Path(path).open("rb")  # noqa: SIM115 - who asked closes it
    if stream.read(2) == b"\x1f\x8b":
        with stream:
            stream.seek(0)
            return io.BytesIO(gzip.GzipFile(fileobj=stream).read())
    stream.seek(0)
    return stream


def frame_parts(hdus, *, ext=None, name="HDU list", gain=None, read_noise=None):
    """What `crcore.frame.Frame` takes, from an open list of HDUs; parameters as of ``Frame.read``."""
    index = image_index(hdus, ext, name)
    try:
        bad = bad_pixels(hdus, index)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return calibrated(hdus[index].data, merged_header(hdus, index), bad, name, gain=gain, read_noise=read_noise)


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


def fits_stem(name):
    """File name without its FITS endings, as new names are made of it.

    >>> [fits_stem(n) for n in ("a.fits", "a.b.fits.fz", "a.FIT.gz", "cube.fits[1]")]
    ['a', 'a.b', 'a', 'cube-1']
    """
    name, bracket, rest = str(name).partition("[")  # a plane or extension of the file
    for suffix in (".fz", ".gz", ".fits", ".fit", ".fts"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return f"{name}-{rest.rstrip(']')}" if bracket else name


def science_extensions(path, *, every=False):
    """Numbers of the extensions that hold images of the sky: one, or one for each chip of a mosaic.

    Those named ``SCI``; where there are none, the first image, and those that say with it by ``DETSEC`` that they
    are parts of one mosaic.

    Parameters
    ----------
    path : path-like
    every : bool, optional
        Where none is named ``SCI``, take every image but masks, variances and what this package has added.

    Returns
    -------
    list of int

    Raises
    ------
    InputError
        When the file cannot be read or holds no two-dimensional image.
    """
    chosen, others = images_of_the_sky(path)
    return sorted(chosen + others) if every else chosen


def images_of_the_sky(path):
    """What `science_extensions` gives, and the other images that are no masks or variances: two lists of int."""
    path = Path(path)
    with readable(path), open_fits(path) as hdus:
        first = image_index(hdus, None, path)
        images = [i for i, hdu in enumerate(hdus) if _is_image(hdu)]
        if hdus[first].name == "SCI":
            return [i for i in images if hdus[i].name == "SCI"], []
        alone = [i for i in images if not hdus[i].name.startswith(_COMPANIONS)]
        chosen = [first]
        if "DETSEC" in hdus[first].header:
            chosen = [i for i in alone if "DETSEC" in hdus[i].header]
        return chosen, [i for i in alone if i not in chosen]


def extensions_named(path, ext):
    """Numbers of the extensions that ``ext`` means: a number, a name (all that have it), or ``NAME,VERSION``.

    Raises
    ------
    InputError
        When there is none, or one is no two-dimensional image.
    """
    name, comma, version = str(ext).partition(",")
    with readable(path), open_fits(path) as hdus:
        if name.strip().isdigit() and not comma:
            return [image_index(hdus, int(name), path)]
        if comma and not version.strip().isdigit():
            raise InputError(f"{path}: extension {ext!r}: give a name, a number, or NAME,VERSION")
        chosen = [i for i, hdu in enumerate(hdus) if hdu.name == name.strip().upper()]
        if comma:
            chosen = [i for i in chosen if hdus[i].ver == int(version)]
        if not chosen:
            raise InputError(f"{path}: has no extension {ext!r}: it has {_listing(hdus)}")
        return [image_index(hdus, i, path) for i in chosen]


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


def mask_indices(hdus, index):
    """Numbers of the masks of an image extension, ``DQ`` and ``BPM``, in this order; none or one of each.

    A mask belongs to the image of its ``EXTVER``, where both have one; else to the image that it follows, or to the
    only one.

    Raises
    ------
    InputError
        When a mask that belongs to the image has another shape.
    """
    image = hdus[index]
    images = [i for i, h in enumerate(hdus) if h.name == image.name]
    following = [i for i in images if i > index]
    found = []
    for name in ("DQ", "BPM"):
        masks = [i for i, h in enumerate(hdus) if h.name == name and len(getattr(h, "shape", ())) == 2]
        if "EXTVER" in image.header and any(hdus[i].header.get("EXTVER") == image.ver for i in masks):
            mine = [i for i in masks if hdus[i].header.get("EXTVER") == image.ver]
            mine = [i for i in mine if i > index] or mine  # several images of one version: the mask follows
        else:
            mine = [i for i in masks if i > index and (not following or i < following[0])]
            mine = mine or (masks if len(images) == 1 else [])
        if mine and hdus[mine[0]].shape != image.shape:
            raise InputError(
                f"extension {mine[0]} {name} has shape {hdus[mine[0]].shape}, the image {image.shape}: "
                "give a mask of the image's shape"
            )
        found += mine[:1]
    return found


def bad_pixels(hdus, index):
    """Bad pixels of an image extension by its masks, or None without one.

    Bits by which an observatory has marked cosmic rays do not make a pixel bad.
    """
    places = mask_indices(hdus, index)
    if not places:
        return None
    heads = (hdus[0].header, hdus[index].header)
    owner = " ".join(str(head.get(key, "")) for head in heads for key in ("TELESCOP", "ORIGIN"))
    ray_bits = next((bits for name, bits in _RAY_BITS.items() if name in owner), 0)
    bad = np.zeros(hdus[index].shape, dtype=bool)
    for place in places:
        mask = hdus[place].data
        bad |= (mask.astype(np.int64) & ~ray_bits if ray_bits else mask) != 0
    return bad


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
            gains = _by_amplifier(given, values.shape[1], name)
            full = None if saturation is None else values >= saturation
            values = values * gains
            if saturation is not None:
                saturation *= float(np.max(given))
                if np.ndim(given):  # amplifiers saturate at different charges: full pixels say nothing in any
                    values[full] = np.maximum(values[full], saturation)
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
