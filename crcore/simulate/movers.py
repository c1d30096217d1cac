"""What crosses a field and is no cosmic ray: satellites, aeroplanes, asteroids."""

from dataclasses import dataclass

import galsim
import numpy as np

__all__ = ["Asteroid", "Streak", "add_asteroid", "add_streak", "random_asteroid", "random_streak"]


@dataclass(frozen=True)
class Streak:
    """A straight line of light across one exposure.

    Attributes
    ----------
    y, x : float
        A point of the line, pixels.
    angle_deg : float
        Direction, from the x axis towards y.
    flux_e_per_px : float
        Electrons per pixel of length.
    lines : tuple of float
        Offsets of parallel lines, pixels: one for a satellite, two or three for an aeroplane's lights.
    blink_px : float
        Length of one flash and one pause; 0 for a steady light.
    """

    y: float
    x: float
    angle_deg: float
    flux_e_per_px: float
    lines: tuple[float, ...] = (0.0,)
    blink_px: float = 0.0


@dataclass(frozen=True)
class Asteroid:
    """A point source that moves while the shutter is open and between exposures.

    Attributes
    ----------
    y, x : float
        Place at the start of the sequence, pixels.
    speed_px_per_s : float
    angle_deg : float
    flux_e_per_s : float
    """

    y: float
    x: float
    speed_px_per_s: float
    angle_deg: float
    flux_e_per_s: float


def random_streak(shape, noise_e, rng):
    """Draw a satellite (seven of eight) or an aeroplane.

    Satellites lie between what averaging along the line just brings out and 100 sigma of one pixel.

    Parameters
    ----------
    shape : tuple of int
    noise_e : float
        RMS noise of one pixel.
    rng : numpy.random.Generator

    Returns
    -------
    Streak
    """
    y, x = (rng.uniform(0.15, 0.85) * side for side in shape)
    angle = rng.uniform(0, 180)
    if rng.random() < 1 / 8:
        span = rng.uniform(15, 60)
        lines = (-span, 0.0, span) if rng.random() < 0.5 else (-span, span)
        return Streak(
            y, x, angle, noise_e * 10 ** rng.uniform(1.0, 3.0), lines, rng.choice([0.0, rng.uniform(40, 200)])
        )
    return Streak(
        y, x, angle, noise_e * 10 ** rng.uniform(0.5, 2.5), (0.0,), rng.choice([0.0, 0.0, rng.uniform(60, 400)])
    )


def random_asteroid(shape, noise_e, exposure_s, rng):
    """Draw an asteroid of 0.1 to 10 px of motion an exposure and 10 to 3,000 times the noise of a pixel."""
    y, x = (rng.uniform(0, side) for side in shape)
    speed = 10 ** rng.uniform(-1.0, 1.0) / exposure_s
    return Asteroid(y, x, speed, rng.uniform(0, 360), noise_e * 10 ** rng.uniform(1.0, 3.5) / exposure_s)


def add_streak(image, streak, fwhm_px):
    """Add a streak of Gaussian profile to ``image`` (electrons, changed in place)."""
    sigma = max(fwhm_px, 1.0) / 2.3548
    c, s = np.cos(np.radians(streak.angle_deg)), np.sin(np.radians(streak.angle_deg))
    rows = np.arange(image.shape[0], dtype=np.float32)[:, None] - np.float32(streak.y)
    columns = np.arange(image.shape[1], dtype=np.float32)[None, :] - np.float32(streak.x)
    across = c * rows - s * columns
    for line in streak.lines:
        near = np.abs(across - line) < 5 * sigma
        distance = across[near] - line
        light = np.exp(-0.5 * (distance / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
        if streak.blink_px > 0:
            along = (s * rows + c * columns)[near]
            light *= np.sin(np.pi * along / streak.blink_px) > 0
        image[near] += (streak.flux_e_per_px * light).astype(np.float32)


def add_asteroid(image, asteroid, psf, *, begin_s, exposure_s, shift_px=(0.0, 0.0)):
    """Add a trailed asteroid to ``image`` (electrons, changed in place).

    Parameters
    ----------
    image : numpy.ndarray, shape (H, W)
    asteroid : Asteroid
    psf : galsim.GSObject
        Point-spread function in pixels.
    begin_s, exposure_s : float
        When the shutter opens, since the start of the sequence, and for how long.
    shift_px : tuple of float, optional
        Pointing offset (y, x).
    """
    angle = np.radians(asteroid.angle_deg)
    middle = asteroid.speed_px_per_s * (begin_s + exposure_s / 2)
    y = asteroid.y + middle * np.sin(angle) + shift_px[0]
    x = asteroid.x + middle * np.cos(angle) + shift_px[1]
    length = max(asteroid.speed_px_per_s * exposure_s, 0.05)
    trail = galsim.Box(length, 0.05).rotate(asteroid.angle_deg * galsim.degrees)
    drawn = galsim.Convolve(psf, trail).withFlux(asteroid.flux_e_per_s * exposure_s)
    half = int(24 + length / 2)
    top, left = int(np.round(y)) - half, int(np.round(x)) - half
    r0, c0 = max(top, 0), max(left, 0)
    r1, c1 = min(top + 2 * half + 1, image.shape[0]), min(left + 2 * half + 1, image.shape[1])
    if r0 >= r1 or c0 >= c1:
        return
    stamp = drawn.drawImage(
        nx=2 * half + 1, ny=2 * half + 1, scale=1.0, offset=(x - np.round(x), y - np.round(y))
    ).array
    image[r0:r1, c0:c1] += np.maximum(stamp[r0 - top : r1 - top, c0 - left : c1 - left], 0)
