"""The threshold explorer's core: a mask that is tuned and edited by hand, and pictures of it, without a browser.

`Session` goes from state to mask to numbers, `Screen` from a session to pictures as arrays. The widgets of
`crcore.explorer_widgets` show them and tell them what a person does; the manner is that of SAOImage DS9 (section 5).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.visualization import ManualInterval, PercentileInterval, ZScaleInterval
from astropy.wcs import WCS, WcsError
from scipy import ndimage, sparse

from crcore import dq, results, zoo
from crcore.dataset import write_sequence
from crcore.detection import Detection
from crcore.errors import InputError
from crcore.fits_input import open_fits
from crcore.labeling import NO_DATA, Sequence
from crcore.metrics import PixelScores

__all__ = [
    "COLOUR_MAPS",
    "INTERVALS",
    "STRETCHES",
    "Edit",
    "Screen",
    "Session",
    "file_stem",
    "from_slider",
    "to_slider",
]

#: probabilities below this are never flagged
LEAST_PROBABILITY = 1e-4

#: how values between the limits become grey, on [0, 1]
STRETCHES = {
    "linear": lambda x: x,
    "asinh": lambda x: np.arcsinh(10 * x) / np.arcsinh(10),
    "log": lambda x: np.log1p(1000 * x) / np.log1p(1000),
    "sqrt": np.sqrt,
}
INTERVALS = {
    "zscale": ZScaleInterval(),
    "99.5 %": PercentileInterval(99.5),
    "98 %": PercentileInterval(98),
    "min, max": PercentileInterval(100),
}
#: all are even in lightness, and can be told apart by colour-blind eyes
COLOUR_MAPS = ("gray", "viridis", "cividis", "magma")

_FLAGGED, _SECOND, _BOTH, _SILENT = (np.array(c, dtype=np.uint8) for c in (
    (230, 159, 0), (86, 180, 233), (0, 0, 0), (120, 120, 120),
))  # fmt: skip


def from_slider(position):
    """Probability of a slider from -4 to 1: powers of ten up to 0.1, even steps from there.

    >>> [round(from_slider(s), 4) for s in (-4, -2, -1, 0, 1)]
    [0.0001, 0.01, 0.1, 0.55, 1.0]
    """
    return float(10.0**position if position < -1 else 0.1 + 0.45 * (position + 1))


def to_slider(probability):
    """Where the slider stands for a probability; the inverse of `from_slider`."""
    p = min(max(float(probability), LEAST_PROBABILITY), 1.0)
    return float(np.log10(p) if p < 0.1 else (p - 0.1) / 0.45 - 1)


@dataclass(frozen=True)
class Edit:
    """One change by hand, as it is recorded.

    Attributes
    ----------
    kind : {"paint", "erase", "add ray", "remove ray"}
    x, y : int
        Where it began, pixels from 0.
    pixels : numpy.ndarray of int
        Flat indices of the pixels that were set (paint, add) or cleared (erase, remove).
    """

    kind: str
    x: int
    y: int
    pixels: np.ndarray = field(repr=False)

    @property
    def sets(self):
        """True where the edit flags pixels, False where it clears them."""
        return self.kind in ("paint", "add ray")


class Session:
    """A frame, what a detector says of it, and the mask that a person makes of that.

    Parameters
    ----------
    detection : crcore.detection.Detection
        With its frame.
    truth : numpy.ndarray of bool, optional
        Known rays, (H, W): precision and recall are then given.
    second : crcore.detection.Detection, optional
        Of another detector, to compare with; at its own threshold.

    Attributes
    ----------
    threshold : float
        Pixels with a higher probability are flagged.
    dilate, min_pixels : int
        Pixels by which the mask is grown; flagged groups smaller than that are dropped before.
    """

    def __init__(self, detection, *, truth=None, second=None):
        if detection.frame is None:
            raise InputError(f"{detection.model}: the detection does not know its frame: make it with frame=")
        if truth is not None and np.shape(truth) != detection.prob.shape:
            raise InputError(f"truth of {np.shape(truth)} pixels, the frame has {detection.prob.shape}")
        self.detection, self.frame, self.truth, self.second = detection, detection.frame, truth, second
        self.shape = detection.prob.shape
        self.threshold, self.dilate, self.min_pixels = detection.threshold, 0, 1
        prob = np.where(detection.not_evaluated, 0, detection.prob).ravel()
        chosen = np.flatnonzero(prob > LEAST_PROBABILITY)
        order = chosen[np.argsort(prob[chosen])[::-1]]
        self._pixels, self._probs = order, prob[order]  # by falling probability: a threshold is a cut
        self._undone, self.edits = [], []
        self._mask = np.zeros(prob.size, dtype=bool)
        self._number = np.full(prob.size, -1, dtype=np.int32)
        self._stale, self._groups = True, None

    def with_second(self, second):
        """The same session beside another detector, or beside none."""
        self.second = second
        self.__dict__.pop("second_mask", None)
        return self

    def take_over(self, other):
        """Go on with the edits, dilation and smallest group of a session with another detector on the same frame."""
        self.edits, self._undone = list(other.edits), list(other._undone)
        self.dilate, self.min_pixels, self._stale = other.dilate, other.min_pixels, True

    @cached_property
    def second_mask(self):
        """Mask of the detector that is compared with; bool, (H, W)."""
        return self.second.mask

    # --- state to mask ---

    def set(self, *, threshold=None, dilate=None, min_pixels=None):
        """Change one or more of the numbers that make the mask.

        Raises
        ------
        InputError
            For a threshold that is no probability, or a negative number of pixels.
        """
        threshold = self.threshold if threshold is None else float(threshold)
        dilate = self.dilate if dilate is None else int(dilate)
        min_pixels = self.min_pixels if min_pixels is None else int(min_pixels)
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold {threshold}: a probability between 0 and 1 is needed")
        if dilate < 0 or min_pixels < 1:
            raise InputError(f"dilation {dilate}, smallest group {min_pixels}: at least 0 and 1 are needed")
        if (threshold, dilate, min_pixels) != (self.threshold, self.dilate, self.min_pixels):
            self.threshold, self.dilate, self.min_pixels, self._stale = threshold, dilate, min_pixels, True

    @property
    def mask(self):
        """The mask as it stands, edits included; bool, (H, W). Do not write to it."""
        if self._stale:
            self._make()
        return self._mask.reshape(self.shape)

    def _make(self):
        flagged = self._pixels[: np.searchsorted(-self._probs, -self.threshold)]
        if self.min_pixels > 1:
            groups = self._connected(flagged)
            flagged = flagged[np.bincount(groups, minlength=1)[groups] >= self.min_pixels] if len(flagged) else flagged
        self._mask.fill(False)
        self._mask[flagged] = True
        if self.dilate:
            silent, (height, width) = self.detection.not_evaluated.ravel(), self.shape
            y, x = np.divmod(flagged, width)
            for dy in range(-self.dilate, self.dilate + 1):
                for dx in range(-self.dilate, self.dilate + 1):
                    inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
                    grown = flagged[inside] + dy * width + dx
                    self._mask[grown[~silent[grown]]] = True
        for edit in self.edits:
            self._mask[edit.pixels] = edit.sets
        self._stale, self._groups = False, None

    def _connected(self, pixels):
        """Number of the 8-connected group of each pixel."""
        if not len(pixels):
            return np.zeros(0, dtype=np.int32)
        self._number[pixels] = np.arange(len(pixels), dtype=np.int32)
        width = self.shape[1]
        column = pixels % width
        pairs = []
        for step, inside in (
            (1, column < width - 1),
            (width - 1, column > 0),
            (width, None),
            (width + 1, column < width - 1),
        ):
            here = np.arange(len(pixels)) if inside is None else np.flatnonzero(inside)
            there = pixels[here] + step
            ok = there < self._number.size
            here, there = here[ok], self._number[there[ok]]
            pairs.append((here[there >= 0], there[there >= 0]))
        self._number[pixels] = -1
        rows, columns = (np.concatenate([p[k] for p in pairs]) for k in (0, 1))
        graph = sparse.coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(pixels),) * 2)
        return sparse.csgraph.connected_components(graph, directed=False)[1]

    def _by_group(self):
        """Flagged pixels and their groups, kept until the mask changes."""
        mask = self.mask
        if self._groups is None:
            pixels = np.flatnonzero(mask)
            self._groups = pixels, self._connected(pixels)
        return self._groups

    # --- mask to numbers ---

    def counts(self):
        """Numbers of the mask as it stands.

        Returns
        -------
        dict
            ``rays``, ``pixels``, ``fraction``; with known truth also ``precision`` and ``recall``.
        """
        pixels, groups = self._by_group()
        found = {"rays": int(groups.max()) + 1 if len(groups) else 0, "pixels": len(pixels)}
        found["fraction"] = len(pixels) / self._mask.size
        if self.truth is not None:
            right = int(self.truth.ravel()[pixels].sum())
            known = int(self._known.sum())
            found["precision"] = right / len(pixels) if len(pixels) else float("nan")
            found["recall"] = right / known if known else float("nan")
        return found

    @cached_property
    def _known(self):
        return self.truth & ~self.detection.not_evaluated

    @cached_property
    def scores(self):
        """Scores at every threshold, without dilation and edits, or None without truth."""
        if self.truth is None:
            return None
        scores = PixelScores()
        scores.add(self.detection.prob, self.truth, ~self.detection.not_evaluated)
        return scores

    def histogram(self, bins=60):
        """How many pixels have which probability, in even steps of the slider.

        Returns
        -------
        edges : numpy.ndarray, shape (bins + 1,)
            Positions of the slider.
        counts : numpy.ndarray, shape (bins,)
        """
        p = self._probs.astype(float)
        position = np.where(p < 0.1, np.log10(np.maximum(p, LEAST_PROBABILITY)), (p - 0.1) / 0.45 - 1)
        counts, edges = np.histogram(position, bins=bins, range=(-4, 1))
        return edges, counts

    def largest(self, n=12):
        """The rays with most pixels.

        Returns
        -------
        list of tuple of int
            ``(x, y, pixels)``: middle of the ray's box and its size, the largest first.
        """
        pixels, groups = self._by_group()
        if not len(pixels):
            return []
        sizes = np.bincount(groups)
        chosen = np.argsort(sizes, kind="stable")[::-1][:n]
        rays = []
        for number in chosen:
            y, x = np.divmod(pixels[groups == number], self.shape[1])
            rays.append((int(x.min() + x.max()) // 2, int(y.min() + y.max()) // 2, int(sizes[number])))
        return rays

    def read(self, x, y):
        """What stands at a pixel.

        Returns
        -------
        dict
            ``x``, ``y``, ``value`` (electrons), ``prob``, ``flagged``, ``evaluated``; ``ra`` and ``dec`` (degrees)
            where the header has a celestial WCS. None outside of the frame.
        """
        if not (0 <= x < self.shape[1] and 0 <= y < self.shape[0]):
            return None
        found = {
            "x": int(x),
            "y": int(y),
            "value": float(self.frame.data[y, x]),
            "prob": float(self.detection.prob[y, x]),
        }
        found |= {"flagged": bool(self.mask[y, x]), "evaluated": not bool(self.detection.not_evaluated[y, x])}
        if self._wcs is not None:
            sky = self._wcs.pixel_to_world(x, y)
            found |= {"ra": float(sky.icrs.ra.deg), "dec": float(sky.icrs.dec.deg)}
        return found

    @cached_property
    def _wcs(self):
        try:
            wcs = WCS(self.frame.header)
        except (WcsError, ValueError, KeyError):
            return None
        return wcs if wcs.has_celestial and wcs.naxis == 2 else None

    # --- editing ---

    def brush(self, kind, points, radius):
        """Paint or erase along a stroke.

        Parameters
        ----------
        kind : {"paint", "erase"}
        points : sequence of tuple of int
            ``(x, y)`` of the stroke.
        radius : int
            Of the brush; 0 is one pixel.
        """
        reach = np.arange(-radius, radius + 1)
        dy, dx = (d.ravel() for d in np.meshgrid(reach, reach, indexing="ij"))
        round_ = dy**2 + dx**2 <= (radius + 0.5) ** 2
        dy, dx = dy[round_], dx[round_]
        x, y = (np.array(v, dtype=int)[:, None] for v in zip(*_stroke(points), strict=True))
        x, y = (x + dx).ravel(), (y + dy).ravel()
        inside = (x >= 0) & (x < self.shape[1]) & (y >= 0) & (y < self.shape[0])
        self._record(kind, points[0], np.unique(y[inside] * self.shape[1] + x[inside]))

    def whole_ray(self, kind, x, y):
        """Add the ray at a pixel, or remove it.

        Added are the pixels around it that hang together and have a fifth of its probability; removed, the flagged
        pixels that hang together with it.

        Raises
        ------
        InputError
            When no ray is there to remove, or nothing hints at one to add.
        """
        if not (0 <= x < self.shape[1] and 0 <= y < self.shape[0]):
            raise InputError(f"x = {x}, y = {y}: outside of the frame")
        if kind == "remove ray":
            pixels, groups = self._by_group()
            here = groups[pixels == y * self.shape[1] + x]
            if not len(here):
                raise InputError(f"x = {x}, y = {y}: no ray is flagged here")
            self._record(kind, (x, y), pixels[groups == here[0]])
            return
        least = max(0.2 * float(self.detection.prob[y, x]), LEAST_PROBABILITY)
        candidates = (self.detection.prob > least) & ~self.detection.not_evaluated
        reach = 200
        window = tuple(slice(max(c - reach, 0), c + reach + 1) for c in (y, x))
        labels, _ = ndimage.label(candidates[window], np.ones((3, 3)))
        number = labels[y - window[0].start, x - window[1].start]
        if number == 0:
            raise InputError(f"x = {x}, y = {y}: no ray is hinted at here")
        rows, columns = np.nonzero(labels == number)
        self._record(kind, (x, y), (rows + window[0].start) * self.shape[1] + columns + window[1].start)

    def _record(self, kind, at, pixels):
        if kind in ("paint", "add ray"):
            pixels = pixels[~self.detection.not_evaluated.ravel()[pixels]]
        if len(pixels):
            self.edits.append(Edit(kind, int(at[0]), int(at[1]), pixels))
            self._undone, self._stale = [], True

    def undo(self):
        """Take the last edit back; True if there was one."""
        if not self.edits:
            return False
        self._undone.append(self.edits.pop())
        self._stale = True
        return True

    def redo(self):
        """Make the last edit that was taken back again; True if there was one."""
        if not self._undone:
            return False
        self.edits.append(self._undone.pop())
        self._stale = True
        return True

    # --- keeping ---

    def save(self, path):
        """Write the mask with all that made it; whole or not at all.

        The file holds ``CRMASK`` (bits 1 ray, 2 not evaluated), ``CRPROB``, and ``CREDITS``, a table of the edits.

        Raises
        ------
        InputError
            When a file is there that is no saved mask, such as the frame itself.
        """
        path = Path(path)
        if path.exists() and not _is_saved(path):
            raise InputError(f"{path}: is there, and is no mask that the explorer saved: choose another name")
        primary = fits.PrimaryHDU()
        mask = self.mask
        cards = {
            "CRFRAME": (_ascii(self.frame.name), "what was looked at"),
            "CRMODEL": (self.detection.model, "detector"),
            "CRSHA": self._sha,
            "CRTHRESH": (self.threshold, "probability above which a pixel is flagged"),
            "CRDILATE": (self.dilate, "pixels by which the mask was grown"),
            "CRMINPIX": (self.min_pixels, "smaller groups were dropped"),
            "CREDITED": (len(self.edits), "changes by hand, see CREDITS"),
            "CRNPIX": (int(mask.sum()), "flagged pixels"),
            "CRNOBJ": (self.counts()["rays"], "flagged groups"),
            "CRVER": (results.version(), "crcore"),
        }
        for key, card in cards.items():
            primary.header[key] = card
        bits = dq.bits("crcore", cosmic_ray=mask, not_evaluated=self.detection.not_evaluated)
        rows = [(e.kind, e.x, e.y, len(e.pixels)) for e in self.edits]
        kinds = Table(rows=rows or None, names=("kind", "x", "y", "n_pixels"), dtype=("U10", int, int, int))
        touched = np.concatenate([e.pixels for e in self.edits]) if self.edits else np.zeros(0, dtype=int)
        hdus = fits.HDUList([
            primary,
            fits.CompImageHDU(bits, name="CRMASK"),
            fits.CompImageHDU(self.detection.prob, name="CRPROB", compression_type="GZIP_2", quantize_level=0),
            fits.BinTableHDU(kinds, name="CREDITS"),
            fits.BinTableHDU(Table({"pixel": touched.astype(np.int64)}), name="CRTOUCH"),
        ])  # fmt: skip
        with results.atomic(path) as part:
            hdus.writeto(part, overwrite=True)

    @cached_property
    def _sha(self):
        return (
            zoo.fingerprint(zoo.load(self.detection.model, network=False))
            if self.detection.model in zoo.names()
            else ""
        )

    @classmethod
    def load(cls, path, frame, *, truth=None):
        """Go on from a file of `save`: the same mask, with its threshold and edits.

        Parameters
        ----------
        path : path-like
        frame : crcore.frame.Frame
            The frame that was looked at.
        truth : numpy.ndarray of bool, optional

        Raises
        ------
        InputError
            When the file is no saved mask, or of a frame of another shape.
        """
        try:
            with open_fits(path) as hdus:
                header = hdus[0].header
                bits, prob = np.asarray(hdus["CRMASK"].data), np.asarray(hdus["CRPROB"].data, dtype=np.float32)
                rows, touched = Table(hdus["CREDITS"].data), np.asarray(hdus["CRTOUCH"].data["pixel"], dtype=np.int64)
                threshold, model = float(header["CRTHRESH"]), str(header["CRMODEL"])
                dilate, min_pixels = int(header["CRDILATE"]), int(header["CRMINPIX"])
                name = str(header["CRFRAME"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is no saved mask ({error}): use a file that the explorer has written") from None
        if prob.shape != frame.shape:
            raise InputError(f"{path}: is of {prob.shape} pixels, {frame.name} has {frame.shape}")
        if name != _ascii(frame.name):
            raise InputError(f"{path}: is the mask of {name}, not of {frame.name}")
        detection = Detection(prob, (bits & 2) > 0, threshold, model, frame=frame)
        session = cls(detection, truth=truth)
        session.set(dilate=dilate, min_pixels=min_pixels)
        start = 0
        for row in rows:
            pixels = touched[start : start + row["n_pixels"]]
            session.edits.append(Edit(str(row["kind"]).strip(), int(row["x"]), int(row["y"]), pixels))
            start += row["n_pixels"]
        session._stale = True
        return session

    def save_training(self, folder):
        """Write the frame with the mask as its labels, as ``crcore train -d FOLDER`` reads it; returns the path."""
        ignore = np.where(self.detection.not_evaluated, NO_DATA, 0).astype(np.uint8)[None]
        header = self.frame.header.copy()
        header["LABELS"] = ("hand", f"threshold {self.threshold:g} of {self.detection.model}, {len(self.edits)} edits")
        nothing = Table({"x": np.zeros(0), "y": np.zeros(0)})
        labelled = Sequence(
            self.frame.data[None], self.mask.astype(np.uint8)[None], ignore, (header,), (_ascii(self.frame.name),),
            nothing, {},
        )  # fmt: skip
        stem, number = file_stem(self.frame.name), 1
        path = Path(folder) / "masked_fits" / f"{stem}_1frms_masks.fits"
        while path.exists():  # another night's frame of that name, or an earlier mask: neither is overwritten
            number += 1
            path = path.with_name(f"{stem}-{number}_1frms_masks.fits")
        write_sequence(path, labelled)
        return path


def file_stem(name):
    """Name of a frame without its FITS endings, fit for a file: ``cube.fits[1]`` is ``cube-1``."""
    plain = str(name).replace("[", "-").replace("]", "")
    for ending in (".fits", ".fit", ".fts", ".fz", ".gz"):
        plain = plain.replace(ending, "")
    return Path(plain).name or "frame"


def _ascii(name):
    """As FITS headers can hold it."""
    return str(name).encode("ascii", "backslashreplace").decode()


def _is_saved(path):
    """True for a file that `Session.save` has written."""
    try:
        with open_fits(path) as hdus:
            return "CRTHRESH" in hdus[0].header and "CREDITED" in hdus[0].header
    except (OSError, ValueError, InputError):
        return False


def _stroke(points):
    """All pixels on the way from point to point."""
    whole = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        n = max(abs(x1 - x0), abs(y1 - y0), 1)
        whole += [(round(x0 + (x1 - x0) * k / n), round(y0 + (y1 - y0) * k / n)) for k in range(1, n + 1)]
    return whole


@dataclass(frozen=True)
class Screen:
    """Which part of the frame is seen, and how; makes pictures as uint8 arrays (rows from the top).

    Attributes
    ----------
    width, height : int
        Of a view, in screen pixels.
    x, y : float
        Pixel of the frame in the middle of the views.
    zoom : float
        Screen pixels for one pixel of the frame.
    stretch, interval, colours : str
        Of `STRETCHES`, `INTERVALS`, `COLOUR_MAPS`.
    invert : bool
    """

    width: int = 520
    height: int = 520
    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    stretch: str = "linear"
    interval: str = "zscale"
    colours: str = "gray"
    invert: bool = True

    def fit(self, shape):
        """See the whole frame."""
        zoom = min(self.width / shape[1], self.height / shape[0])
        return replace(self, x=(shape[1] - 1) / 2, y=(shape[0] - 1) / 2, zoom=zoom)

    def zoomed(self, factor, shape, *, at=None):
        """Zoom in or out, keeping the pixel ``at`` (x, y) where it is on the screen."""
        least = min(self.width / shape[1], self.height / shape[0], 1.0) / 2
        zoom = float(np.clip(self.zoom * factor, least, 40))
        if at is None:
            return replace(self, zoom=zoom)
        keep = self.zoom / zoom
        return self.moved(at[0] + (self.x - at[0]) * keep, at[1] + (self.y - at[1]) * keep, shape, zoom=zoom)

    def moved(self, x, y, shape, **changes):
        """Look at another place, inside the frame."""
        x, y = float(np.clip(x, 0, shape[1] - 1)), float(np.clip(y, 0, shape[0] - 1))
        return replace(self, x=x, y=y, **changes)

    def pixel_at(self, column, row):
        """Pixel of the frame (x, y) under a point of the screen, counted from its upper left."""
        x = self.x + (column - (self.width - 1) / 2) / self.zoom
        y = self.y - (row - (self.height - 1) / 2) / self.zoom
        return int(np.floor(x + 0.5)), int(np.floor(y + 0.5))

    def _grid(self, shape):
        """Which row and column of the frame each row and column of the screen shows; -1 outside."""
        x = np.floor(self.x + (np.arange(self.width) - (self.width - 1) / 2) / self.zoom + 0.5).astype(int)
        y = np.floor(self.y - (np.arange(self.height) - (self.height - 1) / 2) / self.zoom + 0.5).astype(int)
        return np.where((y >= 0) & (y < shape[0]), y, -1), np.where((x >= 0) & (x < shape[1]), x, -1)

    def limits(self, session):
        """Values that are black and white, of the whole frame."""
        data = session.frame.data
        step = max(1, int(np.sqrt(data.size / 1e6)))
        part = data[::step, ::step]
        part = part[np.isfinite(part)]
        if part.size == 0:
            return 0.0, 1.0
        low, high = INTERVALS[self.interval].get_limits(part)
        return (float(low), float(high)) if high > low else (float(low), float(low) + 1)

    def image(self, session, limits=None):
        """The frame; uint8, (height, width, 3)."""
        y, x = self._grid(session.shape)
        part = session.frame.data[y][:, x]
        low, high = limits or self.limits(session)
        scaled = ManualInterval(low, high)(np.where(np.isfinite(part), part, low), clip=True)
        index = (STRETCHES[self.stretch](scaled) * 255).astype(np.uint8)
        picture = _lut(self.colours)[255 - index if self.invert else index]
        picture[(y < 0)[:, None] | (x < 0)] = 255
        return picture

    def overlay(self, session, base):
        """The mask over a picture of `image`; where two detectors are compared, both alone and together.

        Flagged is orange, the second detector's alone blue, both black; what was not evaluated is dimmed. Seen from
        afar, every flagged pixel still takes one of the screen's.
        """
        picture = base.copy()
        y, x = self._grid(session.shape)
        outside = (y < 0)[:, None] | (x < 0)
        silent = session.detection.not_evaluated[y][:, x] & ~outside
        picture[silent] = picture[silent] // 2 + _SILENT // 2
        first = self._seen(session.mask)
        if session.second is None:
            picture[first & ~outside] = _FLAGGED
            return picture
        second = self._seen(session.second_mask)
        for where, colour in ((first & ~second, _FLAGGED), (second & ~first, _SECOND), (first & second, _BOTH)):
            picture[where & ~outside] = colour
        return picture

    def _seen(self, mask):
        """Which of the screen's pixels show a flagged one."""
        y, x = self._grid(mask.shape)
        if self.zoom >= 1:
            return mask[y][:, x]
        seen = np.zeros((self.height, self.width), dtype=bool)
        inside = [(v.min(initial=n, where=v >= 0), v.max()) for v, n in ((y, mask.shape[0]), (x, mask.shape[1]))]
        if inside[0][1] < 0 or inside[1][1] < 0:
            return seen
        top, left = inside[0][0], inside[1][0]
        rows, columns = np.nonzero(mask[top : inside[0][1] + 1, left : inside[1][1] + 1])
        row = np.rint((self.height - 1) / 2 - (rows + top - self.y) * self.zoom).astype(int)
        column = np.rint((self.width - 1) / 2 + (columns + left - self.x) * self.zoom).astype(int)
        ok = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        seen[row[ok], column[ok]] = True
        return seen

    def thumbnail(self, session, x, y, limits, *, side=64, span=32):
        """A small picture around a pixel, with its flagged pixels; uint8, (side, side, 3)."""
        small = replace(self, width=side, height=side, x=x, y=y, zoom=side / span)
        return small.overlay(session, small.image(session, limits))


def _lut(name):
    import matplotlib

    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    return np.ascontiguousarray(table)
