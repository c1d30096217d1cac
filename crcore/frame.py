"""One exposure in electrons, with its noise, masks and header, and how it is read from FITS."""

import contextlib
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS, WcsError

from crcore.errors import InputError
from crcore.fits_input import frame_parts, number, open_fits, readable

__all__ = ["Frame", "as_frame"]


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
    def unit(self):
        """Unit of the data, as FITS writes it: ``electron``, or ``adu`` where no gain is known."""
        return "electron" if self.calibrated else "adu"

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
            Electrons per unit of the data, and electrons, in place of what the header says; a sequence has one value
            for each of several amplifiers, side by side along a row.

        Returns
        -------
        Frame

        Raises
        ------
        InputError
            When the file is missing, cannot be read, or holds no such image.
        """
        path = Path(path)
        with readable(path), open_fits(path, checksum=True) as hdus:
            parts = frame_parts(hdus, ext=ext, name=str(path), gain=gain, read_noise=read_noise)
            return cls(**{**parts, "name": path.name})

    @classmethod
    def from_hdus(cls, hdus, *, ext=None, gain=None, read_noise=None):
        """The same from an open `astropy.io.fits.HDUList`."""
        return cls(**frame_parts(hdus, ext=ext, gain=gain, read_noise=read_noise))

    def to_ccddata(self):
        """The frame as `astropy.nddata.CCDData` in its `unit`, mask True where bad."""
        sigma = np.sqrt(np.abs(self.data) + (self.read_noise or 0.0) ** 2)
        wcs = None
        if "CTYPE1" in self.header:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.suppress(WcsError, ValueError, TypeError, KeyError):
                    wcs = WCS(self.header, naxis=2)
        return CCDData(
            self.data, unit=self.unit, mask=self.bad, header=self.header, uncertainty=StdDevUncertainty(sigma), wcs=wcs
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
        if ccd.wcs is not None:
            header.update(ccd.wcs.to_header(relax=True))
        if ccd.unit == units.electron:
            gain = 1.0
        elif ccd.unit == units.adu:
            gain = number(header, "GAIN", None) if gain is None else gain
            if gain is None:
                raise InputError(f"{name}: is in ADU and has no GAIN: give gain in electrons per ADU")
            if not (np.isfinite(gain) and gain > 0):
                raise InputError(f"{name}: GAIN = {gain}: electrons per ADU must be positive")
        else:
            raise InputError(f"{name}: is in {ccd.unit}: give electrons or ADU")
        header["GAIN"] = (1.0, "electrons per unit of the data")
        saturation = number(header, "SATURATE", None)
        if saturation is not None:
            header["SATURATE"] = (saturation * gain, "electrons")
        return cls(
            np.asarray(ccd.data) * gain,
            read_noise=number(header, "RDNOISE", None),
            saturation=None if saturation is None else saturation * gain,
            bad=ccd.mask,
            header=header,
            name=name,
        )


def as_frame(image, *, gain=None, read_noise=None, saturation=None, bad=None, ext=None):
    """One exposure of any form as a `Frame`; parameters as of `crcore.detect`.

    Raises
    ------
    InputError
        For what is no image, or a number that cannot be.
    """
    for name, value in (("gain", gain), ("read_noise", read_noise), ("saturation", saturation)):
        if value is None:
            continue
        several = isinstance(image, str | Path | fits.HDUList) and name != "saturation"  # one for each amplifier
        given = np.asarray(value)
        if given.dtype.kind not in "uif" or (given.ndim and not several):
            raise InputError(f"{name} {value}: one number is needed")
        if not (np.isfinite(given).all() and given.min() >= 0 and (name == "read_noise" or given.min() > 0)):
            raise InputError(f"{name} {value}: a positive number is needed")
    if isinstance(image, Frame):
        if gain is not None:
            raise InputError("gain: a Frame is in electrons already: leave it out")
        frame = image
    elif isinstance(image, str | Path):
        frame, read_noise = Frame.read(image, ext=ext, gain=gain, read_noise=read_noise), None
    elif isinstance(image, fits.HDUList):
        frame, read_noise = Frame.from_hdus(image, ext=ext, gain=gain, read_noise=read_noise), None
    elif isinstance(image, CCDData):
        frame = Frame.from_ccddata(image, gain=gain)
    else:
        try:
            data = np.asarray(image)
        except ValueError:
            raise InputError("array: its rows differ in length: give one two-dimensional image of numbers") from None
        if data.dtype.kind not in "uifb":
            raise InputError(f"array: found type {data.dtype}: give one two-dimensional image of numbers")
        with np.errstate(over="ignore", invalid="ignore"):
            values = data.astype(np.float32) * np.float32(1.0 if gain is None else gain)
        hidden = np.ma.getmaskarray(image) if np.ma.isMaskedArray(image) else None
        frame = Frame(values, bad=hidden, name="array")
    changes = {"read_noise": read_noise, "saturation": saturation}
    changes = {name: float(value) for name, value in changes.items() if value is not None}
    if bad is not None:
        changes["bad"] = frame.bad | Frame(frame.data, bad=bad, name=frame.name).bad  # checks the mask's shape
    return replace(frame, **changes) if changes else frame
