"""One exposure in electrons, with its noise, masks and header, and how it is read from FITS."""

import contextlib
import re
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.utils.exceptions import AstropyUserWarning

from crcore.errors import InputError

__all__ = ["FITS_SUFFIXES", "Frame", "find_fits", "open_fits", "science_extensions"]

#: what reading a damaged FITS file may raise
BROKEN_FITS = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, VerifyError, zlib.error)

#: bits of ``DQ`` that mark cosmic rays (HST: data handbooks; Gemini: DRAGONS)
_RAY_BITS = {"HST": 4096 | 8192, "Gemini": 8}

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.fz", ".fits.gz", ".fit.gz", ".fz")


@dataclass(frozen=True)
class Frame:
    """One exposure.

    Attributes
    ----------
    data : numpy.ndarray, shape (H, W), float32
        Electrons, bias subtracted; the sky is still in.
    read_noise : float or None
        RMS read noise in electrons; None where nothing says it.
    saturation : float or None
        Level in electrons above which a pixel says nothing.
    bad : numpy.ndarray of bool, shape (H, W)
        True where a pixel must not be used (bad-pixel mask, not finite).
    header : astropy.io.fits.Header
        Header of the image extension, with the primary's cards where it has none of that name.
    name : str
        What messages and tables call the frame.
    offset : tuple of int
        Row and column of the frame's first pixel in the array on disk (after trimming).
    full_shape : tuple of int or None
        Rows and columns of the array on disk; None where the frame is not from a file.
    calibrated : bool
        False where the file says neither ``GAIN`` nor that its unit is the electron: the data are as they were.
    """

    data: np.ndarray
    read_noise: float | None = None
    saturation: float | None = None
    bad: np.ndarray = None
    header: fits.Header = field(default_factory=fits.Header)
    name: str = "frame"
    offset: tuple[int, int] = (0, 0)
    full_shape: tuple[int, int] | None = None
    calibrated: bool = True

    def __post_init__(self):
        data = np.asarray(self.data)
        if data.ndim != 2 or data.size == 0 or data.dtype.kind not in "uifb":
            raise InputError(
                f"{self.name}: found an array of shape {data.shape} and type {data.dtype}: "
                "give one two-dimensional image of numbers"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite, and so bad
            native = np.ascontiguousarray(data, dtype=np.float32)
        bad = ~np.isfinite(native)
        if self.bad is not None:
            given = np.asarray(self.bad)
            if given.shape != native.shape:
                raise InputError(
                    f"{self.name}: the bad-pixel mask has shape {given.shape}, the image {native.shape}: "
                    "give a mask of the image's shape"
                )
            bad |= given.astype(bool)
        object.__setattr__(self, "data", native)
        object.__setattr__(self, "bad", bad)

    @property
    def shape(self):
        """Rows and columns."""
        return self.data.shape

    @property
    def exposure_s(self):
        """Exposure time in seconds, or None where the header has none."""
        value = self.header.get("EXPTIME")
        return float(value) if isinstance(value, int | float) else None

    @property
    def saturated(self):
        """True where a pixel has reached the saturation level; bool, (H, W)."""
        if self.saturation is None:
            return np.zeros(self.shape, dtype=bool)
        return self.data >= self.saturation

    @classmethod
    def read(cls, path, *, ext=None, gain=None, read_noise=None):
        """Read an exposure: LCO ``e91`` (``.fits.fz``), plain FITS, or an extension of a MEF.

        Data become electrons (times ``GAIN``). Where ``BIASSEC`` and ``TRIMSEC``
        lie inside the array, or Lick Observatory's ``COVER`` columns stand at its end,
        the frame is raw: its overscan is subtracted and cut off.
        A ``BPM`` or ``DQ`` extension of the image's shape marks bad pixels.

        Parameters
        ----------
        path : str or pathlib.Path
            The file.
        ext : int or str, optional
            Extension with the image; by default ``SCI``, else the first that has a
            two-dimensional image.
        gain, read_noise : float, optional
            Electrons per unit of the data, and electrons, in place of what the header says.

        Returns
        -------
        Frame

        Raises
        ------
        InputError
            When the file is missing, cannot be read, or holds no such image.
        """
        path = Path(path)
        with _readable(path), open_fits(path) as hdus:
            index = _image_index(hdus, ext, path)
            data, header = hdus[index].data, _merged_header(hdus, index)
            return _calibrated(data, header, _bad_pixels(hdus, index), path, gain, read_noise)

    def to_ccddata(self):
        """The frame as `astropy.nddata.CCDData` in electrons, mask True where bad."""
        sigma = np.sqrt(np.abs(self.data) + (self.read_noise or 0.0) ** 2)
        return CCDData(
            self.data, unit="electron", mask=self.bad, header=self.header, uncertainty=StdDevUncertainty(sigma)
        )

    @classmethod
    def from_ccddata(cls, ccd, *, gain=None, name="CCDData"):
        """A frame from `astropy.nddata.CCDData` in electrons, or in ADU with a gain.

        Parameters
        ----------
        ccd : astropy.nddata.CCDData
        gain : float, optional
            Electrons per ADU, in place of ``GAIN`` in the header.
        name : str, optional
            What messages call it.

        Raises
        ------
        InputError
            For ADU without a gain, or another unit.
        """
        header = fits.Header(ccd.header)
        if ccd.unit == units.electron:
            gain = 1.0
        elif ccd.unit == units.adu:
            gain = gain or _number(header, "GAIN", None)
            if gain is None:
                raise InputError(f"{name}: is in ADU and has no GAIN: give gain in electrons per ADU")
        else:
            raise InputError(f"{name}: is in {ccd.unit}: give electrons or ADU")
        header["GAIN"] = (1.0, "electrons per unit of the data")
        saturation = _number(header, "SATURATE", None)
        return cls(
            np.asarray(ccd.data) * gain,
            read_noise=_number(header, "RDNOISE", None),
            saturation=None if saturation is None else saturation * gain,
            bad=ccd.mask,
            header=header,
            name=name,
        )


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
    with _readable(path), open_fits(path) as hdus:
        first = _image_index(hdus, None, path)
        parts = hdus[first].name == "SCI" or "DETSEC" in hdus[first].header
        return [first] + [
            i
            for i, hdu in enumerate(hdus)
            if parts and i != first and _is_image(hdu) and (hdu.name == "SCI" or "DETSEC" in hdu.header)
        ]


def _is_image(hdu):
    return getattr(hdu, "is_image", False) and hdu.header.get("NAXIS") == 2


@contextlib.contextmanager
def _readable(path):
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


def _image_index(hdus, ext, path):
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


def _merged_header(hdus, index):
    header = hdus[index].header.copy()
    if index:
        for card in hdus[0].header.cards:
            if card.keyword not in header and card.keyword not in ("SIMPLE", "EXTEND", "COMMENT", "HISTORY", ""):
                header.append(card)
    return header


def _bad_pixels(hdus, index):
    """Bad pixels of an image extension: the ``BPM`` or ``DQ`` that follows it, or stands alone in the file.

    Bits by which an observatory has marked cosmic rays do not make a pixel bad.
    """
    shape = hdus[index].data.shape
    telescope = str(hdus[0].header.get("TELESCOP", hdus[index].header.get("TELESCOP", "")))
    ray_bits = next((bits for name, bits in _RAY_BITS.items() if telescope.startswith(name)), 0)
    images = [i for i, h in enumerate(hdus) if h.name == hdus[index].name]
    following = [i for i in images if i > index]
    for name in ("BPM", "DQ"):
        masks = [i for i, h in enumerate(hdus) if h.name == name and h.data is not None and h.data.shape == shape]
        mine = [i for i in masks if i > index and (not following or i < following[0])]
        if not mine and len(images) == 1:
            mine = masks
        if mine:
            mask = hdus[mine[0]].data
            return (mask.astype(np.int64) & ~ray_bits if ray_bits else mask) != 0
    return None


def _number(header, keyword, default):
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


def _calibrated(data, header, bad, path, gain, read_noise):
    """Electrons from what a file holds; overscan subtracted and trimmed where it is there. Changes ``header``."""
    given = _number(header, "GAIN", None) if gain is None else gain
    if given is not None and given <= 0:
        raise InputError(f"{path}: GAIN = {given}: electrons per ADU must be positive")
    if gain is None and str(header.get("BUNIT", "")).strip().lower() in ("electron", "electrons", "e-", "e"):
        given = 1.0  # the data are electrons already; GAIN tells how they became so
    saturation = _number(header, "SATURATE", None)
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
                header[keyword] = _number(header, keyword, 0.0) - shift
    factor = 1.0 if given is None else given
    if given is not None:
        header["GAIN"] = (1.0, "electrons per unit of the data")
    if saturation is not None:
        saturation *= factor
        header["SATURATE"] = (saturation, "electrons")
    if read_noise is not None:
        header["RDNOISE"] = (float(read_noise), "electrons")
    return Frame(
        values * np.float32(factor),
        read_noise=_number(header, "RDNOISE", None),
        saturation=saturation,
        bad=bad,
        header=header,
        name=path.name,
        offset=offset,
        full_shape=np.shape(data),
        calibrated=given is not None,
    )
