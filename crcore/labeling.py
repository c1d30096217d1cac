"""Appendix A: three or more exposures of one field in, cosmic-ray masks and coded ignore masks out."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy import ndimage

from crcore.alignment import align
from crcore.deviation import deviation_score, solve_gain, spectral_deviation
from crcore.errors import FrameRejectedError, InputError
from crcore.labelled import BORDER, HOT_PIXEL, NO_DATA, SOURCE, Sequence
from crcore.rejection import check_background, check_shares, check_stars, check_trails
from crcore.sources import ROWS, dilate, median3x3, median_frame, sky_level, source_masks

__all__ = [
    "KINDS",
    "LabelingConfig",
    "label_sequence",
]

_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class LabelingConfig:
    """The numbers of appendix A.

    Attributes
    ----------
    kind : str
        ``"imaging"`` (appendix A), ``"spectroscopy"`` (section 4.4) or ``"gemini"`` (section 4.2).
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
    released : bool
        As in the released pipeline: its noise (see `crcore.deviation.deviation_score`), and dim pixels near a ray
        that hang together with no seed are labelled too.
    reject : bool
        Apply the rules of `crcore.rejection`.
    """

    kind: str = "imaging"
    seed_score: float = 5.0
    grow_score: float = 2.5
    dilation_px: int = 5
    min_pixels: int = 2
    border_px: int = 100
    source_score: float = 3.5
    source_min_pixels: int = 9
    released: bool = False
    reject: bool = True

    def __post_init__(self):
        if self.kind not in ("imaging", "spectroscopy", "gemini"):
            raise InputError(f"kind of labeling {self.kind!r} is unknown: use one of imaging, spectroscopy, gemini")


#: the three variants: LCO images, NRES spectra, Gemini images as DRAGONS labels them with hsigma=5.0
KINDS = {
    "imaging": LabelingConfig(),
    "spectroscopy": LabelingConfig(kind="spectroscopy", border_px=0),
    "gemini": LabelingConfig(kind="gemini", grow_score=5.0, dilation_px=0, min_pixels=1, border_px=0),
}


def label_sequence(frames, config=LabelingConfig(), *, truth=None):
    """Label the cosmic rays of a sequence (appendix A; sections 4.2 and 4.4 for its variants).

    Each exposure is compared with the median of all: three visits suffice, up to twelve
    make the faint rims of rays stand out better. An exposure that breaks a rule of
    `crcore.rejection` is left out, and the rest is labelled as long as three remain.

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
        For fewer than three frames, frames without gain or read noise, frames that cannot
        be aligned, too few left after rejection, crowded fields, or a border that leaves nothing.
    """
    frames, truth = list(frames), None if truth is None else list(truth)
    if len(frames) < 3:
        raise InputError(
            f"{', '.join(f.name for f in frames) or 'no frames'}: {len(frames)} exposures: a sequence needs at least 3"
        )
    height, width = frames[0].shape
    if min(height, width) <= 2 * config.border_px:
        raise InputError(
            f"{frames[0].name}: {height} x {width} pixels are all within {config.border_px} px of the edge: "
            "use larger frames or a smaller border_px"
        )
    left_out = {}
    while True:
        try:
            sequence = _label(frames, config, truth)
        except FrameRejectedError as rejected:
            left_out[frames[rejected.index].name] = str(rejected)
            if len(frames) == 3:
                raise InputError(
                    "; ".join(left_out.values()) + f": {len(frames) - 1} exposures are left, three are needed"
                ) from None
            del frames[rejected.index]
            if truth is not None:
                del truth[rejected.index]
            continue
        sequence.facts["left_out"] = left_out
        return sequence


def _unusable(frame):
    """Why an exposure cannot be labelled by itself, or None."""
    missing = [k for k, there in (("GAIN", frame.calibrated), ("RDNOISE", frame.read_noise is not None)) if not there]
    if missing:
        return f"no {' and '.join(missing)} in the header: labeling needs electrons and their noise"
    if not np.isfinite(frame.read_noise) or frame.read_noise < 0:
        return f"RDNOISE = {frame.read_noise}: electrons are needed"
    if frame.bad.all():
        return "every pixel is bad or not a number: leave the frame out"
    sample = frame.data[::3, ::3][~frame.bad[::3, ::3]]
    if sample.size and sample.min() == sample.max():
        return f"every pixel is {sample[0]:g}: an empty or saturated exposure"
    if frame.saturated.mean() > 0.5:
        return f"{100 * frame.saturated.mean():.0f}% of its pixels are saturated"
    return None


def _label(frames, config, truth):
    """One attempt; raises `FrameRejectedError`."""
    names = tuple(f.name for f in frames)
    for i, frame in enumerate(frames):
        reason = _unusable(frame)
        if reason:
            raise FrameRejectedError(i, f"{frame.name}: {reason}")
    aligned = align(frames, resample=config.kind != "spectroscopy")
    stack, valid = aligned.stack, aligned.valid
    read_noise = np.array([f.read_noise for f in frames], dtype=np.float32)
    sky = sky_level(stack)
    imaging = config.kind != "spectroscopy"
    if config.reject and config.kind == "imaging":
        check_background(sky, np.sqrt(np.maximum(sky, 0) + read_noise**2), names)
    gains = np.ones(len(frames))
    if imaging:
        if config.reject:
            check_stars(_less_sky(stack, sky), valid, names)
        sources, catalog = source_masks(_less_sky(stack, sky), median_frame(stack, sky), valid, config)
        if config.kind == "imaging" and str(frames[0].header.get("TELID", "")).startswith("0m4"):
            gains = np.array([solve_gain(s, r, m) for s, r, m in zip(stack, read_noise, sources, strict=True)])
        scaled = stack if (gains == 1).all() else stack * gains[:, None, None].astype(np.float32)
        score = deviation_score(scaled, read_noise * gains, sky=sky * np.float32(gains), released=config.released)
        del scaled
    else:
        score, sources = spectral_deviation(stack, read_noise, [f.saturation for f in frames])
        catalog = Table({"x": np.empty(0), "y": np.empty(0)})
    if config.reject and imaging:
        check_trails(score, valid, names)
    hot = _static_pixels(frames, aligned, sky, read_noise) if imaging else np.zeros(valid.shape, dtype=bool)
    steady = (~hot).astype(np.float32)
    inner = _inner(valid.shape, config.border_px)
    seen = valid & inner
    cr = np.empty(score.shape, dtype=np.uint8)
    ignore = np.empty(score.shape, dtype=np.uint8)
    nowhere = np.uint8(BORDER) * ~inner + np.uint8(NO_DATA) * ~valid
    lost_to_sources = []
    for i in range(len(frames)):
        score[i] *= steady
        cr[i], single, lost = _grow(score[i], sources[i], config)
        ignore[i] = nowhere + np.uint8(SOURCE) * (sources[i] | lost) + np.uint8(HOT_PIXEL) * (single | hot)
        lost_to_sources.append(int((lost & seen).sum()))
    if config.kind == "imaging" and len(frames) > 3:
        _leave_movers(cr, ignore)
    if config.reject and imaging:
        check_shares(cr, seen, names)
    cr[ignore > 0] = 0
    if truth is not None:
        truth = np.stack([np.nan_to_num(m(t)) for m, t in zip(aligned.movers, truth, strict=True)]).astype(np.uint8)
    facts = {
        "alignment": aligned.methods,
        "gains": gains.tolist(),
        "sky": [round(float(s), 2) for s in sky],
        "cr_pixels": [int(n) for n in cr.sum(axis=(1, 2), dtype=np.int64)],
        "lost_to_sources": lost_to_sources,
    }
    headers = tuple(_header(frames[0], f, m) for f, m in zip(frames, aligned.methods, strict=True))
    return Sequence(stack, cr, ignore, headers, names, catalog, facts, truth)


def _header(first, frame, method):
    """The header of an aligned exposure: its own, with the sky of the first where it has been moved."""
    if method == "none":
        return frame.header
    header = frame.header.copy()
    for keyword in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        if keyword in first.header and keyword in header:
            header.add_history(f"crcore: {keyword} was {header[keyword]} before alignment")
            header[keyword] = first.header[keyword]
    return header


def _less_sky(stack, sky):
    """Exposures less their sky, one at a time, (H, W) each."""
    return (image - level for image, level in zip(stack, sky, strict=True))


def _static_pixels(frames, aligned, sky, read_noise):
    """Hot and dead pixels and columns of the detector, wherever alignment has put them; (H, W).

    They stand still while the sky moves, so the median of the exposures as they were taken
    shows them: pixels that differ from the median of their neighbours by 5 sigma. Where no exposure
    was moved they are in every one alike, and nobody takes them for rays.
    """
    static = np.zeros(aligned.valid.shape, dtype=bool)
    if set(aligned.methods) == {"none"}:
        return static
    fixed = np.empty(static.shape, dtype=np.float32)
    for top in range(0, len(fixed), ROWS):
        rows = slice(top, top + ROWS)
        as_taken = [np.where(f.bad[rows], s, f.data[rows]) for f, s in zip(frames, sky, strict=True)]
        fixed[rows] = median_frame(np.stack(as_taken), sky)
    noise = np.sqrt(max(sky[0], 0) + np.median(read_noise) ** 2)
    odd = (np.abs(fixed - median3x3(fixed)) > 5 * noise / np.sqrt(len(frames))).astype(np.float32)
    for move in aligned.movers:
        static |= np.nan_to_num(move(odd)) > 0
    return static


def _grow(score, source, config):
    """Rays, isolated pixels, and rays that touch a source and are lost to it, in one exposure (all (H, W) bool).

    A ray is a seed and the periphery that hangs together with it. Pixels of the periphery's brightness that
    hang together with no seed are noise more often than not: like single pixels they are neither.
    """
    seeds = score > config.seed_score
    found = dilate(seeds, config.dilation_px)
    found &= score > config.grow_score
    labels, n = ndimage.label(found, _NEIGHBOURS)
    numbers = labels[found]
    isolated = np.bincount(numbers, minlength=n + 1) < config.min_pixels
    if not config.released:
        isolated |= np.bincount(labels[seeds], minlength=n + 1) == 0
    touches = np.zeros(n + 1, dtype=bool)
    touches[labels[dilate(source, 1) & found]] = True
    ray, single, lost = (np.zeros(score.shape, dtype=bool) for _ in range(3))
    lost[found] = touches[numbers]
    single[found] = (isolated & ~touches)[numbers]
    ray[found] = ~(isolated | touches)[numbers]
    return ray, single, lost


def _leave_movers(cr, ignore):
    """Take what two exposures in a row show at one place out of the rays, and ignore it as a source.

    An asteroid that hardly moves between two exposures is gone from the median of a dozen, and would be
    labelled in all. No two rays cover each other by more than half of the larger but by a rare chance.
    """
    labelled = [ndimage.label(mask, _NEIGHBOURS)[0] for mask in cr]
    sizes = [np.bincount(labels.ravel()) for labels in labelled]
    same = [set() for _ in cr]
    for i in range(len(cr) - 1):
        both = (labelled[i] > 0) & (labelled[i + 1] > 0)
        pairs, shared = np.unique(np.stack([labelled[i][both], labelled[i + 1][both]]), axis=1, return_counts=True)
        for a, b, n in zip(*pairs, shared, strict=True):
            if 2 * n > max(sizes[i][a], sizes[i + 1][b]):
                same[i].add(a)
                same[i + 1].add(b)
    for i, numbers in enumerate(same):
        mover = np.isin(labelled[i], list(numbers)) if numbers else np.zeros(cr[i].shape, dtype=bool)
        cr[i][mover] = 0
        ignore[i][mover] |= SOURCE


def _inner(shape, border_px):
    inner = np.zeros(shape, dtype=bool)
    inner[border_px : shape[0] - border_px, border_px : shape[1] - border_px] = True
    return inner
