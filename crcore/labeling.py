"""Appendix A: three or more exposures of one field in, cosmic-ray masks and coded ignore masks out."""

from dataclasses import dataclass, field

import numpy as np
import sep
from astropy.stats import mad_std
from astropy.table import Table
from scipy import ndimage

from crcore.alignment import align
from crcore.errors import InputError
from crcore.frame import Frame

__all__ = [
    "BORDER",
    "HOT_PIXEL",
    "NO_DATA",
    "SOURCE",
    "LabelingConfig",
    "Sequence",
    "deviation_score",
    "label_files",
    "label_sequence",
    "source_masks",
]

#: codes of the ignore mask, which add up (documentation of the LCO CR dataset)
BORDER, NO_DATA, SOURCE, HOT_PIXEL = 1, 2, 4, 8

_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class LabelingConfig:
    """The numbers of appendix A.

    Attributes
    ----------
    seed_score, grow_score : float
        Deviation scores of a ray's seed pixels and of its periphery.
    dilation_px : int
        How far from a seed the periphery may lie.
    min_pixels : int
        Smaller events are isolated hot pixels.
    border_px : int
        Width of the frame's edge that is ignored.
    source_score, source_min_pixels : float, int
        SEP's threshold (in background RMS) and smallest source on the median frame.
    """

    seed_score: float = 5.0
    grow_score: float = 2.5
    dilation_px: int = 5
    min_pixels: int = 2
    border_px: int = 100
    source_score: float = 3.5
    source_min_pixels: int = 9


@dataclass(frozen=True)
class Sequence:
    """Aligned exposures of one field with their labels.

    Attributes
    ----------
    data : numpy.ndarray, shape (n, H, W), float32
        Exposures in electrons on the pixels of the first.
    cr : numpy.ndarray, shape (n, H, W), uint8
        1 where a cosmic ray is.
    ignore : numpy.ndarray, shape (n, H, W), uint8
        0 fine, else the sum of `BORDER`, `NO_DATA`, `SOURCE`, `HOT_PIXEL`.
    headers : tuple of astropy.io.fits.Header
        One a frame.
    names : tuple of str
        One a frame.
    catalog : astropy.table.Table
        Sources of the median frame.
    facts : dict
        What labeling measured: alignment, gains, pixels labelled and lost to sources.
    truth : numpy.ndarray, shape (n, H, W), uint8, or None
        What is known to be there (bit 1 a ray, bit 2 undecided), for simulated
        exposures and where a reference exists. Labeling never looks at it.
    """

    data: np.ndarray
    cr: np.ndarray
    ignore: np.ndarray
    headers: tuple
    names: tuple
    catalog: Table
    facts: dict = field(default_factory=dict)
    truth: np.ndarray | None = None

    @property
    def simulated(self):
        """True when the exposures say that they are simulated."""
        return bool(self.headers[0].get("SIMULATE", False))

    @property
    def median(self):
        """The cosmic-ray-free median frame with the sky subtracted, (H, W) float32."""
        return np.median(self.data - np.median(self.data, axis=(1, 2), keepdims=True), axis=0)

    def frame(self, i):
        """Exposure ``i`` as a `crcore.frame.Frame`; bad where there is no data."""
        header = self.headers[i]
        return Frame(
            self.data[i],
            read_noise=header.get("RDNOISE"),
            saturation=header.get("SATURATE"),
            bad=(self.ignore[i] & NO_DATA) > 0,
            header=header,
            name=self.names[i],
        )


def label_files(groups, config=LabelingConfig(), *, reference=None):
    """Label sequences one after another; one that cannot be labelled does not hide the others.

    Parameters
    ----------
    groups : iterable of list of path-like
        From `crcore.sequences.find_sequences`.
    config : LabelingConfig, optional
        Thresholds.
    reference : callable, optional
        Gives the known mask of a path, or None; used where all of a sequence have one.

    Yields
    ------
    paths : list of path-like
    result : Sequence or crcore.errors.InputError
    """
    for paths in groups:
        try:
            frames = [Frame.read(path) for path in paths]
            masks = [reference(path) for path in paths] if reference else [None]
            known = None if any(mask is None for mask in masks) else masks
            yield paths, label_sequence(frames, config, truth=known)
        except InputError as error:
            yield paths, error


def label_sequence(frames, config=LabelingConfig(), *, truth=None):
    """Label the cosmic rays of a sequence (appendix A).

    Parameters
    ----------
    frames : sequence of crcore.frame.Frame
        Three or more exposures of one field.
    config : LabelingConfig, optional
        Thresholds; the paper's by default.
    truth : sequence of numpy.ndarray, optional
        Known masks (H, W) of the exposures, moved with them into ``Sequence.truth``.

    Returns
    -------
    Sequence

    Raises
    ------
    InputError
        For fewer than three frames, frames without read noise, frames that cannot
        be aligned, or a border that leaves nothing.
    """
    if len(frames) < 3:
        raise InputError(
            f"{', '.join(f.name for f in frames) or 'no frames'}: {len(frames)} exposures: a sequence needs at least 3"
        )
    for frame in frames:
        if frame.read_noise is None:
            raise InputError(f"{frame.name}: no RDNOISE in the header: labeling needs the read noise in electrons")
    height, width = frames[0].shape
    if min(height, width) <= 2 * config.border_px:
        raise InputError(
            f"{frames[0].name}: {height} x {width} pixels are all within {config.border_px} px of the edge: "
            "use larger frames or a smaller border_px"
        )
    aligned = align(frames)
    stack, valid = aligned.stack, aligned.valid
    sources, catalog = source_masks(stack, valid, config)
    read_noise = np.array([f.read_noise for f in frames], dtype=np.float32)
    gains = np.ones(len(frames))
    if str(frames[0].header.get("TELID", "")).startswith("0m4"):
        gains = np.array([_solve_gain(s, r, m) for s, r, m in zip(stack, read_noise, sources, strict=True)])
    scaled = stack * gains[:, None, None].astype(np.float32)
    score = deviation_score(scaled, read_noise * gains)
    cr, single, lost = _grow(score, sources, config)
    ignore = _ignore_masks(valid, sources, single, config)
    cr[ignore > 0] = 0
    inner = _inner(stack.shape[1:], config.border_px) & valid
    moved_truth = None
    if truth is not None:
        moved_truth = np.stack([np.nan_to_num(m(t)) for m, t in zip(aligned.movers, truth, strict=True)]).astype(
            np.uint8
        )
    facts = {
        "alignment": aligned.methods,
        "gains": gains.tolist(),
        "cr_pixels": int(cr.sum()),
        "lost_to_sources": int((lost & inner).sum()),
    }
    return Sequence(
        stack, cr, ignore, tuple(f.header for f in frames), tuple(f.name for f in frames), catalog, facts, moved_truth
    )


def deviation_score(stack, read_noise):
    """How far each pixel lies above the median frame, in sigma (equations A1 to A3).

    The noise of a frame is, as printed, sqrt(|I| + N_R² + N_S) with the sky both in
    I and in N_S; a score of 5 is therefore more than 5 sigma where the sky dominates.

    Parameters
    ----------
    stack : numpy.ndarray, shape (n, H, W)
        Aligned exposures in electrons, sky included.
    read_noise : array-like, shape (n,)
        Electrons.

    Returns
    -------
    numpy.ndarray
        float32, (n, H, W).
    """
    sky = np.median(stack, axis=(1, 2), keepdims=True)
    read_noise = np.asarray(read_noise, dtype=np.float32).reshape(-1, 1, 1)
    sigma = np.sqrt(np.abs(stack) + read_noise**2 + np.maximum(sky, 0))  # A1
    sigma_median = np.median(sigma, axis=0) / np.sqrt(len(stack))  # A2
    level = stack - sky
    return (level - np.median(level, axis=0)) / np.sqrt(sigma**2 + sigma_median**2)  # A3


def _solve_gain(image, read_noise, source):
    """Gain of a 0.4 m frame from its sky: sigma² = g median + g² N_R², with sigma = 1.4826 MAD.

    The equation of the pipeline that made the LCO CR dataset.
    """
    border = 100 if min(image.shape) > 300 else 0
    inner = _inner(image.shape, border)
    background = image[inner & ~source]
    if background.size < 1000:
        return 1.0
    variance, level, noise2 = float(mad_std(background)) ** 2, float(np.median(background)), float(read_noise) ** 2
    if noise2 == 0:
        return variance / level if level > 0 else 1.0
    return (-level + np.sqrt(level**2 + 4 * noise2 * variance)) / (2 * noise2)


def source_masks(stack, valid, config=LabelingConfig()):
    """Pixels that belong to sources, for each exposure.

    Sources are found by SEP on the median frame, which has no rays. Around each, a
    window half as large again gives the local background; what lies above it by two
    robust sigma and hangs together with the source is the source, in this exposure's
    seeing (Howell 2006). Twice the SEP ellipse always belongs to it.

    Parameters
    ----------
    stack : numpy.ndarray, shape (n, H, W)
        Aligned exposures.
    valid : numpy.ndarray of bool, shape (H, W)
        True where there are data.
    config : LabelingConfig, optional
        Thresholds.

    Returns
    -------
    masks : numpy.ndarray of bool, shape (n, H, W)
    catalog : astropy.table.Table
        SEP's table of the sources.

    Raises
    ------
    InputError
        When SEP cannot extract sources (too crowded).
    """
    level = stack - np.median(stack, axis=(1, 2), keepdims=True)
    median = np.ascontiguousarray(np.median(level, axis=0), dtype=np.float32)
    background = sep.Background(median, mask=~valid, bw=32, bh=32, fw=3, fh=3)
    sep.set_extract_pixstack(max(300_000, median.size // 5))
    try:
        found = sep.extract(
            median - background.back(),
            config.source_score,
            err=background.globalrms,
            mask=~valid,
            minarea=config.source_min_pixels,
        )
    except Exception as error:  # sep raises bare Exception when its buffers overflow
        raise InputError(f"source extraction failed ({error}): the field is too crowded to label") from None
    catalog = Table(found[(found["flag"] < 8) & np.isfinite(found["a"]) & (found["a"] * found["b"] > 0.2)])
    # A 3x3 median takes rays out of the exposure and leaves the source's profile.
    smooth = [ndimage.median_filter(image, 3) for image in level]
    masks = np.zeros(stack.shape, dtype=bool)
    for row in catalog:
        _mask_source(masks, smooth, row)
    for i in range(len(masks)):
        masks[i] = ndimage.binary_dilation(masks[i], _NEIGHBOURS, iterations=2)
    return masks, catalog


def _mask_source(masks, smooth, row):
    height, width = masks.shape[1:]
    grow_y, grow_x = (max(4, int(0.25 * (row[f"{k}max"] - row[f"{k}min"]) + 1)) for k in "yx")
    window = np.s_[
        max(0, row["ymin"] - grow_y) : min(height, row["ymax"] + grow_y + 1),
        max(0, row["xmin"] - grow_x) : min(width, row["xmax"] + grow_x + 1),
    ]
    y, x = np.mgrid[window]
    y, x = y - row["y"], x - row["x"]
    c, s = np.cos(row["theta"]), np.sin(row["theta"])
    radius2 = ((x * c + y * s) / row["a"]) ** 2 + ((y * c - x * s) / row["b"]) ** 2
    ellipse = radius2 <= 4
    for mask, image in zip(masks, smooth, strict=True):
        part = image[window]
        outside = part[~ellipse]
        inside = ellipse
        if outside.size >= 8:
            limit = np.median(outside) + 2 * mad_std(outside)
            labels, _ = ndimage.label(ellipse | (part > limit))
            inside = np.isin(labels, np.unique(labels[ellipse]))
        mask[window] |= inside


def _grow(score, sources, config):
    """Seeds, their periphery, single pixels, and what is lost to sources (all (n, H, W))."""
    cr = np.zeros(score.shape, dtype=np.uint8)
    single = np.zeros(score.shape, dtype=bool)
    lost = np.zeros(score.shape, dtype=bool)
    for i, (frame, source) in enumerate(zip(score, sources, strict=True)):
        seeds = frame > config.seed_score
        grown = _near(seeds & ~source, config) & (frame > config.grow_score) & ~source
        labels, n = ndimage.label(grown, _NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=n + 1)
        small = sizes < config.min_pixels
        small[0] = False
        single[i] = small[labels]
        cr[i] = grown & ~single[i]
        lost[i] = _near(seeds, config) & (frame > config.grow_score) & source
    return cr, single, lost


def _near(seeds, config):
    return ndimage.binary_dilation(seeds, _NEIGHBOURS, iterations=config.dilation_px)


def _inner(shape, border_px):
    inner = np.zeros(shape, dtype=bool)
    inner[border_px : shape[0] - border_px, border_px : shape[1] - border_px] = True
    return inner


def _ignore_masks(valid, sources, single, config):
    ignore = np.zeros(sources.shape, dtype=np.uint8)
    ignore += np.where(_inner(valid.shape, config.border_px), 0, BORDER).astype(np.uint8)
    ignore += np.where(valid, 0, NO_DATA).astype(np.uint8)
    ignore += sources.astype(np.uint8) * SOURCE
    ignore += single.astype(np.uint8) * HOT_PIXEL
    return ignore
