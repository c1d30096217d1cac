"""Training and test data from a user's own single exposures: rays are put into them, so that these are known.

No repeated exposures are needed. What the frames hold of real rays is found by a detector first and left undecided, so
that nothing teaches a network that a real ray is none.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from crcore.dataset import single_sequence, write_sequence
from crcore.errors import InputError
from crcore.frame import Frame
from crcore.instruments import Camera
from crcore.labelled import NO_DATA, SOURCE, UNDECIDED
from crcore.preprocess import sky_and_noise
from crcore.simulate.observe import ray_truth
from crcore.simulate.rays import rays_in_exposure
from crcore.simulate.recorded import inject_rays

__all__ = ["inject", "inject_dataset"]

#: rays in so many pixels
ONE_IN = 3000
#: probability above which a pixel may be of a real ray already
_OWN = 0.1


def inject(frame, rng, *, detector, kind="imaging", footprints=None, one_in=ONE_IN):
    """Put rays into one exposure.

    Parameters
    ----------
    frame : crcore.frame.Frame
    rng : numpy.random.Generator
    detector : callable
        Finds the rays that are there already, ``detector(frame) -> Detection``.
    kind : str, optional
        Whose rays are simulated: those of a camera of this kind, drawn at random (`Camera.random`).
    footprints : list of numpy.ndarray, optional
        Recorded rays (`crcore.simulate.recorded.read_rays`) in place of simulated ones.
    one_in : int, optional
        Pixels for each ray.

    Returns
    -------
    crcore.labelled.Sequence
        Of one exposure, labelled by what was put in: 1 where a ray's charge exceeds 2.5 sigma and hangs together with
        5 sigma; `UNDECIDED` where it is fainter, and around rays that were there.
    """
    sky, noise = sky_and_noise(np.where(frame.bad, 0, frame.data), bad=frame.bad if frame.bad.any() else None)
    light = np.where(frame.bad, 0, frame.data - sky)
    noise = np.sqrt(noise**2 + np.maximum(light, 0))
    wanted = max(frame.data.size / one_in, 1)
    if footprints is not None:
        charge, _ = inject_rays(frame.shape, footprints, rng.poisson(wanted), rng)
    else:
        camera = Camera.random(rng, kind)
        usual = camera.area_cm2(frame.shape) * 300 / 60 * (1 + camera.electrons_per_muon)  # in 300 s, one muon a minute
        charge, _ = rays_in_exposure(camera, frame.shape, 300.0, rng, rate_factor=wanted / usual)
    truth = ray_truth(charge, noise)
    there = detector(frame)
    own = ndimage.binary_dilation((there.prob > _OWN) & ~there.not_evaluated, np.ones((3, 3)), iterations=2)
    data = frame.data + rng.poisson(np.maximum(charge, 0)).astype(np.float32)
    if frame.saturation is not None:
        data = np.minimum(data, np.maximum(frame.saturation, frame.data))
    ignore = np.zeros(frame.shape, dtype=np.uint8)
    ignore[ndimage.median_filter(light, 3) > 3 * noise] |= SOURCE
    ignore[own | (truth == 2)] |= UNDECIDED
    ignore[frame.bad] |= NO_DATA
    header = frame.header.copy()
    header["LABELS"] = ("truth", "rays were put in: masks are what is known")
    header["INJECTED"] = (True, "a real exposure with rays put into it")
    for key, value in (("RDNOISE", frame.read_noise), ("SATURATE", frame.saturation)):
        if value is not None:
            header[key] = float(value)
    cr = ((truth == 1) & ~own).astype(np.uint8)
    facts = {"cr_pixels": [int(cr.sum())], "lost_to_sources": [0]}
    made = replace(frame, data=data)
    return single_sequence(made, cr, ignore, header=header, facts=facts, truth=truth)


def inject_dataset(frames, folder, rng, *, detector, times=4, valid=0.25, **options):
    """Write a dataset that ``crcore train -d`` takes, from a handful of exposures.

    Parameters
    ----------
    frames : sequence of crcore.frame.Frame or path-like
        Two or more; some are kept for validation, whole.
    folder : path-like
        Gets ``train/masked_fits`` and ``valid/masked_fits``.
    rng : numpy.random.Generator
    detector : callable
        See `inject`.
    times : int, optional
        How often rays are put into each exposure, others each time.
    valid : float, optional
        Share of the exposures that are for validation, at least one.
    **options
        Of `inject`.

    Returns
    -------
    list of pathlib.Path
        Files written.

    Raises
    ------
    InputError
        For fewer than two exposures, or a folder with files of an earlier call that this one would not replace.
    """
    frames = list(frames)
    if len(frames) < 2:
        raise InputError(f"{len(frames)} exposures: two are needed, one of them for validation")
    folder, n_valid = Path(folder), max(1, round(valid * len(frames)))
    planned = []  # for each exposure, the files that it becomes
    for number in range(len(frames)):
        split, n_times = ("valid", 1) if number < n_valid else ("train", times)
        names = [f"injected-{number:03d}-{time}_1frms_masks.fits" for time in range(n_times)]
        planned.append([folder / split / "masked_fits" / name for name in names])
    written = [path for paths in planned for path in paths]
    others = set(folder.glob("*/masked_fits/injected-*")) - set(written)
    if others:
        raise InputError(
            f"{folder}: holds {len(others)} files of an earlier injection: choose another folder or move them away"
        )
    for paths, frame in zip(planned, frames, strict=True):
        frame = frame if isinstance(frame, Frame) else Frame.read(frame)
        for path in paths:
            write_sequence(path, inject(frame, rng, detector=detector, **options))
    return written
