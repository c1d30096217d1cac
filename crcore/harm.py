"""Harm: stars that a detector takes for rays.

A ray hits a star by chance now and then, never the same star twice in a row: a star counts as harmed when its core is
flagged in at least two of three exposures. In simulated exposures without a ray every flag is harm.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import sep
from scipy import ndimage

from crcore.errors import InputError
from crcore.frame import Frame
from crcore.instruments import Camera
from crcore.metrics import PixelScores
from crcore.preprocess import sky_and_noise
from crcore.simulate import sky
from crcore.simulate.detector import expose, random_detector, saturation_level
from crcore.simulate.psf import PHASES, draw_psf

__all__ = [
    "CORE_PX",
    "Stars",
    "core_flagged",
    "core_peak",
    "count_harmed",
    "find_stars",
    "harm_at_recall",
    "harm_by_width",
    "star_field",
]

#: a flagged pixel this near to a star's centre harms it
CORE_PX = 1.5


@dataclass(frozen=True)
class Stars:
    """Stars of a field.

    Attributes
    ----------
    x, y : numpy.ndarray of float, shape (n,)
        Centres, pixels counted from 0.
    snr : numpy.ndarray of float, shape (n,)
        Peak above the sky in units of the sky's noise in one exposure.
    fwhm_px : numpy.ndarray of float, shape (n,)
        Full width at half maximum of the best Gaussian by moments.
    """

    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    fwhm_px: np.ndarray

    def __len__(self):
        return len(self.x)


def find_stars(frames, *, threshold=8.0, margin_px=8):
    """Stars of the median of aligned exposures, which holds no rays.

    Parameters
    ----------
    frames : sequence of crcore.frame.Frame
        Three or more exposures of one field on the same pixels.
    threshold : float, optional
        Detection limit in units of the median's noise, for SEP.
    margin_px : int, optional
        Stars this near to the edge, or on bad pixels, do not count.

    Returns
    -------
    Stars

    Raises
    ------
    InputError
        For fewer than three exposures, or none with good pixels in common.
    """
    if len(frames) < 3:
        raise InputError(f"{len(frames)} exposures: three are needed, for a median without rays")
    bad = np.any([f.bad for f in frames], axis=0)
    if bad.all():
        raise InputError(f"{frames[0].name}: no pixel is good in all exposures: there are no stars to find")
    median = np.median([f.data for f in frames], axis=0).astype(np.float32)
    median[bad] = np.median(median[~bad])
    background = sep.Background(median, mask=bad, bw=64, bh=64, fw=3, fh=3)
    level = median - background.back(dtype=np.float32)
    noise = np.maximum(background.rms(dtype=np.float32), 1e-3)
    found = sep.extract(level, threshold, err=noise, mask=bad, minarea=4)
    x, y = found["x"], found["y"]
    height, width = median.shape
    inside = (x >= margin_px) & (x < width - margin_px) & (y >= margin_px) & (y < height - margin_px)
    near_bad = ndimage.binary_dilation(bad, np.ones((3, 3)), iterations=3)
    column = np.clip(np.round(x).astype(int), 0, width - 1)
    row = np.clip(np.round(y).astype(int), 0, height - 1)
    keep = inside & ~near_bad[row, column]
    first = frames[0]
    one = float(np.median(sky_and_noise(np.where(bad, np.median(first.data[~bad]), first.data), bad=bad)[1]))
    return Stars(
        x[keep],
        y[keep],
        found["peak"][keep] / one,
        2.3548 * np.sqrt(found["a"] * found["b"])[keep],
    )


def core_flagged(mask, stars, *, radius_px=CORE_PX):
    """Which stars have a flagged pixel within ``radius_px`` of their centre; bool, (n,).

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (H, W)
    stars : Stars
    radius_px : float, optional
    """
    return core_peak(mask, stars, radius_px=radius_px)


def core_peak(image, stars, *, radius_px=CORE_PX):
    """The highest value of an image (H, W) within ``radius_px`` of each star's centre, (n,); at least zero."""
    height, width = image.shape
    peak = np.zeros(len(stars.x), dtype=image.dtype)
    row, column = np.round(stars.y).astype(int), np.round(stars.x).astype(int)
    reach = int(np.ceil(radius_px)) + 1
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = row + dy, column + dx
            near = (y - stars.y) ** 2 + (x - stars.x) ** 2 <= radius_px**2
            near &= (y >= 0) & (y < height) & (x >= 0) & (x < width)
            peak[near] = np.maximum(peak[near], image[y[near], x[near]])
    return peak


def count_harmed(masks, stars, *, at_least=2):
    """Stars whose core is flagged in at least so many exposures; bool, (n,).

    Parameters
    ----------
    masks : sequence of numpy.ndarray of bool, shape (H, W)
        A detector's masks of the exposures.
    stars : Stars
    at_least : int, optional
    """
    return np.sum([core_flagged(mask, stars) for mask in masks], axis=0) >= at_least


def star_field(fwhm_px, rng, *, side=512, spacing_px=32, kind="moffat"):
    """A simulated exposure of isolated stars, without a ray, by a camera drawn at random.

    Parameters
    ----------
    fwhm_px : float
        Full width at half maximum of the stars.
    rng : numpy.random.Generator
    side : int, optional
        Rows and columns.
    spacing_px : int, optional
        Stars stand on a grid of this step, each moved by up to a quarter of it.
    kind : str, optional
        Point-spread function (`crcore.simulate.psf.draw_psf`).

    Returns
    -------
    frame : crcore.frame.Frame
    stars : Stars
        With peaks from 5 times the noise to beyond saturation, evenly spread in their logarithm.
    """
    camera = dataclasses.replace(Camera.random(rng), fwhm_px=(fwhm_px, fwhm_px))
    sky_e = float(min(10 ** rng.uniform(0.5, 3.7), 0.2 * camera.saturation_e))
    noise = np.sqrt(sky_e + camera.read_noise_e**2)
    steps = np.arange(spacing_px, side - spacing_px // 2, spacing_px)
    y, x = (a.ravel() + rng.uniform(-spacing_px / 4, spacing_px / 4, a.size) for a in np.meshgrid(steps, steps))
    y, x = (np.round(a * PHASES) / PHASES for a in (y, x))
    psf = draw_psf(fwhm_px, kind=kind, beta=rng.uniform(2.6, 4.5), angle_deg=rng.uniform(0, 180))
    brightest = np.log10(3 * camera.saturation_e / noise)
    wanted = 10 ** rng.uniform(np.log10(5), brightest, len(x))  # peak over the sky's noise
    share = psf.drawImage(nx=9, ny=9, scale=1.0).array.max()  # of the light, in the brightest pixel
    field = sky.Field(x, y, wanted * noise / share, (), sky_e, (0.0, 0.0))
    light = sky.render(field, (side, side), psf=psf)
    data = expose(light, np.zeros_like(light), random_detector(camera, (side, side), rng), rng)
    frame = Frame(
        data, read_noise=camera.read_noise_e, saturation=saturation_level(camera), name=f"stars of {fwhm_px:g} px"
    )
    return frame, Stars(x, y, wanted, np.full(len(x), float(fwhm_px)))


def harm_by_width(detectors, widths_px, rng, *, fields=4, kind="moffat", keep=None):
    """How many simulated stars each detector harms, by their width and brightness.

    Parameters
    ----------
    detectors : dict
        Name to detector, ``detector(frame) -> Detection``.
    widths_px : sequence of float
        Full widths at half maximum.
    rng : numpy.random.Generator
    fields : int, optional
        Exposures of each width; all detectors see the same.
    kind : str, optional
        Point-spread function.
    keep : dict, optional
        Gets, for each detector's name and width, the highest probability in the core of each star but saturated ones.

    Returns
    -------
    list of dict
        ``detector``, ``kind``, ``fwhm_px``, ``snr`` ("5-20", "20-100", "100-1000", "above 1000", "saturated"),
        ``stars``, ``harmed``.
    """
    limits = ((5, 20, "5-20"), (20, 100, "20-100"), (100, 1000, "100-1000"), (1000, np.inf, "above 1000"))
    counts = {}
    for width in widths_px:
        for _ in range(fields):
            frame, stars = star_field(width, rng, kind=kind)
            full = core_flagged(frame.saturated, stars)
            for name, detector in detectors.items():
                found = detector(frame)
                harmed = core_flagged(found.mask, stars)
                if keep is not None:
                    prob = np.where(found.not_evaluated, 0, found.prob)
                    keep[name, width] = np.concatenate([keep.get((name, width), []), core_peak(prob, stars)[~full]])
                for low, high, label in (*limits, (0, np.inf, "saturated")):
                    chosen = full if label == "saturated" else ~full & (stars.snr >= low) & (stars.snr < high)
                    row = counts.setdefault((name, width, label), [0, 0])
                    row[0] += int(chosen.sum())
                    row[1] += int((harmed & chosen).sum())
    return [
        {"detector": name, "kind": kind, "fwhm_px": float(width), "snr": label, "stars": stars, "harmed": harmed}
        for (name, width, label), (stars, harmed) in counts.items()
    ]


def harm_at_recall(pixels, peaks, recalls):
    """Stars harmed where a detector's threshold is such that it finds a share of the ray pixels.

    Detectors with thresholds of their own are not compared fairly: one that finds little harms little.

    Parameters
    ----------
    pixels : crcore.metrics.PixelScores
        Of frames with rays.
    peaks : array-like, shape (n,)
        Highest probability in the core of each star, of frames without (``keep`` of `harm_by_width`).
    recalls : sequence of float
        Shares of the ray pixels.

    Returns
    -------
    list of dict
        ``recall``, ``threshold``, ``stars``, ``harmed``; a recall that is not reached has no row.
    """
    prob, rays, _ = pixels.histogram()
    bins = pixels.sparse()[0]
    found = np.cumsum(rays[::-1]) / max(pixels.positives, 1)
    stars = PixelScores()  # a star as probable as a pixel counts with it: both are in one bin
    stars.add(np.asarray(peaks, dtype=np.float32), np.ones(len(peaks), dtype=bool))
    star_bins, _, counts = stars.sparse()
    rows = []
    for recall in recalls:
        place = int(np.searchsorted(found, recall))
        if place == len(found) or prob[::-1][place] < 1e-6:  # what has no probability is not found at any threshold
            continue
        harmed = int(counts[star_bins >= bins[::-1][place]].sum())
        threshold = float(prob[::-1][place])
        rows.append({"recall": float(recall), "threshold": threshold, "stars": len(peaks), "harmed": harmed})
    return rows
