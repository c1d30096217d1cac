"""Labels of simulated exposures by what is known of them, in place of repeated visits."""

import numpy as np
from astropy.table import Table
from scipy import ndimage

from crcore.labelled import HOT_PIXEL, NO_DATA, SOURCE, UNDECIDED, Sequence
from crcore.preprocess import sky_and_noise

__all__ = ["label_by_truth"]

_NEIGHBOURS = np.ones((3, 3))

#: light this many times the noise above its surroundings is a source
_SOURCE_SIGMA = 3.0

#: references that are drawn to find how often a pixel is called a ray
_REFERENCES = 16


def label_by_truth(observed, rng=None):
    """Label a simulated sequence by the paper's limits, with the light and the rays known in place of a median.

    A seed deviates from the expected light by more than 5 sigma and holds charge of a ray; what hangs together with
    it, deviates by more than 2.5 sigma and lies at most a pixel from such charge is the ray. So labels follow the
    noise as those of appendix A do, and rays on sources have them too.

    With ``rng`` the light is known only as well as from the median of 2 to 11 other visits, a number that is drawn for
    each exposure: such are the references by which real frames are judged. What those would not have found is then
    no ray, as there, and not undecided. Which faint pixels those are is chance: ``chance`` says how many of 16
    references would call a pixel a ray. It is what a network can know at best, and ``cr`` is one of them.

    Parameters
    ----------
    observed : crcore.simulate.observe.SimulatedSequence
    rng : numpy.random.Generator, optional
        Of the reference's noise; none for labels that know the light exactly.

    Returns
    -------
    crcore.labelled.Sequence
        ``ignore`` marks bad pixels, charge that noise (with ``rng``: saturation) has hidden (`UNDECIDED`), single hot
        pixels (`HOT_PIXEL`), which nobody can tell from a ray of one pixel in one exposure, and sources, which need
        not be ignored.
    """
    cr = np.zeros((len(observed.frames), *observed.frames[0].shape), dtype=np.uint8)
    ignore = np.zeros_like(cr)
    chance = None if rng is None else np.zeros_like(cr)
    for i, (frame, charge, light) in enumerate(zip(observed.frames, observed.charge, observed.light, strict=True)):
        noise = np.sqrt(np.maximum(light, 0) + frame.read_noise**2)
        deviation, charged = (frame.data - light) / noise, charge / noise
        near = ndimage.binary_dilation(charged > 0.5, _NEIGHBOURS)
        if rng is None:
            cr[i] = _rays(deviation, charged, near)
        else:
            cr[i] = _rays(_by_reference(deviation, rng), charged, near)
            chance[i] = _chance(cr[i], deviation, charged, near, rng.spawn(1)[0])  # labels do not depend on it
        level = sky_and_noise(light)[0]
        ignore[i][light - level > _SOURCE_SIGMA * noise] |= SOURCE
        hidden = charged > 2.5 if rng is None else (charged > 0.5) & frame.saturated
        ignore[i][hidden & (cr[i] == 0)] |= UNDECIDED
        ignore[i][observed.hot & (cr[i] == 0)] |= HOT_PIXEL
        ignore[i][frame.bad] |= NO_DATA
        frame.header["LABELS"] = ("truth", "masks are what is known, not found")
    facts = {"cr_pixels": cr.sum(axis=(1, 2)).tolist(), "lost_to_sources": [0] * len(cr)}
    return Sequence(
        np.stack([frame.data for frame in observed.frames]),
        cr,
        ignore,
        tuple(frame.header for frame in observed.frames),
        tuple(frame.name for frame in observed.frames),
        Table({"x": np.zeros(0), "y": np.zeros(0)}),
        facts,
        np.stack(observed.truth),
        chance,
    )


def _by_reference(deviation, rng):
    """Deviations, in the noise, from the median of a number of other visits that is drawn."""
    others = int(rng.integers(2, 12))
    spread = np.float32(np.sqrt((1.0 if others == 2 else np.pi / 2) / others))  # of a median, in the noise
    return (deviation - spread * rng.standard_normal(deviation.shape, dtype=np.float32)) / np.hypot(1, spread)


def _rays(deviation, charged, near):
    """What hangs together with a seed."""
    groups, n = ndimage.label((deviation > 2.5) & near, _NEIGHBOURS)
    seeded = np.zeros(n + 1, dtype=bool)
    seeded[groups[(deviation > 5) & (charged > 2.5)]] = True
    seeded[0] = False
    return seeded[groups]


def _chance(drawn, deviation, charged, near, rng):
    """How many of `_REFERENCES`, ``drawn`` among them, call a pixel a ray; uint8, 255 for all."""
    times, seen, known = drawn.astype(np.float32), np.zeros_like(deviation), deviation[near]
    for _ in range(_REFERENCES - 1):
        seen[near] = _by_reference(known, rng)
        times += _rays(seen, charged, near)
    return np.rint(255 / _REFERENCES * times).astype(np.uint8)
