"""Other people's detectors behind the protocol of ours: ``detector(frame) -> Detection``.

They are called as their documentation says, with their own released weights; nothing of
them is copied. One that is not installed raises `InputError` with the command to get it.
"""

import contextlib
import importlib.metadata
import logging
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from astropy import log
from astropy.io import fits

from crcore.detection import Detection
from crcore.optional import available, need
from crcore.preprocess import sky_and_noise

__all__ = [
    "AstroScrappy",
    "DfCosmic",
    "LaCosmic",
    "MaxiMask",
    "ReleasedCosmicConn",
    "ReleasedDeepCR",
    "default_rivals",
    "paper_objlim",
    "sweep",
]

DEFAULT_SIGCLIP = 4.5  # Astro-SCRAPPY's own


def sweep(steps):
    """``sigclip`` from 1 to 20 (section 4.1) in equal ratios, with the default among them."""
    return tuple(sorted({*np.round(np.geomspace(1, 20, steps), 3).tolist(), DEFAULT_SIGCLIP}))


def _version(package):
    return importlib.metadata.version(package)


def _filled(frame):
    """The image with pixels that are not numbers set to the median."""
    return np.where(np.isfinite(frame.data), frame.data, np.nanmedian(frame.data)).astype(np.float32)


def paper_objlim(telescope_class):
    """Astro-SCRAPPY's ``objlim`` in the paper: 0.5 for the 0.4 m class, 2.0 for the others (section 4.1)."""
    return 0.5 if str(telescope_class).startswith("0.4") or str(telescope_class).startswith("0m4") else 2.0


class AstroScrappy:
    """L.A.Cosmic as in Astro-SCRAPPY (McCully et al. 2018), swept over ``sigclip``.

    The score of a pixel is the number of settings that flag it, divided by their
    number, so that thresholds on it walk along the paper's sweep.

    Parameters
    ----------
    objlim, sigfrac : float
        Contrast limit and neighbour fraction (paper: 2.0 or 0.5, and 0.1).
    sigclips : sequence of float
        Detection limits, increasing.
    background : bool, optional
        Give it the sky and the variance that ours are given (a mesh by SEP), in place of its own estimates.
    """

    def __init__(self, *, objlim=2.0, sigfrac=0.1, sigclips=None, background=False):
        self._detect = need("astroscrappy", "Astro-SCRAPPY", "rivals").detect_cosmics
        self.objlim, self.sigfrac, self.sigclips = objlim, sigfrac, tuple(sigclips or sweep(10))
        self.background = background
        self.name = "Astro-SCRAPPY"

    @property
    def identity(self):
        """All that decides the answers, for caches."""
        return ("astroscrappy", _version("astroscrappy"), self.objlim, self.sigfrac, self.sigclips, self.background)

    def __call__(self, frame):
        """Run the sweep on a frame."""
        votes = np.zeros(frame.shape, dtype=np.float32)
        image, given = _filled(frame), {}
        if self.background:
            sky, noise = sky_and_noise(image, bad=frame.bad if frame.bad.any() else None)
            given = {"inbkg": sky, "invar": noise**2 + np.maximum(image - sky, 0)}
        for sigclip in self.sigclips:
            mask, _ = self._detect(
                image,
                inmask=frame.bad,
                sigclip=sigclip,
                sigfrac=self.sigfrac,
                objlim=self.objlim,
                gain=1.0,
                readnoise=frame.read_noise or 0.0,
                satlevel=frame.saturation or np.inf,
                niter=4,
                **given,
            )
            votes += mask
        # A pixel flagged at the default sigclip is flagged at the smaller ones too: the mask is that of the default.
        smaller = sum(s < DEFAULT_SIGCLIP for s in self.sigclips)
        threshold = (min(smaller, len(self.sigclips) - 1) + 0.5) / len(self.sigclips)
        return Detection(votes / len(self.sigclips), frame.bad.copy(), threshold, self.name)


class ReleasedCosmicConn:
    """A released Cosmic-CoNN network, from the ``cosmic-conn`` package (GPL-3).

    Its rows and columns beyond the last multiple of 16 are never looked at; they are
    marked as not evaluated here.

    Parameters
    ----------
    model : {"ground_imaging", "NRES", "HST_ACS_WFC"}
    """

    def __init__(self, model="ground_imaging"):
        package = need("cosmic_conn", "cosmic-conn", "rivals")
        level = logging.getLogger().level
        with warnings.catch_warnings(), open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
            warnings.simplefilter("ignore")
            self._model = package.init_model(model)
        logging.getLogger().setLevel(level)
        self.name = f"Cosmic-CoNN {model} (released)"
        self.identity = ("cosmic-conn", _version("cosmic-conn"), model)

    def __call__(self, frame):
        """Run the network in its own tiles of 1024."""
        prob = np.asarray(self._model.detect_cr(_filled(frame)), dtype=np.float32)
        unseen = frame.bad.copy()
        height, width = (n // 16 * 16 for n in frame.shape)
        unseen[height:], unseen[:, width:] = True, True
        return Detection(np.clip(prob, 0, 1), unseen, 0.5, self.name)


class ReleasedDeepCR:
    """A released deepCR mask network, from the ``deepCR`` package (BSD-3).

    Parameters
    ----------
    mask : str
        "ACS-WFC", "WFC3-UVIS" or "decam".
    """

    def __init__(self, mask="ACS-WFC"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model = need("deepCR", "deepCR", "rivals").deepCR(mask=mask, device="CPU")
        self.name = f"deepCR {mask} (released)"
        self.identity = ("deepCR", _version("deepCR"), mask)

    def __call__(self, frame):
        """Run the network on the whole frame in patches of 1024, as electrons with the sky in."""
        prob = self._model.clean(_filled(frame), threshold=0.5, inpaint=False, binary=False, segment=True, patch=1024)
        return Detection(np.clip(np.asarray(prob, dtype=np.float32), 0, 1), frame.bad.copy(), 0.5, self.name)


class MaxiMask:
    """The released MaxiMask network (Paillassa et al. 2020, doi:10.1051/0004-6361/201936345): its cosmic-ray class.

    Needs TensorFlow, larger than all else here together, and is therefore an extra of its own (``crcore[maximask]``).
    """

    def __init__(self):
        self._package = need("maximask_and_maxitrack.maximask.maximask", "MaxiMask", "maximask")
        tensorflow = need("tensorflow", "TensorFlow", "maximask")
        folder = Path(self._package.__file__).parent / "model"
        self._network = tensorflow.saved_model.load(str(folder))
        self.name = "MaxiMask (released)"
        self.identity = ("maximask", _version("MaxiMask"))

    def __call__(self, frame):
        """Run the network on a copy that is padded, by reflection, to the 400 pixels that it needs at least."""
        pad = [(0, max(400 - n, 0)) for n in frame.shape]
        image = np.pad(_filled(frame), pad, mode="symmetric")
        wanted = np.arange(14) == 0
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.fits"
            fits.PrimaryHDU(image).writeto(path)
            settings = (str(path), None, wanted, np.array([5e-4] * 14, dtype=np.float32), None, False, 4)
            with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink), contextlib.redirect_stdout(sink):
                maps, _ = self._package.MaxiMask_inference(*settings).process_hdu(
                    str(path), 0, "process", self._network
                )
        prob = np.asarray(maps, dtype=np.float32)[0, : frame.shape[0], : frame.shape[1]]
        return Detection(np.clip(prob, 0, 1), frame.bad.copy(), 0.43, self.name)  # the threshold that comes with it


class _OneSetting:
    """A filter at one setting: its score is 1 where it flags."""

    def _detection(self, mask, frame):
        return Detection(np.asarray(mask, dtype=np.float32), frame.bad.copy(), 0.5, self.name, frame=frame)


class LaCosmic(_OneSetting):
    """L.A.Cosmic as in the package ``lacosmic`` (Bradley), at Astro-SCRAPPY's default limits.

    Parameters
    ----------
    sigclip, sigfrac, objlim : float
        Detection limit, neighbour fraction, contrast limit.
    """

    def __init__(self, *, sigclip=DEFAULT_SIGCLIP, sigfrac=0.3, objlim=5.0):
        self._detect = need("lacosmic", "lacosmic", "rivals").remove_cosmics
        self.sigclip, self.sigfrac, self.objlim = sigclip, sigfrac, objlim
        self.name = "lacosmic"
        self.identity = ("lacosmic", _version("lacosmic"), sigclip, sigfrac, objlim)

    def __call__(self, frame):
        """Run it on a frame."""
        noise = frame.read_noise or 0.0
        level = log.level
        log.setLevel(logging.WARNING)  # it tells each of its passes
        try:
            _, mask = self._detect(
                _filled(frame),
                self.objlim,
                self.sigclip,
                self.sigfrac,
                effective_gain=1.0,
                readnoise=noise,
                mask=frame.bad if frame.bad.any() else None,
            )
        finally:
            log.setLevel(level)
        return self._detection(mask, frame)


class DfCosmic(_OneSetting):
    """L.A.Cosmic on PyTorch as in the package ``dfcosmic`` (GPL-3), at its default limits with four passes."""

    def __init__(self, *, sigclip=DEFAULT_SIGCLIP, sigfrac=0.5, objlim=1.0):
        self._detect = need("dfcosmic", "dfcosmic", "rivals").lacosmic
        self.sigclip, self.sigfrac, self.objlim = sigclip, sigfrac, objlim
        self.name = "dfcosmic"
        self.identity = ("dfcosmic", _version("dfcosmic"), sigclip, sigfrac, objlim)

    def __call__(self, frame):
        """Run it on a frame."""
        _, mask = self._detect(
            _filled(frame),
            sigclip=self.sigclip,
            sigfrac=self.sigfrac,
            objlim=self.objlim,
            niter=4,
            gain=1.0,
            readnoise=frame.read_noise or 0.0,
        )
        return self._detection(mask, frame)


def default_rivals():
    """Every rival at one setting, as a user would call it.

    Returns
    -------
    detectors : dict
        Name to detector.
    missing : dict
        Name to the reason why a rival is not there.
    """
    return available(
        {
            "Astro-SCRAPPY": lambda: AstroScrappy(sigclips=(DEFAULT_SIGCLIP,)),
            "lacosmic": LaCosmic,
            "dfcosmic": DfCosmic,
            "deepCR (released)": ReleasedDeepCR,
            "Cosmic-CoNN (released)": ReleasedCosmicConn,
        }
    )
