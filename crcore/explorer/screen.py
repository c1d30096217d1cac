"""What is seen of a session: pictures as arrays, in the manner of SAOImage DS9."""

from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from astropy.visualization import (
    AsinhStretch,
    LinearStretch,
    LogStretch,
    ManualInterval,
    PercentileInterval,
    SqrtStretch,
    ZScaleInterval,
)

__all__ = ["COLOUR_MAPS", "INTERVALS", "STRETCHES", "Screen"]

STRETCHES = {"linear": LinearStretch(), "asinh": AsinhStretch(0.1), "log": LogStretch(1000), "sqrt": SqrtStretch()}
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
    """256 colours of a map; uint8, (256, 3)."""
    return np.ascontiguousarray(matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3])
