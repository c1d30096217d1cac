"""What a chip and its electronics make of light and rays: wells, amplifiers, bad pixels, whole ADU."""

import itertools
from dataclasses import dataclass

import numpy as np

from crcore.instruments import Camera

__all__ = ["Detector", "expose", "random_detector", "saturation_level"]

#: pixels of which one is hot, on a bad chip and on a good one
_HOT_ONE_IN = (2_000, 50_000)
#: what the coolest and the hottest of them make a second, in units of the read noise
_HOT_PER_S = (0.003, 1.6)
#: pixels hotter than a rate: as its power of minus this. On two chips of LCO's 0.4 m telescopes (darks subtracted,
#: 10 to 14 s) 38 and 8 lone pixels a megapixel stay above 5 sigma, 22 and 4 above 8, 12 and 3 above 15.
_HOT_SLOPE = 0.75


@dataclass(frozen=True)
class Detector:
    """One chip of a camera with its blemishes, which are the same in every exposure.

    Attributes
    ----------
    camera : crcore.instruments.Camera
    read_noise_e : numpy.ndarray, shape (H, W), float32
        RMS read noise, one level an amplifier.
    offset_e : numpy.ndarray, shape (H, W), float32
        What the subtraction of overscan and bias has left, one level an amplifier.
    sensitivity : numpy.ndarray, shape (H, W), float32
        1 less vignetting; near 0 in dead pixels and columns. The flat field is known, except in these.
    flat : numpy.ndarray, shape (H, W), float32
        The flat field that is divided out: vignetting alone.
    hot_e_per_s : numpy.ndarray, shape (H, W), float32
        Charge that hot pixels and columns make by themselves.
    bad : numpy.ndarray of bool, shape (H, W)
        What the observatory's bad-pixel mask knows of these.
    crosstalk : float
        Share of a pixel's charge that appears at its mirror place in the other amplifiers.
    response : numpy.ndarray or float, shape (H, W)
        Part of the sensitivity: pixels' own response, where no flat field has been divided out.
    """

    camera: Camera
    read_noise_e: np.ndarray
    offset_e: np.ndarray
    sensitivity: np.ndarray
    flat: np.ndarray
    hot_e_per_s: np.ndarray
    bad: np.ndarray
    crosstalk: float = 0.0
    response: np.ndarray | float = 1.0

    @property
    def hot_pixels(self):
        """Hot pixels that stand alone, in columns whose others the mask knows too; bool, (H, W)."""
        hot = np.pad((self.hot_e_per_s > 0) & ~self.bad, ((1, 1), (0, 0)))
        return hot[1:-1] & ~hot[:-2] & ~hot[2:]

    def noise_e(self, expected_e):
        """RMS noise of an exposure of ``expected_e`` electrons, in flat-fielded electrons; (H, W)."""
        return np.sqrt(np.maximum(expected_e, 0) * self.flat + self.read_noise_e**2) / self.flat


def random_detector(camera, shape, rng, prnu=0.0):
    """Draw a chip: amplifiers, vignetting, hot and dead pixels, bad columns, a mask that knows most of them.

    Amplifiers differ by some per cent in noise and by a fraction of it in offset; one pixel in 2,000 to
    50,000, as the chip is good or bad, is hot, the fewer the hotter (`_HOT_SLOPE`), one in 50,000 dead; a
    column in 2,000 is dead or hot, wholly or from some row on. Estimates, meant to be as bad as cameras in use.

    Parameters
    ----------
    camera : crcore.instruments.Camera
    shape : tuple of int
        Rows and columns.
    rng : numpy.random.Generator
    prnu : float, optional
        RMS of the response that differs from pixel to pixel; 0 where a flat field has been divided out.

    Returns
    -------
    Detector
    """
    height, width = shape
    noise = np.empty(shape, dtype=np.float32)
    offset = np.empty(shape, dtype=np.float32)
    for block in _blocks(shape, camera.amplifiers):
        noise[block] = camera.read_noise_e * rng.uniform(0.93, 1.07)
        offset[block] = rng.normal(0, 0.1 * camera.read_noise_e)
    rows = np.linspace(-1, 1, height)[:, None]
    columns = np.linspace(-1, 1, width)[None, :]
    dark_corner = rng.choice([0.0, rng.uniform(0.0, 0.25)])  # of what a corner loses
    flat = (1 - dark_corner * (rows**2 + columns**2) / 2).astype(np.float32)
    sensitivity = flat.copy()
    hot = np.zeros(shape, dtype=np.float32)
    blemished = np.zeros(shape, dtype=bool)

    def places(one_in):
        n = rng.poisson(height * width / one_in)
        return rng.integers(0, height, n), rng.integers(0, width, n)

    where = places(10 ** rng.uniform(*np.log10(_HOT_ONE_IN)))
    many, few = (rate**-_HOT_SLOPE for rate in _HOT_PER_S)
    hot[where] = rng.uniform(few, many, len(where[0])) ** (-1 / _HOT_SLOPE) * camera.read_noise_e
    dead = places(50_000)
    sensitivity[dead] *= rng.uniform(0.0, 0.6, len(dead[0])).astype(np.float32)
    for column in rng.integers(0, width, rng.poisson(width / 2000)):
        begin = 0 if rng.random() < 0.5 else int(rng.integers(0, height))
        if rng.random() < 0.5:
            sensitivity[begin:, column] *= np.float32(rng.uniform(0.0, 0.7))
        else:
            hot[begin:, column] += np.float32(10 ** rng.uniform(-1.0, 0.5) * camera.read_noise_e / 10)
        blemished[begin:, column] = True
    blemished[where] = True
    blemished[dead] = True
    bad = blemished & (rng.random(shape) < rng.choice([0.0, 0.5, 0.95]))
    crosstalk = 10 ** rng.uniform(-5, -3.7) if camera.amplifiers != (1, 1) else 0.0
    response = 1.0
    if prnu:
        response = np.maximum(rng.normal(1.0, prnu, shape), 0).astype(np.float32)
        sensitivity *= response
    return Detector(camera, noise, offset, sensitivity, flat, hot, bad, float(crosstalk), response)


def expose(expected_e, charge_e, detector, rng, *, exposure_s=0.0):
    """Turn expected electrons and ray charge into what the camera's pipeline delivers, in electrons.

    Poisson noise, full wells that bleed along columns, cross-talk, read noise, what overscan
    subtraction leaves, whole ADU, division by the flat field.

    Parameters
    ----------
    expected_e, charge_e : numpy.ndarray, shape (H, W)
        Light and dark current before vignetting, and charge of the rays.
    detector : Detector
    rng : numpy.random.Generator
    exposure_s : float, optional
        For the charge of hot pixels.

    Returns
    -------
    numpy.ndarray
        float32, (H, W), electrons; bias subtracted, flat-fielded.
    """
    camera = detector.camera
    light = expected_e * detector.sensitivity + detector.hot_e_per_s * np.float32(exposure_s)
    collected = rng.poisson(light).astype(np.float32) + charge_e
    collected = _bleed(collected, camera.saturation_e)
    if detector.crosstalk > 0:
        seen = np.where(collected > 0.1 * camera.saturation_e, collected, 0)
        collected += np.float32(detector.crosstalk) * _mirrored(seen, camera.amplifiers)
    signal = collected + detector.offset_e
    signal += rng.standard_normal(collected.shape, dtype=np.float32) * detector.read_noise_e
    adu = np.round(signal / np.float32(camera.gain_e_per_adu))
    return (adu * np.float32(camera.gain_e_per_adu) / detector.flat).astype(np.float32)


def saturation_level(camera):
    """What headers call saturated (electrons): the full well less noise and rounding, so full pixels exceed it."""
    return camera.saturation_e - 5 * camera.read_noise_e - camera.gain_e_per_adu


def _blocks(shape, amplifiers):
    """The part of the chip that each amplifier reads, row by row."""
    rows, columns = (np.linspace(0, side, n + 1).round().astype(int) for side, n in zip(shape, amplifiers, strict=True))
    return [np.s_[a:b, c:d] for a, b in itertools.pairwise(rows) for c, d in itertools.pairwise(columns)]


def _mirrored(seen, amplifiers):
    """For each pixel, the sum of its mirror places in the other amplifiers: they read from alternate sides."""
    least = [side // n for side, n in zip(seen.shape, amplifiers, strict=True)]
    others = np.zeros_like(seen)

    def folded(image):
        for number, block in enumerate(_blocks(seen.shape, amplifiers)):
            row, column = divmod(number, amplifiers[1])
            yield image[block][:: 1 - 2 * (row % 2), :: 1 - 2 * (column % 2)][: least[0], : least[1]]

    total = sum(folded(seen))
    for part, own in zip(folded(others), folded(seen), strict=True):
        part += total - own
    return others


def _bleed(charge, full_well):
    """Spill charge above the full well up and down its column until it fits."""
    over = charge > full_well
    for column in np.flatnonzero(over.any(axis=0)):
        line = charge[:, column]
        for direction in (1, -1):
            excess = 0.0
            share = np.maximum(line - full_well, 0.0) / 2
            order = range(len(line)) if direction == 1 else range(len(line) - 1, -1, -1)
            for row in order:
                if excess > 0 and line[row] < full_well:
                    moved = min(excess, full_well - line[row])
                    line[row] += moved
                    excess -= moved
                excess += share[row]
        charge[:, column] = np.minimum(line, full_well)
    return charge
