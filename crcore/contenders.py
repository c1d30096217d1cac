"""Who is compared on which data: our networks, the released ones, and Astro-SCRAPPY as published and as tuned."""

import itertools
from dataclasses import replace

import numpy as np

from crcore.dataset import read_sequence
from crcore.detection import NetworkDetector
from crcore.evaluation import camera_of
from crcore.metrics import PixelScores
from crcore.optional import available
from crcore.rivals import (
    DEFAULT_SIGCLIP,
    AstroScrappy,
    DfCosmic,
    LaCosmic,
    MaxiMask,
    ReleasedCosmicConn,
    ReleasedDeepCR,
    paper_objlim,
    sweep,
)

__all__ = ["DOMAINS", "ScrappyByCamera", "contenders", "one_scrappy", "paper_scrappy", "tuned_scrappy"]

#: which released Cosmic-CoNN network is for which data
DOMAINS = {"lco": "ground_imaging", "gemini": "ground_imaging", "hst": "HST_ACS_WFC", "spectra": "NRES"}

#: what Astro-SCRAPPY is tuned over, besides ``sigclip`` and whether it is given sky and variance
OBJLIMS, SIGFRACS = (0.5, 1.0, 2.0, 5.0, 10.0), (0.1, 0.3)


def contenders(models, domain, *, sigclips, tuning=(), every=False):
    """The detectors that are compared on one kind of data.

    Parameters
    ----------
    models : sequence of crcore.zoo.Model or str
        Our networks.
    domain : {"lco", "gemini", "hst", "spectra"}
        Decides which released Cosmic-CoNN is taken.
    sigclips : sequence of float
        Astro-SCRAPPY's sweep.
    tuning : sequence of path-like, optional
        Labelled sequences, none of them a test sequence, on which Astro-SCRAPPY is tuned for each camera.
    every : bool, optional
        Rivals that are tuned, at one setting, and of other domains too: tuned Astro-SCRAPPY, lacosmic, dfcosmic,
        deepCR's WFC3 and DECam networks, MaxiMask.

    Returns
    -------
    detectors : dict
        Name to detector.
    missing : dict
        Name to the reason why a rival is not there.
    """
    ours = [NetworkDetector(model) for model in models]
    detectors = {detector.name: detector for detector in ours}
    makers = {
        "Cosmic-CoNN (released)": lambda: ReleasedCosmicConn(DOMAINS[domain]),
        "deepCR (released)": ReleasedDeepCR,
        "Astro-SCRAPPY": lambda: paper_scrappy(sigclips),
    }
    if tuning and every:
        makers["Astro-SCRAPPY (tuned)"] = lambda: tuned_scrappy(tuning, sigclips)
    if every:
        makers |= {
            "deepCR WFC3 (released)": lambda: ReleasedDeepCR("WFC3-UVIS"),
            "deepCR DECam (released)": lambda: ReleasedDeepCR("decam"),
            "MaxiMask (released)": MaxiMask,
            "lacosmic": LaCosmic,
            "dfcosmic": DfCosmic,
        }
    rivals, missing = available(makers)
    return detectors | rivals, missing


def one_scrappy():
    """Astro-SCRAPPY at its default ``sigclip`` alone, as a user runs it; empty where it is missing."""
    return available({"Astro-SCRAPPY": lambda: AstroScrappy(sigclips=(DEFAULT_SIGCLIP,))})[0]


class ScrappyByCamera:
    """Astro-SCRAPPY with settings of its own for each camera or telescope class.

    Parameters
    ----------
    by_camera : dict
        What `crcore.evaluation.camera_of` gives, to `crcore.rivals.AstroScrappy`.
    otherwise : crcore.rivals.AstroScrappy
        For other cameras.
    """

    name = "Astro-SCRAPPY"

    def __init__(self, by_camera, otherwise):
        self.by_camera, self.otherwise = dict(by_camera), otherwise
        self.identity = (tuple((c, d.identity) for c, d in sorted(self.by_camera.items())), otherwise.identity)

    @property
    def settings(self):
        """What is run, for a result: one row a camera."""
        return {
            camera: {"objlim": d.objlim, "sigfrac": d.sigfrac, "sigclips": list(d.sigclips), "background": d.background}
            for camera, d in {**self.by_camera, "other": self.otherwise}.items()
        }

    def __call__(self, frame):
        """Run the settings of the frame's camera."""
        return self.by_camera.get(camera_of(frame.header), self.otherwise)(frame)


def paper_scrappy(sigclips):
    """As in the paper: ``objlim`` by telescope class (section 4.1), ``sigfrac`` 0.1, ``sigclip`` swept."""
    by_class = {f"LCO {c}": AstroScrappy(objlim=paper_objlim(c), sigclips=sigclips) for c in ("0.4 m", "1 m", "2 m")}
    return ScrappyByCamera(by_class, AstroScrappy(objlim=2.0, sigclips=sigclips))


def tuned_scrappy(paths, sigclips, *, side_px=256, steps=4):
    """Astro-SCRAPPY at its best for each camera: ``objlim``, ``sigfrac``, own or given sky and variance.

    The best average precision over a coarse sweep of ``sigclip`` on the middle of one exposure decides.

    Parameters
    ----------
    paths : sequence of path-like
        Labelled sequences that are not tested on; the first of each camera is used.
    sigclips : sequence of float
        The sweep of the detectors that are returned.
    side_px, steps : int, optional
        Side of the part that is used, and settings in the coarse sweep.

    Returns
    -------
    ScrappyByCamera
    """
    best = {}
    for path in paths:
        sequence = read_sequence(path)
        frame = sequence.frame(0)
        camera = camera_of(frame.header)
        if camera in best:
            continue
        window = tuple(slice(max((n - side_px) // 2, 0), (n + side_px) // 2) for n in frame.shape)
        part = replace(frame, data=frame.data[window], bad=frame.bad[window])
        truth, use = (sequence.cr[0] > 0)[window], sequence.judged(0)[window]
        found = []
        for objlim, sigfrac, background in itertools.product(OBJLIMS, SIGFRACS, (False, True)):
            settings = {"objlim": objlim, "sigfrac": sigfrac, "background": background}
            scores = PixelScores()
            scores.add(AstroScrappy(**settings, sigclips=sweep(steps))(part).prob, truth, use)
            found.append((np.nan_to_num(scores.average_precision()), settings))
        best[camera] = AstroScrappy(**max(found, key=lambda f: f[0])[1], sigclips=sigclips)
    return ScrappyByCamera(best, AstroScrappy(sigclips=sigclips))
