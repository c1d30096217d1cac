"""Cosmic rays of one exposure: an array, file, `CCDData` or `Frame` in, a `Detection` out."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from astropy.io import fits
from astropy.nddata import CCDData
from scipy import ndimage

from crcore import results, zoo
from crcore.errors import InputError
from crcore.frame import Frame, open_fits
from crcore.preprocess import prepare
from crcore.tiling import map_tiles

__all__ = ["CosmicRayModel", "Detection", "NetworkDetector", "detect", "init_model", "write_detection"]

#: bits of the CRMASK extension
MASK_RAY, MASK_NOT_EVALUATED = 1, 2

DEFAULT_MODEL = "ground_imaging"
TILE_PX = 1024


@dataclass(frozen=True)
class Detection:
    """What a detector says of one frame.

    Attributes
    ----------
    prob : numpy.ndarray, shape (H, W), float32
        Probability (or, for filters, a score that orders pixels) in [0, 1].
    not_evaluated : numpy.ndarray of bool, shape (H, W)
        True where the detector did not look: no data, bad pixels, edges.
    threshold : float
        What ``mask`` was made with.
    model : str
        Name of the detector.
    """

    prob: np.ndarray
    not_evaluated: np.ndarray
    threshold: float
    model: str

    @property
    def mask(self):
        """True where there is a cosmic ray; bool, (H, W)."""
        return (self.prob > self.threshold) & ~self.not_evaluated

    @property
    def n_rays(self):
        """Number of 8-connected groups of flagged pixels."""
        return int(ndimage.label(self.mask, np.ones((3, 3)))[1])

    def dq(self):
        """Bits as in ``CRMASK``: 1 cosmic ray, 2 not evaluated; uint8, (H, W)."""
        return (self.mask * MASK_RAY + self.not_evaluated * MASK_NOT_EVALUATED).astype(np.uint8)


class NetworkDetector:
    """A network of ours behind the detector protocol: ``detector(frame) -> Detection``.

    Parameters
    ----------
    model : crcore.zoo.Model or str
        A model or its name.
    tile_px : int, optional
        Frames larger than this are cut into tiles. Group normalisation takes its mean
        over a tile, so the answer depends a little on it.
    """

    def __init__(self, model=DEFAULT_MODEL, *, tile_px=TILE_PX):
        self.model = zoo.load(model) if isinstance(model, str | Path) else model
        self.tile_px = tile_px

    @property
    def name(self):
        """Name of the model."""
        return self.model.name

    def __call__(self, frame):
        """Detect cosmic rays in a `crcore.frame.Frame`."""
        image = prepare(frame.data, self.model.input, bad=frame.bad)
        network = self.model.network
        prob = map_tiles(
            self._prob,
            image,
            tile_px=self.tile_px,
            margin_px=-(-network.reach_px // network.multiple) * network.multiple,
            multiple=network.multiple,
        )
        prob[frame.bad] = 0
        return Detection(prob, frame.bad.copy(), self.model.threshold, self.name)

    def _prob(self, tile):
        tensor = torch.from_numpy(tile)[None, None].contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.sigmoid(self.model.network(tensor))[0, 0].numpy()


def detect(image, *, model=DEFAULT_MODEL, gain=None, bad=None, threshold=None, ext=None):
    """Find cosmic rays in one exposure.

    Parameters
    ----------
    image : array-like, path, `astropy.nddata.CCDData` or `crcore.frame.Frame`
        One image (H, W) of any size. Arrays are in electrons after ``gain``.
    model : str, pathlib.Path or crcore.zoo.Model, optional
        A released model's name, a model's folder, or a model.
    gain : float, optional
        Electrons per unit of an array or of ``CCDData`` in ADU (default 1, or its header's
        ``GAIN``). Files bring their own.
    bad : array-like of bool, optional
        True for pixels not to be used, (H, W), besides those that the input itself marks.
    threshold : float, optional
        In place of the model's own.
    ext : int or str, optional
        Extension of a file, by name or number.

    Returns
    -------
    Detection

    Raises
    ------
    crcore.errors.InputError
        For input that is no image, a gain that is not positive, or an unknown model.

    Examples
    --------
    >>> import numpy as np
    >>> from crcore import detect
    >>> image = np.random.default_rng(0).normal(100, 10, (64, 64))
    >>> image[30, 20:23] += [300, 2000, 900]
    >>> detect(image).n_rays
    1
    """
    frame = _as_frame(image, gain=gain, bad=bad, ext=ext)
    if frame.bad.all():
        raise InputError(f"{frame.name}: every pixel is bad or not a number: nothing to look at")
    detection = NetworkDetector(model)(frame)
    if threshold is None:
        return detection
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold}: a probability between 0 and 1 is needed")
    return Detection(detection.prob, detection.not_evaluated, float(threshold), detection.model)


def _as_frame(image, *, gain, bad, ext):
    if gain is not None and not gain > 0:
        raise InputError(f"gain {gain}: electrons per unit must be positive")
    if isinstance(image, str | Path | Frame) and gain is not None:
        raise InputError("gain: only arrays and CCDData in ADU take one; files and frames bring their own")
    if isinstance(image, Frame):
        frame = image
    elif isinstance(image, str | Path):
        frame = Frame.read(image, ext=ext)
    elif isinstance(image, CCDData):
        frame = Frame.from_ccddata(image, gain=gain)
    else:
        data = np.asarray(image)
        if data.dtype.kind not in "uifb":
            raise InputError(f"array: found type {data.dtype}: give one two-dimensional image of numbers")
        with np.errstate(over="ignore", invalid="ignore"):
            values = data.astype(np.float32) * np.float32(gain or 1.0)
        frame = Frame(values, name="array")
    if bad is None:
        return frame
    marked = Frame(frame.data, bad=bad, name=frame.name).bad  # checks the mask's shape
    return replace(frame, bad=frame.bad | marked)


class CosmicRayModel:
    """A model with the interface that section 5 of the paper prints."""

    def __init__(self, name):
        self.model = zoo.load(name)

    def detect_cr(self, image):
        """Cosmic-ray probability of each pixel.

        Parameters
        ----------
        image : array-like, shape (H, W)
            Electrons; any shape.

        Returns
        -------
        numpy.ndarray
            float32 in [0, 1], (H, W). Pixels that are not numbers get 0.
        """
        return detect(image, model=self.model).prob


def init_model(model=DEFAULT_MODEL):
    """Initialise a model as the paper's snippet does (section 5).

    Returns
    -------
    cr_model : CosmicRayModel
    opt : types.SimpleNamespace
        ``model``, ``threshold`` and ``input`` of the model.

    Examples
    --------
    >>> import numpy as np
    >>> from crcore import init_model
    >>> cr_model, opt = init_model("ground_imaging")
    >>> cr_model.detect_cr(np.zeros((33, 47), dtype="float32")).shape
    (33, 47)
    """
    cr_model = CosmicRayModel(model)
    loaded = cr_model.model
    return cr_model, SimpleNamespace(model=loaded.name, threshold=loaded.threshold, input=loaded.input)


def write_detection(source, target, detection, frame):
    """Copy a FITS file and attach ``CRMASK`` and ``CRPROB`` to the copy.

    Parameters
    ----------
    source, target : path-like
        The file that was read, and where the copy goes; never the same.
    detection : Detection
    frame : crcore.frame.Frame
        What was read from ``source``; where it was trimmed, the masks are put back into
        the size of the file's image and the rest is marked as not evaluated.

    Raises
    ------
    InputError
        When the target is the source or cannot be written.
    """
    source, target = Path(source), Path(target)
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input itself: choose another output folder")
    try:
        # Compressed images are copied as they are on disk, so that not a bit of them changes.
        with open_fits(source, disable_image_compression=True) as hdus, results.atomic(target) as part:
            full = frame.full_shape or frame.shape
            mask = np.full(full, MASK_NOT_EVALUATED, dtype=np.uint8)
            prob = np.zeros(full, dtype=np.float32)
            window = tuple(slice(o, o + n) for o, n in zip(frame.offset, frame.shape, strict=True))
            mask[window], prob[window] = detection.dq(), detection.prob
            hdu = fits.CompImageHDU(mask, name="CRMASK")
            hdu.header["CRMODEL"] = (detection.model, "detector")
            hdu.header["CRTHRESH"] = (detection.threshold, "probability threshold")
            hdu.header["CRNPIX"] = (int(detection.mask.sum()), "pixels flagged")
            hdu.header["CRNOBJ"] = (detection.n_rays, "8-connected groups of them")
            hdu.header["CRNOEVAL"] = (int(detection.not_evaluated.sum()), "pixels not evaluated")
            hdu.header["CRVER"] = (results.provenance()["revision"], "revision of crcore")
            hdu.header["COMMENT"] = "bits: 1 cosmic ray, 2 not evaluated"
            prob_hdu = fits.CompImageHDU(prob, name="CRPROB", compression_type="GZIP_2", quantize_level=0)
            fits.HDUList([*hdus, hdu, prob_hdu]).writeto(part, overwrite=True, output_verify="silentfix")
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror or error}): check the folder and the disk"
        ) from None
