"""Exposures that must not be labelled: unstable sky, displaced or missing stars, trails (appendix A).

The paper rejects sequences "whose background varies over sigma > 5 between frames" and frames whose
share of the labelled pixels sticks out, "satellite trails or mis-aligned". Here each rule says why.
"""

import numpy as np
from scipy import fft, ndimage

from crcore.errors import FrameRejectedError
from crcore.sources import median3x3

__all__ = ["check_background", "check_shares", "check_stars", "check_trails"]

_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def check_background(sky_e, noise_e, names, limit=5.0):
    """Reject the exposure whose sky differs most from the others', if by more than ``limit`` sigma.

    Sigma is the noise of one pixel under the median sky. (The released pipeline takes 5 counts,
    whatever the sky.)

    Parameters
    ----------
    sky_e, noise_e : numpy.ndarray, shape (n,)
        Median and RMS noise of each exposure, electrons.
    names : sequence of str
    limit : float, optional

    Raises
    ------
    FrameRejectedError
    """
    away = np.abs(sky_e - np.median(sky_e)) / np.median(noise_e)
    worst = int(np.argmax(away))
    if away[worst] > limit:
        raise FrameRejectedError(
            worst,
            f"{names[worst]}: sky of {sky_e[worst]:.0f} e- differs by {away[worst]:.1f} sigma from "
            f"the others' {np.median(sky_e):.0f} e-: unstable sky",
        )


def check_stars(level, valid, names, *, reach_px=4):
    """Reject an exposure whose stars are not where those of the first are.

    Exposures of one field correlate best where they lie on each other; a wrong WCS or a
    wrong match of stars moves the peak of the cross-correlation. Rays do not correlate,
    and the pattern of the detector has been filtered out. Without stars nothing is said.

    Parameters
    ----------
    level : iterable of numpy.ndarray, shape (H, W)
        Aligned exposures, sky subtracted.
    valid : numpy.ndarray of bool, shape (H, W)
    names : sequence of str
    reach_px : int, optional
        How far from no shift the peak may be.

    Raises
    ------
    FrameRejectedError
    """
    first, away = None, {}
    block_px = 2 if min(valid.shape) < 2500 else 4
    for i, image in enumerate(level):
        blocks = _binned(np.where(valid, image, 0), block_px)
        blocks = blocks - ndimage.uniform_filter(blocks, 65)
        sigma = 1.4826 * np.median(np.abs(blocks[::3, ::3]))
        blocks = median3x3(blocks)  # no rays, no hot pixels
        blocks = np.clip(blocks, 0, 10 * sigma)
        blocks -= np.median(blocks[::2], axis=0)  # no columns
        padded = [fft.next_fast_len(side, real=True) for side in blocks.shape]
        spectrum = fft.rfft2(blocks, s=padded)
        if first is None:
            first = spectrum
            continue
        matched = fft.irfft2(first * np.conj(spectrum), s=padded)
        reach = reach_px // block_px
        near = np.roll(matched, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1].max()
        peak = matched.max()
        if peak > 2 * near and peak > 12 * matched.std():
            y, x = np.unravel_index(np.argmax(matched), matched.shape)
            shift = [block_px * (k - n if k > n // 2 else k) for k, n in ((x, matched.shape[1]), (y, matched.shape[0]))]
            away[i] = shift
    if away:
        worst = 0 if len(away) == len(names) - 1 and len(names) > 3 else next(iter(away))
        dx, dy = next(iter(away.values()))
        raise FrameRejectedError(
            worst,
            f"{names[worst]}: its stars are {abs(dx)} columns and {abs(dy)} rows away from where those of "
            "the other exposures are: wrong WCS",
        )


def _binned(image, factor):
    """Mean of blocks of ``factor`` x ``factor`` pixels, float32; a rest at the edge is left out."""
    h, w = (side // factor for side in image.shape)
    rows = image[: h * factor].reshape(h, factor, -1).sum(axis=1, dtype=np.float32)
    return sum(rows[:, k : w * factor : factor] for k in range(factor)) / np.float32(factor**2)


def check_trails(score, valid, names, *, limit=10.0):
    """Reject an exposure that a satellite or an aeroplane has crossed.

    Faint trails show once pixels are averaged over blocks and blocks are added along
    straight lines of every direction (a discrete Radon transform). A line stands out by
    ``limit`` sigma, and in at least five of six equal parts: rays are shorter. Lines along
    columns are not judged: they are the detector's.

    Parameters
    ----------
    score : numpy.ndarray, shape (n, H, W)
        Deviation scores.
    valid : numpy.ndarray of bool, shape (H, W)
    names : sequence of str
    limit : float, optional

    Raises
    ------
    FrameRejectedError
    """
    block_px = max(4, -(-max(score.shape[1:]) // 128))
    if min(score.shape[1:]) < 20 * block_px:
        return
    whole = (_binned(valid, block_px) > 0.99).astype(np.float32)
    around = np.maximum(ndimage.uniform_filter(whole, 15), 1e-3)
    for i, frame in enumerate(score):
        # Clipped twice, so that neither a bright ray nor a block full of rays makes a line.
        blocks = _binned(np.where(valid, np.clip(frame, -4, 4), 0), block_px)
        blocks *= whole
        blocks -= ndimage.uniform_filter(blocks, 15) / around  # the sky's gradient may have changed
        blocks *= whole
        blocks /= max(float(blocks.std()), 1e-6)
        if (blocks > 3).sum() < 0.3 * min(blocks.shape):  # too few bright blocks for any line
            continue
        blocks = np.clip(blocks, -2.5, 2.5)
        # Columns are the detector's: faint bad ones show as lines where exposures were moved.
        for turned, least_shift in ((blocks, 0.0), (np.ascontiguousarray(blocks.T), 3.0)):
            sigma, parts = _brightest_line(turned, least_shift)
            if sigma > limit and parts[1] > 1.2:
                raise FrameRejectedError(
                    i, f"{names[i]}: a straight trail ({sigma:.0f} sigma) crosses it: a satellite or an aeroplane"
                )


def _brightest_line(blocks, least_shift=0.0):
    """Significance of the brightest line within 45 degrees of the rows, and its level in six parts, sorted.

    Lines that rise or fall by less than ``least_shift`` rows from edge to edge are left out.
    """
    height, width = blocks.shape
    pad = width // 2 + 2
    padded = np.pad(blocks, ((pad, pad), (0, 0)))
    columns = np.arange(width)
    best, parts = 0.0, np.zeros(6)
    for slope in np.linspace(-1, 1, 4 * width // 3):
        if abs(slope) * width < least_shift:
            continue
        shear = np.round(slope * (columns - width / 2)).astype(int)
        rows = np.arange(height)[:, None] + shear
        inside = (rows >= 0) & (rows < height)
        sheared = padded[rows + pad, columns]
        band = sheared[:-1] + sheared[1:]  # a trail lies on one row or two
        count = inside[:-1].sum(axis=1)
        sigma = np.where(count >= 0.4 * min(height, width), band.sum(axis=1) / np.sqrt(2 * np.maximum(count, 1)), 0)
        line = int(np.argmax(sigma))
        if sigma[line] > best:
            best = float(sigma[line])
            parts = np.sort([part.mean() for part in np.array_split(band[line][inside[line]], 6)])
    return best, parts


def check_shares(cr, where, names, *, limit=5.0, least=200):
    """Reject an exposure with far more labelled pixels than the others.

    Its share is more than twice the mean, and the excess over the others' mean is more
    than ``limit`` sigma of what rays of these sizes scatter by (a compound Poisson law)
    and more than ``least`` pixels, which one long muon may have.

    Parameters
    ----------
    cr : numpy.ndarray, shape (n, H, W)
        Labels.
    where : numpy.ndarray of bool, shape (H, W)
        Pixels that count.
    names : sequence of str
    limit, least : float, optional

    Raises
    ------
    FrameRejectedError
    """
    counts = np.array([np.count_nonzero((mask > 0) & where) for mask in cr], dtype=float)
    worst = int(np.argmax(counts))
    others = np.delete(counts, worst).mean()
    if counts[worst] <= 2 * counts.mean() or counts[worst] - others < least:
        return
    squares = [np.square(np.bincount(ndimage.label(m & where, _NEIGHBOURS)[0].ravel())[1:]).sum() for m in cr]
    scatter = np.sqrt(np.delete(squares, worst).mean() + 1)
    if counts[worst] - others > limit * scatter:
        raise FrameRejectedError(
            worst,
            f"{names[worst]}: has {counts[worst]:.0f} labelled pixels, the others {others:.0f}: "
            "a trail, bad alignment or a blurred exposure",
        )
