"""Test sets of cameras other than LCO's, faint pixels and worms (Figs 8 and 9), and seconds (sections 4.4 and 5)."""

import time
from dataclasses import replace

import numpy as np

from crcore.contenders import contenders
from crcore.dataset import read_sequence
from crcore.evaluation import TestSet
from crcore.instruments import get_camera
from crcore.labeling import LabelingConfig
from crcore.objects import ObjectScores
from crcore.rivals import DEFAULT_SIGCLIP
from crcore.simulate.datasets import simulate_dataset
from crcore.simulate.observe import simulate_sequence

__all__ = ["SHOWN", "recall_by_kind", "seconds_by_camera", "seconds_on", "simulated_sets"]

#: how a camera's, or a field's, test set is called
SHOWN = {
    "gmosn_1x1": "Gemini 1x1",
    "gmoss_2x2": "Gemini 2x2",
    "galaxies": "HST extragalactic",
    "cluster": "HST globular cluster",
    "resolved_galaxy": "HST resolved galaxy",
    "nres": "LCO NRES",
    "longslit": "long slit",
}

#: a ray of at least so many pixels' length is a worm if it is less straight, a track if it is straighter
WORM_LENGTH_PX, WORM_STRAIGHTNESS = 8.0, 0.5


def simulated_sets(folder, config, labeling=LabelingConfig(), *, fields=(), progress=None):  # noqa: B008
    """Simulate test sequences, and validation sequences to tune rivals on.

    Parameters
    ----------
    folder : pathlib.Path
    config : crcore.simulate.datasets.SimulationConfig
        Cameras and numbers.
    labeling : crcore.labeling.LabelingConfig, optional
        For images.
    fields : sequence of str, optional
        One set for each of these kinds of sky, in place of one for each camera.
    progress : callable, optional
        Wraps an iterable, as ``tqdm`` does.

    Returns
    -------
    sets : list of crcore.evaluation.TestSet
    tuning : list of pathlib.Path
        Validation sequences.
    """
    sets, tuning = [], []
    for field in fields or ("",):
        place = folder / field if field else folder
        rows = simulate_dataset(place, replace(config, field=field), labeling, progress=progress)
        tuning += [place / row["file"] for row in rows if row["split"] == "valid"]
        for camera in config.sequences:
            paths = [place / r["file"] for r in rows if r["instrument"] == camera and r["split"] == "test"]
            name = SHOWN.get(field or camera, field or camera)
            sets.append(TestSet(f"{name}, simulated", "simulated", tuple(paths)))
    return sets, tuning


def recall_by_kind(kept, sets):
    """Recall of faint and bright ray pixels, and the found part of tracks and worms, by detector.

    A ray pixel is faint where it is less than five sigma above the median of the exposures: the periphery that
    labels grow from brighter seeds. The first exposure of each sequence counts, at each detector's own threshold.

    Parameters
    ----------
    kept : dict
        What `crcore.evaluation.evaluate` has kept.
    sets : sequence of crcore.evaluation.TestSet

    Returns
    -------
    dict
        Detector's name to ``faint``, ``bright``, ``worms``, ``tracks`` (shares of pixels, NaN without any), and
        ``n_faint``, ``n_bright``, ``n_worms``, ``n_tracks``.
    """
    found, total, rays = {}, np.zeros(2, dtype=int), {}
    for path in [path for test_set in sets for path in test_set.paths]:
        sequence = read_sequence(path)
        if len(sequence.data) < 3:
            continue  # of one exposure nobody knows the light without its rays
        use = sequence.judged(0)
        truth = (sequence.cr[0] > 0) & use
        frames = [sequence.frame(i) for i in range(len(sequence.data))]
        levels = [frame.data - np.nanmedian(frame.data) for frame in frames]
        light = np.median(levels, axis=0)
        noise = np.sqrt(np.maximum(light + np.nanmedian(frames[0].data), 0) + (frames[0].read_noise or 0.0) ** 2)
        faint = levels[0] - light < 5 * noise
        total += [(truth & faint).sum(), (truth & ~faint).sum()]
        for name, packed in kept[path].items():
            mask = np.unpackbits(packed, axis=1, count=truth.shape[1]).astype(bool) & truth
            found.setdefault(name, np.zeros(2, dtype=int))
            found[name] += [(mask & faint).sum(), (mask & ~faint).sum()]
            rays.setdefault(name, ObjectScores()).add(mask, truth, use)
    result = {}
    for name, (n_faint, n_bright) in found.items():
        table = rays[name].rays
        length, straight = np.asarray(table["length_px"]), np.asarray(table["straightness"])
        share, long = np.asarray(table["share_found"]), length >= WORM_LENGTH_PX
        worms, tracks = long & (straight < WORM_STRAIGHTNESS), long & (straight >= WORM_STRAIGHTNESS)
        result[name] = {
            "faint": n_faint / total[0] if total[0] else float("nan"),
            "bright": n_bright / total[1] if total[1] else float("nan"),
            "worms": float(share[worms].mean()) if worms.any() else float("nan"),
            "tracks": float(share[tracks].mean()) if tracks.any() else float("nan"),
            **dict(zip(("n_faint", "n_bright", "n_worms", "n_tracks"), map(int, (*total, worms.sum(), tracks.sum())),
                       strict=True)),
        }  # fmt: skip
    return result


def seconds_on(detectors, frame):
    """Wall-clock seconds of each detector on one frame: the median of three calls after one for warming up.

    Of a detector that takes more than six seconds, the first call's.
    """
    taken = {}
    for name, detector in detectors.items():
        calls = []
        while len(calls) < 4 and not (calls and calls[0] > 6):
            begun = time.perf_counter()
            detector(frame)
            calls.append(time.perf_counter() - begun)
        taken[name] = float(np.median(calls[1:] or calls))
    return taken


#: for which frames the paper gives seconds: camera, side, domain (`crcore.contenders.DOMAINS`), our network for it, and
#: rivals: on the larger frame the paper's own alone
_TIMED = (
    ("sinistro", 2048, "lco", "ground_imaging", ("Cosmic-CoNN (released)", "deepCR (released)", "Astro-SCRAPPY")),
    ("nres", 4096, "spectra", "NRES", ("Cosmic-CoNN (released)",)),
)


def seconds_by_camera(*, most_px=4096):
    """What `seconds_on` finds for the two kinds of frames whose seconds the paper gives (sections 4.4 and 5).

    Parameters
    ----------
    most_px : int, optional
        Largest side of a frame.

    Returns
    -------
    dict
        Camera and side, such as ``"sinistro 2048"``, to the detectors' seconds. Astro-SCRAPPY runs at one setting.
    """
    seconds = {}
    for camera, side, domain, ours, rivals in _TIMED:
        side = min(side, most_px)
        rng = np.random.default_rng(side)
        made = simulate_sequence(get_camera(camera), shape=(side, side), exposure_s=900.0, rng=rng, n_frames=1)
        found, _ = contenders(["generic", ours], domain, sigclips=(DEFAULT_SIGCLIP,))
        timed = {name: detector for name, detector in found.items() if name in ("generic", ours, *rivals)}
        taken = seconds_on(timed, made.frames[0])
        seconds[f"{camera} {side}"] = {name: round(value, 3) for name, value in taken.items()}
    return seconds
