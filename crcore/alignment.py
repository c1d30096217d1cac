"""Put the exposures of a sequence on the first one's pixels without touching a ray.

Only whole pixels move (nearest neighbour), so that rays keep their values
(appendix A). Exposures that already agree to half a pixel are left as they are.
"""

import re
from dataclasses import dataclass

import astroalign
import numpy as np
import sep
from astropy.io import fits
from astropy.wcs import WCS, NoConvergence, WcsError
from reproject import reproject_interp
from scipy import ndimage, spatial, stats
from skimage.transform import SimilarityTransform

from crcore.errors import FrameRejectedError, InputError

__all__ = ["Alignment", "align", "wcs_map"]

#: a map this close (pixels) to a shift, or to an affine map, is taken for one
_SHIFT_PX, _AFFINE_PX = 0.25, 0.1
#: how the keywords of a WCS begin; parsing the hundreds of others takes most of the time
_WCS_CARD = re.compile(
    "NAXIS|WCS|C(TYPE|RVAL|RPIX|DELT|UNIT|ROTA|D|PDIS|QDIS)|P[CSV]|D[PQ]|L(ON|AT)POLE|RADE|EQUINOX|EPOCH|[AB]P?_|"
    "D2IM|AXISCORR|WAT|DATE|MJD|SPECSYS|VELREF|REST"
)
#: exposures must share this much of the frame
_MIN_OVERLAP = 0.5


@dataclass(frozen=True)
class Alignment:
    """Exposures on the pixels of the first.

    Attributes
    ----------
    stack : numpy.ndarray, shape (n, H, W), float32
        The aligned exposures; pixels without data hold the exposure's median.
    valid : numpy.ndarray of bool, shape (H, W)
        True where every exposure has data that may be used.
    methods : tuple of str
        How each exposure was aligned: "none", "wcs" or "stars".
    movers : tuple of callable
        ``movers[i](array)`` puts an array on exposure i's pixels (H, W) where
        ``stack[i]`` is; NaN where there is nothing.
    """

    stack: np.ndarray
    valid: np.ndarray
    methods: tuple
    movers: tuple


def align(frames, *, resample=True):
    """Align frames with the first.

    By WCS where all headers have a good one, else by matching stars (`astroalign`);
    not at all where the offset is under half a pixel everywhere. A WCS that is a shift
    or an affine map to a tenth of a pixel is applied as such (the same pixels, without
    solving for the sky of each); any other goes through `reproject`.

    Parameters
    ----------
    frames : sequence of crcore.frame.Frame
        Exposures of one field and of one shape.
    resample : bool, optional
        False leaves every exposure where it is, as for spectra, whose format is fixed.

    Returns
    -------
    Alignment

    Raises
    ------
    FrameRejectedError
        When shapes differ, a frame has no good pixel, there is neither a WCS nor
        stars to match, or exposures hardly overlap.
    """
    first = frames[0]
    stack = np.empty((len(frames), *first.shape), dtype=np.float32)
    valid = np.ones(first.shape, dtype=bool)
    methods, movers = [], []
    try:
        here = _celestial(first) if resample else None
    except (WcsError, ValueError, TypeError):
        here = None
    for i, frame in enumerate(frames):
        if frame.shape != first.shape:
            raise FrameRejectedError(
                i,
                f"{frame.name}: has {frame.shape} pixels, {first.name} has {first.shape}: "
                "a sequence needs frames of one shape",
            )
        if frame.bad.all():
            raise FrameRejectedError(i, f"{frame.name}: every pixel is bad or not a number: leave the frame out")
        try:
            method, move = _mover(first, frame, here) if i and resample else ("none", _stay)
        except InputError as error:
            raise FrameRejectedError(i, str(error)) from None
        seen = np.where(frame.bad, np.float32(np.nan), frame.data)
        moved = move(seen)
        good = np.isfinite(moved)
        sample = moved[::3, ::3]
        sample = sample[np.isfinite(sample)]
        moved[~good] = np.median(sample) if sample.size else 0
        if good.mean() < _MIN_OVERLAP * (~frame.bad).mean():
            raise FrameRejectedError(
                i,
                f"{frame.name}: shares {100 * good.mean():.0f}% of the frame with {first.name}: "
                "wrong WCS, or not the same field",
            )
        stack[i] = moved
        valid &= good
        methods.append(method)
        movers.append(move)
    return Alignment(stack, valid, tuple(methods), tuple(movers))


def wcs_map(first, other, *, here=None):
    """Where two headers put the same sky: affine map of pixels of ``first`` to pixels of ``other``.

    Parameters
    ----------
    first, other : crcore.frame.Frame
    here : astropy.wcs.WCS, optional
        The celestial WCS of ``first`` where it is known already.

    Returns
    -------
    params : numpy.ndarray, shape (2, 3), or None
        ``x' = p[0, 0] x + p[0, 1] y + p[0, 2]``, the like for ``y'``. None where one header has no
        celestial WCS, or says itself that it is bad (``WCSERR`` other than 0).
    residual_px : float
        Largest distance between the map and the two WCS on a grid over the frame.
    """
    h, w = first.shape
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0, w - 1, 9), np.linspace(0, h - 1, 9)))
    try:
        here, there = here or _celestial(first), _celestial(other)
        if here is None or there is None:
            return None, np.inf
        if _frame_of(here) == _frame_of(there):  # coordinates of one kind need no objects, which take longer
            moved = np.stack(there.all_world2pix(*here.all_pix2world(x, y, 0), 0), axis=1)
        else:
            moved = np.stack(there.world_to_pixel(here.pixel_to_world(x, y)), axis=1)
    except (WcsError, NoConvergence, ValueError, TypeError):  # headers whose keywords contradict each other
        return None, np.inf
    if not np.isfinite(moved).all():
        return None, np.inf
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    params = np.linalg.lstsq(design, moved, rcond=None)[0].T
    return params, float(np.hypot(*(design @ params.T - moved).T).max())


def _celestial(frame):
    """The celestial WCS of a frame, or None where it has none or says that it is bad."""
    if frame.header.get("WCSERR", 0) != 0:
        return None
    cards = [c for c in frame.header.cards if _WCS_CARD.match(c.keyword)]
    wcs = WCS(fits.Header(cards), fix=False)
    if not wcs.has_celestial:
        return None
    return wcs if wcs.naxis == 2 else wcs.celestial


def _frame_of(wcs):
    """What its world coordinates are: names of the axes, reference system, equinox."""
    return tuple(wcs.axis_type_names), wcs.wcs.radesys, str(wcs.wcs.equinox)


def _stay(array):
    return np.asarray(array, dtype=np.float32)


def _mover(first, frame, here):
    """How ``frame`` gets onto the pixels of ``first``, and the function that does it."""
    params, residual = wcs_map(first, frame, here=here)
    if params is None:
        return _affine_mover(_star_map(first, frame), first.shape, "stars")
    if residual <= _AFFINE_PX:
        return _affine_mover(params, first.shape, "wcs")
    target, source = _celestial(first), _celestial(frame)

    def by_reproject(array):
        values = np.asarray(array, dtype=np.float32)
        moved, _ = reproject_interp(
            (values, source), target, first.shape, order="nearest-neighbor", roundtrip_coords=False
        )
        return moved.astype(np.float32)

    return "wcs", by_reproject


def _star_map(first, frame):
    """Affine map of pixels of ``first`` to pixels of ``frame``, (2, 3), from their stars.

    Most repeated exposures differ by a shift, which pairs of stars vote for. Where no shift wins,
    `astroalign` looks for rotations too. All stars that agree with the answer to 2 px then give a
    least-squares map.

    Raises
    ------
    InputError
    """
    here, there = _stars(first), _stars(frame)
    transform = _voted_shift(here, there)
    if transform is None:
        try:
            transform, _ = astroalign.find_transform(here, there, max_control_points=50)
        except (astroalign.MaxIterError, TypeError, ValueError) as error:
            raise InputError(
                f"{frame.name}: has no usable WCS and its stars do not match {first.name} ({error})"
            ) from None
    for _ in range(5):
        distance, nearest = spatial.cKDTree(there).query(transform(here), distance_upper_bound=2.0)
        matched = np.isfinite(distance)
        if matched.sum() < 3:
            break
        a, b = here[matched], there[nearest[matched]]
        few = matched.sum() < 10  # too few to tell a small rotation from noise
        transform = (
            SimilarityTransform(translation=(b - a).mean(axis=0)) if few else SimilarityTransform.from_estimate(a, b)
        )
    return transform.params[:2]


def _voted_shift(here, there, reach_px=200.0, agree_px=1.5):
    """The shift that more pairs of stars agree on than chance has it (one in a thousand), or None."""
    if not len(here) or not len(there):
        return None
    shifts = (there[None] - here[:, None]).reshape(-1, 2)
    shifts = shifts[np.abs(shifts).max(axis=1) < reach_px]
    if not len(shifts):
        return None
    votes = spatial.cKDTree(shifts).query_ball_point(shifts, agree_px, return_length=True)
    by_chance = len(shifts) * np.pi * agree_px**2 / (2 * reach_px) ** 2
    winner = int(np.argmax(votes))
    if votes[winner] < 3 or stats.poisson.sf(votes[winner] - 2, by_chance) * len(shifts) > 1e-3:
        return None
    agreeing = shifts[np.hypot(*(shifts - shifts[winner]).T) < agree_px]
    return SimilarityTransform(translation=agreeing.mean(axis=0))


def _stars(frame, most=100):
    """Positions (x, y) of the brightest sources, (n, 2)."""
    image = np.where(frame.bad, np.median(frame.data[~frame.bad]), frame.data).astype(np.float32)
    background = sep.Background(image)
    background.subfrom(image)
    try:
        found = sep.extract(image, 5.0, err=background.globalrms, minarea=5)
    except Exception as error:  # sep raises bare Exception when its buffers overflow
        raise InputError(f"{frame.name}: source extraction failed ({error}): too crowded to match stars") from None
    found = found[np.argsort(found["flux"])[::-1][:most]]
    return np.stack([found["x"], found["y"]], axis=1).astype(float)


def _affine_mover(params, shape, method):
    """Nearest-neighbour mover of an affine map, pixels of the target -> pixels of the source, in (x, y)."""
    h, w = shape
    corners = np.array([[0, 0, 1], [w - 1, 0, 1], [0, h - 1, 1], [w - 1, h - 1, 1]], dtype=float)
    offsets = corners @ params.T - corners[:, :2]
    if np.hypot(*offsets.T).max() < 0.5:
        return "none", _stay
    mean = (offsets.max(axis=0) + offsets.min(axis=0)) / 2
    if np.abs(offsets - mean).max() <= _SHIFT_PX:
        dx, dy = np.round(mean).astype(int)

        def by_shift(array):
            values = np.asarray(array, dtype=np.float32)
            moved = np.full(shape, np.nan, dtype=np.float32)
            y0, y1, x0, x1 = max(0, -dy), min(h, h - dy), max(0, -dx), min(w, w - dx)
            if y0 < y1 and x0 < x1:
                moved[y0:y1, x0:x1] = values[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
            return moved

        return method, by_shift

    def by_affine(array):
        matrix = params[::-1, 1::-1]  # from (x, y) to (row, column)
        values = np.asarray(array, dtype=np.float32)
        return ndimage.affine_transform(values, matrix, offset=params[::-1, 2], order=0, cval=np.nan)

    return method, by_affine
