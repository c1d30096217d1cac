"""What the explorer's page shows of a session: pictures, thumbnails, numbers, plots, the pixel under the pointer."""

import html

import numpy as np

from crcore.explorer.controls import THUMBNAILS, Controls
from crcore.explorer.plots import Plot, png
from crcore.explorer.screen import Screen
from crcore.explorer.session import to_slider

__all__ = ["Views"]


class Views(Controls):
    """`Controls` that show a session.

    Attributes
    ----------
    session : crcore.explorer.session.Session or None
    screen : crcore.explorer.screen.Screen
    """

    def __init__(self, models, model, size_px):
        super().__init__(models, model, size_px)
        self.session, self.screen = None, Screen(width=size_px, height=size_px)
        self._limits, self._base, self._cursor, self._rays = None, None, None, []
        self._redraw()

    def _redraw(self, *, image=True, strip=True):
        if self.session is None:
            blank = np.full((self.screen.height, self.screen.width, 3), 235, dtype=np.uint8)
            self.left.value = self.right.value = png(blank)
            self.strip.value = png(np.full((64, 64 * THUMBNAILS, 3), 235, dtype=np.uint8))
            self.counts.value = "Open a file."
            return
        if image or self._base is None:
            self._base = self.screen.image(self.session, self._limits)
            self.left.value = png(self._crossed(self._base))
        self._show()
        if strip:
            self._thumbnails()
            self._numbers()

    def _show(self, *, hide=False):
        if self.session is not None and self._base is not None:
            picture = self._base if hide else self.screen.overlay(self.session, self._base)
            self.right.value = png(self._crossed(picture))

    def _crossed(self, picture):
        """With the cursor that the keyboard moves."""
        if self._cursor is None:
            return picture
        picture, screen = picture.copy(), self.screen
        column = round((self._cursor[0] - screen.x) * screen.zoom + (screen.width - 1) / 2)
        row = round((screen.y - self._cursor[1]) * screen.zoom + (screen.height - 1) / 2)
        for reach in range(6, 13):
            for r, c in ((row - reach, column), (row + reach, column), (row, column - reach), (row, column + reach)):
                if 0 <= r < screen.height and 0 <= c < screen.width:
                    picture[r, c] = (213, 94, 0)
        return picture

    def _thumbnails(self):
        self._rays = self.session.largest(THUMBNAILS)
        strip = np.full((64, 64 * THUMBNAILS, 3), 235, dtype=np.uint8)
        for k, (x, y, _) in enumerate(self._rays):
            strip[:, 64 * k : 64 * k + 62] = self.screen.thumbnail(self.session, x, y, self._limits, side=64)[:, :62]
        self.strip.value = png(strip)

    def _numbers(self):
        counts = self.session.counts()
        text = (
            f"<b>{counts['rays']}</b> rays, <b>{counts['pixels']}</b> pixels, {100 * counts['fraction']:.4f} %; "
            f"threshold {self.session.threshold:.4g}"
        )
        if "precision" in counts:
            text += f"<br>precision {counts['precision']:.3f}, recall {counts['recall']:.3f}"
        if self.session.second is not None:
            first, second = self.session.mask, self.session.second_mask
            both = int((first & second).sum())
            one, two = html.escape(self.session.detection.model), html.escape(self.second.value)
            text += f"<br>both {both} px (black), only {one} {counts['pixels'] - both} (orange), "
            text += f"only {two} {int(second.sum()) - both} (blue)"
        self.counts.value = text
        self._mark()

    # --- plots: drawn once for a detection, and the threshold put on them ---

    def _plots(self):
        edges, counts = self.session.histogram()
        self._histogram = Plot(330, 130, "probability", "pixels")
        self._histogram.axes.stairs(np.maximum(counts, 0.7), edges, fill=True, color="#0072B2", baseline=0.7)
        ticks = [1e-4, 1e-3, 1e-2, 0.1, 0.5, 1]
        self._histogram.axes.set_xticks([to_slider(t) for t in ticks], [f"{t:g}" for t in ticks])
        self._histogram.axes.set(yscale="log", xlim=(-4, 1))
        self._histogram.draw()
        self._curve = None
        scores = self.session.scores
        if scores is not None and scores.positives:
            precision, recall = scores.precision_recall()
            self._curve = Plot(330, 180, "recall", "precision")
            self._curve.axes.plot(recall, precision, color="#0072B2")
            self._curve.axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
            self._curve.draw()

    def _mark(self):
        position = to_slider(self.session.threshold)
        self.histogram.value = self._histogram.with_line(position)
        if self._curve is not None:
            counts = self.session.counts()
            self.curve.value = self._curve.with_point(counts["recall"], counts["precision"])
        self.curve.layout.display = "none" if self._curve is None else ""

    def _tell(self, x, y):
        found = self.session.read(x, y)
        if found is None:
            return
        text = f"x {found['x']}, y {found['y']}: {found['value']:.1f} e⁻, probability {found['prob']:.4f}"
        text += ", flagged" if found["flagged"] else ""
        text += "" if found["evaluated"] else ", not evaluated"
        if "ra" in found:
            text += f"; RA {found['ra']:.6f}°, Dec {found['dec']:+.6f}°"
        self.readout.value = text
