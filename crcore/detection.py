"""Cosmic rays of one exposure: an array, file, HDU list, `CCDData` or `Frame` in, a `Detection` out."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from astropy.table import Table
from scipy import ndimage

from crcore import dq, zoo
from crcore.calibration import shift_prior
from crcore.errors import InputError
from crcore.frame import Frame, as_frame
from crcore.inference import runner, tile_for
from crcore.morphology import footprints, measure
from crcore.preprocess import peak_census, prepare, sky_and_noise
from crcore.tiling import map_tiles
from crcore.zoo import DEFAULT_MODEL

__all__ = ["CosmicRayModel", "Detection", "NetworkDetector", "detect", "init_model"]

#: saturated groups of at least so many pixels are a star's core or its bleeding; a ray may fill one pixel or two
WELL_PIXELS = 4


@dataclass(frozen=True)
class Detection:
    """What a detector says of one frame.

    Attributes
    ----------
    prob : numpy.ndarray, shape (H, W), float32
        Probability (or, for filters, a score that orders pixels) in [0, 1].
    not_evaluated : numpy.ndarray of bool, shape (H, W)
        True where nothing is said: no data, bad or saturated pixels, what touches a saturated core, unseen edges.
    threshold : float
        What ``mask`` was made with.
    model : str
        Name of the detector.
    tile_px : int or None
        Side of the tiles, where the answer depends on it; None where it does not, or the frame was taken whole.
    frame : crcore.frame.Frame or None
        What was looked at.
    expected : float or None
        Share of ray pixels to which probabilities have been shifted; None where they have not.
    """

    prob: np.ndarray
    not_evaluated: np.ndarray
    threshold: float
    model: str
    tile_px: int | None = None
    frame: Frame | None = field(default=None, repr=False)
    expected: float | None = None

    @property
    def mask(self):
        """True where there is a cosmic ray; bool, (H, W)."""
        return (self.prob > self.threshold) & ~self.not_evaluated

    @property
    def n_rays(self):
        """Number of 8-connected groups of flagged pixels."""
        return int(ndimage.label(self.mask, np.ones((3, 3)))[1])

    def dilated(self, pixels):
        """The mask, grown by so many pixels on all sides; bool, (H, W). What was not evaluated stays out."""
        if pixels < 1:
            return self.mask
        grown = ndimage.binary_dilation(self.mask, np.ones((3, 3)), iterations=int(pixels))
        return grown & ~self.not_evaluated

    def dq(self, convention="crcore"):
        """Data-quality bits.

        Parameters
        ----------
        convention : {"crcore", "lco", "gemini", "hst"}, optional
            Whose bits, see `crcore.dq.CONVENTIONS`; ``crcore``: 1 cosmic ray, 2 not evaluated.

        Returns
        -------
        numpy.ndarray
            uint8 (``crcore``) or int16, (H, W).
        """
        return dq.bits(convention, cosmic_ray=self.mask, not_evaluated=self.not_evaluated)

    def to_ccddata(self):
        """The frame as `astropy.nddata.CCDData` in electrons: mask True where bad or hit, bits in ``flags``.

        Raises
        ------
        InputError
            When the detection does not know its frame.
        """
        ccd = self._known_frame().to_ccddata()
        ccd.mask = self.mask | self.not_evaluated
        ccd.flags = self.dq()
        return ccd

    def objects(self):
        """One row a ray.

        Returns
        -------
        astropy.table.Table
            ``x``, ``y``: charge-weighted position (pixels, from 0); ``x_peak``, ``y_peak``; ``n_pixels``;
            ``length_px``; ``peak`` and ``charge`` above the sky (electrons, or ADU where no gain is known); ``prob``:
            highest probability.

        Raises
        ------
        InputError
            When the detection does not know its frame.
        """
        frame, mask = self._known_frame(), self.mask
        columns = ("x", "y", "x_peak", "y_peak", "n_pixels", "length_px", "peak", "charge", "prob")
        table = Table(names=columns, dtype=(float, float, int, int, int, float, float, float, float))
        for name in ("x", "y", "x_peak", "y_peak", "n_pixels", "length_px"):
            table[name].unit = "pix"
        for name in ("peak", "charge"):
            table[name].unit = frame.unit
        if not mask.any():
            return table
        unknown = frame.bad.any()
        sky, _ = sky_and_noise(np.where(frame.bad, 0, frame.data), bad=frame.bad if unknown else None)
        level = np.where(frame.bad, 0, frame.data) - sky
        level[level == 0] = 1e-6  # a pixel of a ray stays one
        labels, n = ndimage.label(mask, np.ones((3, 3)))
        shapes = measure(footprints(level, mask))
        probs = ndimage.maximum(self.prob, labels, np.arange(1, n + 1))
        for number, box in enumerate(ndimage.find_objects(labels)):
            inside = labels[box] == number + 1
            y, x = np.nonzero(inside)
            charge = level[box][inside].astype(float)
            weight = np.maximum(charge, 1e-6)
            top = np.argmax(charge)
            y, x = y + box[0].start, x + box[1].start
            table.add_row(
                (
                    *(np.average(x, weights=weight), np.average(y, weights=weight), x[top], y[top], len(x)),
                    *(shapes["length_px"][number], charge[top], charge.sum(), probs[number]),
                )
            )
        return table

    def _known_frame(self):
        if self.frame is None:
            raise InputError(f"{self.model}: the detection does not know its frame: make it with frame=")
        return self.frame


class NetworkDetector:
    """A network of ours behind the detector protocol: ``detector(frame) -> Detection``.

    Parameters
    ----------
    model : crcore.zoo.Model or str, optional
        A model or its name.
    tile_px : int, optional
        Side of the tiles into which larger frames are cut; by default chosen by the network and the memory that is
        free. The answer of a network without group normalisation does not depend on it.
    device : {"cuda", "mps", "cpu", "onnx"}, optional
        By default a GPU if there is one.
    threshold : float, optional
        In place of the model's own.
    threads : int, optional
        Of the processor, for this process; 0 leaves the choice to PyTorch or ONNX Runtime.

    Raises
    ------
    InputError
        For an unknown model or device, or a threshold that is no probability.
    """

    def __init__(self, model=DEFAULT_MODEL, *, tile_px=None, device=None, threshold=None, threads=0):
        if tile_px is not None and not (tile_px >= 1 and tile_px == int(tile_px)):
            raise InputError(f"tile {tile_px}: a side in whole pixels is needed")
        self.model = zoo.load(model, network=device != "onnx") if isinstance(model, str | Path) else model
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold {threshold}: a probability between 0 and 1 is needed")
        self.threshold = self.model.threshold if threshold is None else float(threshold)
        self.tile_px = None if tile_px is None else int(tile_px)
        self._runner = runner(self.model, device, threads=threads)

    @property
    def name(self):
        """Name of the model."""
        return self.model.name

    @property
    def identity(self):
        """All that decides the answers, for caches; None for a model that is only in memory."""
        weights = zoo.fingerprint(self.model)
        return (weights, self.threshold, self.tile_px, self._runner.device, self._runner.half) if weights else None

    def __call__(self, frame, *, progress=None):
        """Detect cosmic rays in a `crcore.frame.Frame`; ``progress(share)`` is called after each tile."""
        config = self.model.config
        tile = self.tile_px or tile_for(self.model, frame.shape, self._runner.free_bytes)
        done, tiles = 0, np.prod([-(-n // (tile or n)) for n in frame.shape])

        def look(part):
            nonlocal done
            prob = self._runner(part, census)
            done += 1
            if progress is not None:
                progress(min(done / tiles, 1.0))
            return prob

        prepared = prepare(frame.data, self.model.input, bad=frame.bad)
        census = peak_census(prepared) if config.census else None
        prob = map_tiles(
            look,
            prepared,
            tile_px=tile or max(frame.shape),
            margin_px=config.reach_px,
            multiple=config.multiple,
        )
        shown = None if config.local or tile is None or max(frame.shape) <= tile else tile
        silent = frame.bad | _beside_saturation(frame, prob > self.threshold) | ~np.isfinite(prob)
        prob[silent] = 0
        return Detection(prob, silent, self.threshold, self.name, shown, frame)


def _beside_saturation(frame, flagged):
    """Saturated pixels, and all flagged groups that touch a saturated core; bool, (H, W).

    A full well has sharp edges, and bleeding is a line: what hangs on them cannot be told from a ray.
    """
    saturated = frame.saturated
    if not saturated.any():
        return saturated
    labels, n = ndimage.label(saturated, np.ones((3, 3)))
    cores = np.concatenate([[False], np.bincount(labels.ravel(), minlength=n + 1)[1:] >= WELL_PIXELS])[labels]
    if not cores.any():
        return saturated
    groups, n = ndimage.label(flagged | cores, np.ones((3, 3)))
    touching = np.zeros(n + 1, dtype=bool)
    touching[groups[cores]] = True
    return saturated | touching[groups]


def detect(
    image,
    *,
    model=DEFAULT_MODEL,
    read_noise=None,
    gain=None,
    bad=None,
    saturation=None,
    threshold=None,
    tile=None,
    device=None,
    expected=None,
    ext=None,
    detector=None,
):
    """Find cosmic rays in one exposure.

    Parameters
    ----------
    image : array-like, path, `astropy.io.fits.HDUList`, `astropy.nddata.CCDData` or `crcore.frame.Frame`
        One image (H, W) of any size, type and byte order, bias subtracted, the sky still in. Arrays are in electrons
        after ``gain``.
    model : str, pathlib.Path or crcore.zoo.Model, optional
        A released model's name, a model's folder, or a model.
    read_noise : float, optional
        Electrons, in place of the header's.
    gain : float, optional
        Electrons per unit; by default 1 for arrays, and what the header says for files and ``CCDData`` in ADU.
    bad : array-like of bool, optional
        True for pixels not to be used, (H, W), besides those that the input itself marks.
    saturation : float, optional
        Electrons above which a pixel says nothing, in place of the header's.
    threshold : float, optional
        In place of the model's own.
    tile : int, optional
        Side of the tiles, see `NetworkDetector`.
    device : {"cuda", "mps", "cpu", "onnx"}, optional
        See `NetworkDetector`.
    expected : float, optional
        Share of ray pixels that is expected of the exposure (`crcore.calibration.expected_share`): probabilities are
        shifted from the share of the model's calibration data to this.
    ext : int or str, optional
        Extension of a file, by name or number.
    detector : NetworkDetector, optional
        One that is there already, for many frames; ``model``, ``threshold``, ``tile`` and ``device`` are then its own.

    Returns
    -------
    Detection

    Raises
    ------
    crcore.errors.InputError
        For input that is no image, numbers that cannot be, or an unknown model.

    Examples
    --------
    >>> import numpy as np
    >>> from crcore import detect
    >>> image = np.random.default_rng(0).normal(100, 10, (64, 64))
    >>> image[30, 20:23] += [300, 2000, 900]
    >>> detect(image).n_rays
    1
    """
    frame = as_frame(image, gain=gain, read_noise=read_noise, saturation=saturation, bad=bad, ext=ext)
    if (frame.bad | frame.saturated).all():
        what = "bad or not a number" if frame.bad.all() else f"bad, or saturated above {frame.saturation:g} electrons"
        raise InputError(f"{frame.name}: every pixel is {what}: nothing to look at")
    detector = detector or NetworkDetector(model, tile_px=tile, device=device, threshold=threshold)
    found = detector(frame)
    if expected is not None:
        if not detector.model.share:
            raise InputError(f"model {found.model!r}: does not know the share of rays in its data: leave out expected")
        shifted = shift_prior(found.prob, detector.model.share, expected)
        found = replace(found, prob=shifted, expected=expected)
    return found


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
