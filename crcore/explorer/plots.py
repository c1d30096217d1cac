"""Small plots that follow a threshold without being drawn anew."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Picture

__all__ = ["Plot", "png"]


class Plot:
    """A small plot as pixels, on which a line or a point is put without drawing it anew."""

    def __init__(self, width, height, xlabel, ylabel):
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.subplots()
        self.axes.set_xlabel(xlabel, fontsize=7)
        self.axes.set_ylabel(ylabel, fontsize=7)
        self.axes.tick_params(labelsize=6)

    def draw(self):
        """Make its pixels, once."""
        self.figure.canvas.draw()
        self._pixels = np.asarray(self.figure.canvas.buffer_rgba())[..., :3].copy()

    def _at(self, x, y):
        column, up = self.axes.transData.transform((x, y))
        return int(np.clip(column, 0, self._pixels.shape[1] - 1)), int(self._pixels.shape[0] - 1 - up)

    def with_line(self, x):
        """PNG with a line at ``x``."""
        picture = self._pixels.copy()
        box = self.axes.get_window_extent()
        column, _ = self._at(x, 1)
        rows = slice(int(picture.shape[0] - box.y1), int(picture.shape[0] - box.y0))
        picture[rows, max(column - 1, 0) : column + 1] = (213, 94, 0)
        return png(picture)

    def with_point(self, x, y):
        """PNG with a point at ``(x, y)``, none where they are no numbers."""
        picture = self._pixels.copy()
        if np.isfinite(x) and np.isfinite(y):
            column, row = self._at(x, y)
            picture[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = (213, 94, 0)
        return png(picture)


def png(picture):
    """A picture (H, W, 3) uint8 as the bytes of a PNG."""
    stream = io.BytesIO()
    Picture.fromarray(picture).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
