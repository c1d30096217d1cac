"""How far each pixel of an exposure lies above the median of all, in units of its noise (appendix A)."""

import numpy as np
from astropy.stats import mad_std
from scipy import ndimage

from crcore.sources import ROWS, dilate, median_frame, sky_level

__all__ = ["deviation_score", "solve_gain", "spectral_deviation"]

#: how far a spectrum may move between exposures, in pixels, without a bright line being taken for a ray
FLEXURE_PX = 0.1

_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def deviation_score(stack, read_noise, *, sky=None, released=False):
    """How far each pixel lies above the median frame, in sigma (equations A1 to A3).

    A1: sigma_I² = |I| + N_R² + N_S. A2: Sigma = median(sigma_I) / √n. A3: score =
    (I - M) / √(sigma_I² + Sigma²), with I and the median frame M sky-subtracted. What I
    and N_S are in A1 the text leaves open; it matters where labels are compared with a
    truth (benchmarks/README.md):

    - I is taken sky-subtracted, as in A3, so that the sky counts once, in N_S.
    - N_S is the variance that the sky is seen to have, and at least Poisson's: the
      scatter of the difference of two exposures, less the read noise.

    With ``released`` both are as in the released pipeline: I with its sky, and N_S the
    median sky, which then counts twice. A score of 5 is 7 sigma under a bright sky,
    and faint rims of rays are lost.

    Parameters
    ----------
    stack : numpy.ndarray, shape (n, H, W), float32
        Aligned exposures in electrons, sky included.
    read_noise : array-like, shape (n,)
        Electrons.
    sky : numpy.ndarray, shape (n,), float32, optional
        Median of each exposure where it is known already (`crcore.sources.sky_level`).
    released : bool, optional
        True for what the released pipeline does.

    Returns
    -------
    numpy.ndarray
        float32, (n, H, W).
    """
    n = len(stack)
    noise2 = np.asarray(read_noise, dtype=np.float32) ** 2
    sky = sky_level(stack) if sky is None else sky
    sky_variance = np.maximum(sky, 0)
    if not released:
        sample = stack[:, ::3, ::4] if stack[0].size > 1_000_000 else stack
        seen = np.array([_scatter(sample[i] - sample[i - 1]) ** 2 / 2 for i in range(n)], dtype=np.float32)
        sky_variance = np.maximum(sky_variance, seen - noise2)
    floor, sky = (noise2 + sky_variance)[:, None, None], sky[:, None, None]
    score = np.empty_like(stack)
    for top in range(0, stack.shape[1], ROWS):
        rows = np.s_[:, top : top + ROWS]
        level = stack[rows] - sky
        variance = np.abs(stack[rows] if released else level)
        variance += floor  # A1
        level -= median_frame(level)
        # The median of squares is the square of the median: A2 needs no root of every exposure.
        variance += median_frame(variance) / np.float32(n)
        np.divide(level, np.sqrt(variance, out=variance), out=score[rows])  # A3
    return score


def _scatter(image):
    """Robust standard deviation."""
    return 1.4826 * float(np.median(np.abs(image - np.median(image))))


def spectral_deviation(stack, read_noise, saturation):
    """Scores of spectra, and what to ignore in each: saturated, or not the same in all exposures.

    Exposures of one spectrum differ in flux (clouds, light lost at the slit), so each is
    scaled to the median frame first, trace by trace, above its darkest pixels. They also move by
    hundredths of a pixel: what a shift of `FLEXURE_PX` makes of a bright line counts as noise.
    Where even the faintest exposure falls short of the median by more than 5 sigma, the spectrum
    itself has changed: a ray only adds.

    Parameters
    ----------
    stack : numpy.ndarray, shape (n, H, W), float32
        Exposures in electrons.
    read_noise : numpy.ndarray, shape (n,)
        Electrons.
    saturation : sequence of float or None
        Level of each exposure, electrons.

    Returns
    -------
    score : numpy.ndarray, shape (n, H, W), float32
    ignored : numpy.ndarray of bool, shape (n, H, W)
    """
    original, stack = stack, stack - np.percentile(stack[:, ::3, ::3], 5, axis=(1, 2)).astype(np.float32)[:, None, None]
    median = median_frame(stack)
    floor = 10 * float(np.median(read_noise))  # fainter pixels say nothing of the flux
    ratios = np.stack([_flux_ratio(median, image, floor) for image in stack])
    scaled = stack * ratios
    median = median_frame(scaled)
    noise = (read_noise[:, None, None] ** 2 + np.abs(original)) * ratios**2
    sigma2 = median_frame(noise) / len(stack)
    sigma2 += FLEXURE_PX**2 * np.sum(np.square(np.gradient(median)), axis=0)
    score = (scaled - median) / np.sqrt(noise + sigma2)
    # What has moved away from one place has gone to another near by: follow it there.
    changed = dilate(score.min(axis=0) < -5.0, 2)
    changed = ndimage.binary_propagation(changed, _NEIGHBOURS, mask=changed | (score.max(axis=0) > 2.0))
    ignored = np.repeat(changed[None], len(stack), axis=0)
    for i, level in enumerate(saturation):
        if level is not None:
            ignored[i] |= dilate(original[i] >= level, 3)
    return score.astype(np.float32), ignored


def _flux_ratio(reference, image, floor_e, block_px=(4, 64)):
    """By what to multiply ``image`` to match ``reference``: medians over the bright pixels of blocks, (H, W) float32.

    Blocks are a fibre or a trace high: star, lamp and sky change each by itself. Blocks without
    light take the median of all.
    """
    usable = (reference > floor_e) & (image > floor_e / 2)
    ratio = np.where(usable, reference / np.maximum(image, 1e-3), np.nan).astype(np.float32)
    overall = np.float32(np.median(ratio[usable])) if usable.any() else np.float32(1)
    result = np.full(reference.shape, overall, dtype=np.float32)
    for top in range(0, reference.shape[0], block_px[0]):
        for left in range(0, reference.shape[1], block_px[1]):
            block = np.s_[top : top + block_px[0], left : left + block_px[1]]
            values = ratio[block][usable[block]]
            if values.size >= 24:
                result[block] = np.median(values)
    return result


def solve_gain(image, read_noise, source):
    """Gain of a 0.4 m frame from its sky: sigma² = g median + g² N_R², with sigma = 1.4826 MAD.

    The equation of the pipeline that made the LCO CR dataset, which then multiplies by it: right only
    near 1, for an image in units of g per electron should be divided. Kept, since labels were made so.
    """
    border = 100 if min(image.shape) > 300 else 0
    step = 1 if image.size < 1_000_000 else 3
    inner = np.s_[border : image.shape[0] - border : step, border : image.shape[1] - border]
    background = image[inner][~source[inner]]
    if background.size < 1000:
        return 1.0
    background = background[:: max(1, background.size // 100_000)]
    variance, level, noise2 = float(mad_std(background)) ** 2, float(np.median(background)), float(read_noise) ** 2
    if noise2 == 0:
        return variance / level if level > 0 else 1.0
    return (-level + np.sqrt(level**2 + 4 * noise2 * variance)) / (2 * noise2)
