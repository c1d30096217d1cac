"""The threshold explorer for notebooks and the browser: `explore`, widgets around `crcore.explorer`."""

import io
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from astropy.io import fits
from ipyevents import Event
from IPython.display import Javascript
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Picture

from crcore import zoo
from crcore.contenders import DOMAINS
from crcore.detection import Detection, NetworkDetector
from crcore.errors import InputError
from crcore.explorer import (
    COLOUR_MAPS,
    INTERVALS,
    STRETCHES,
    Screen,
    Session,
    file_stem,
    from_slider,
    to_slider,
)
from crcore.fits_input import open_fits, readable
from crcore.frame import Frame, as_frame
from crcore.rivals import AstroScrappy, ReleasedCosmicConn, ReleasedDeepCR

__all__ = ["UPLOAD_LIMIT", "Explorer", "explore"]

#: larger files are opened by their path, not uploaded
UPLOAD_LIMIT = 400_000_000

TOOLS = ("look", "paint", "erase", "add ray", "remove ray")
THUMBNAILS = 10

_KEYS = (
    "<b>Keys</b>, with the pointer on a view: arrows move, + and - zoom, 0 shows all, W A S D move the cursor, Enter "
    "uses the tool there, N and P the next and previous ray, B blinks, U and R undo and redo."
)
#: the page refuses a file that is too large before it is sent: the connection would break
_GUARD = """
if (!window.crcoreGuard) {
  window.crcoreGuard = true;
  const click = HTMLInputElement.prototype.click;
  HTMLInputElement.prototype.click = function () {  // the upload's input stands outside of the page
    if (this.type === "file" && !this.isConnected) {
      this.style.display = "none";
      document.body.appendChild(this);
    }
    return click.call(this);
  };
  document.addEventListener("change", function (event) {
    const input = event.target;
    if (input.type === "file" && input.files.length && input.files[0].size > LIMIT) {
      event.stopImmediatePropagation();
      input.value = "";
      const place = document.querySelector(".crcore-message .widget-html-content");
      if (place) place.textContent = "The file is too large to upload (more than LIMIT bytes): open it by its path.";
    }
  }, true);
}
"""


def explore(image=None, *, model=zoo.DEFAULT_MODEL, truth=None, **options):
    """Tune and edit the mask of one exposure by eye.

    Parameters
    ----------
    image : array-like, path, `astropy.nddata.CCDData`, `crcore.frame.Frame` or None
        What `crcore.detect` takes; without it, a file is chosen in the page.
    model : str, optional
        Name of the model to begin with.
    truth : array-like of bool, optional
        Known rays, (H, W): precision and recall are shown live.
    **options
        ``gain``, ``read_noise``, ``saturation``, ``bad``, ``ext`` as in `crcore.detect`.

    Returns
    -------
    ipywidgets.Widget
        To be shown in JupyterLab, Notebook 7 or Voilà.
    """
    page = Explorer(model=model)
    if image is not None:
        if isinstance(image, str | Path) and not options and truth is None:
            page.open_path(image, wait=True)
        else:
            page.open_frame(as_frame(image, **options), truth=truth, wait=True)
    return page.page


def detectors():
    """Everything that a frame can be looked at with: name to a function that makes the detector."""
    makers = {name: lambda name=name: NetworkDetector(name) for name in zoo.names()}
    makers |= {
        f"Cosmic-CoNN {m} (released)": lambda m=m: ReleasedCosmicConn(m) for m in dict.fromkeys(DOMAINS.values())
    }
    makers["deepCR ACS-WFC (released)"] = ReleasedDeepCR
    makers["Astro-SCRAPPY"] = AstroScrappy
    return makers


def planes(path):
    """Number of planes of a file's first image, or 1 where it is a single image or there is none."""
    with readable(path), open_fits(path) as hdus:
        for hdu in hdus:
            if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2:
                return int(hdu.header.get("NAXIS3", 1)) if hdu.header["NAXIS"] == 3 else 1
    return 1


def read_plane(path, plane):
    """One plane of a cube as a frame."""
    with readable(path), open_fits(path) as hdus:
        hdu = next(h for h in hdus if h.is_image and h.header.get("NAXIS", 0) == 3)
        header = hdu.header.copy(strip=True)
        data = np.array(hdu.data[plane])
    frame = as_frame(fits.HDUList([fits.PrimaryHDU(data, header)]))
    return replace(frame, name=f"{Path(path).name}[{plane}]")


class Explorer:
    """The page: `crcore.explorer.Session` and `Screen` behind widgets.

    Attributes
    ----------
    page : ipywidgets.Widget
    session : crcore.explorer.Session or None
    screen : crcore.explorer.Screen
    moves : list of float
        Seconds from a change of the threshold to both pictures, as the kernel sees it.
    """

    def __init__(self, *, model=zoo.DEFAULT_MODEL, size_px=440):
        self.session, self.truth, self.frame, self.path = None, None, None, None
        self.screen, self.moves = Screen(width=size_px, height=size_px), []
        self._limits, self._cursor, self._stroke, self._last, self._shown = None, None, [], None, 0
        self._makers, self._made, self._busy = detectors(), {}, threading.Lock()
        self._controls(model)
        self._layout()
        self._listen()
        self._redraw()

    # --- widgets ---

    def _controls(self, model):
        wide = {"description_width": "110px"}
        long = widgets.Layout(width="330px")
        self.file = widgets.Text(
            description="File", placeholder="path of a FITS file", layout=widgets.Layout(width="420px")
        )
        self.open = widgets.Button(description="Open", tooltip="Open the file at this path")
        self.upload = widgets.FileUpload(description="Upload", accept=".fits,.fit,.fts,.fz,.gz", multiple=False)
        self.plane = widgets.BoundedIntText(description="Plane", min=0, max=0, layout=widgets.Layout(width="170px"))
        self.plane_box = widgets.HBox([self.plane], layout=widgets.Layout(display="none"))
        self.model = widgets.Dropdown(
            description="Model", options=list(self._makers), value=model, style=wide, layout=long
        )
        self.second = widgets.Dropdown(
            description="Compare with", options=["none", *self._makers], value="none", style=wide, layout=long
        )
        self.progress = widgets.FloatProgress(
            description="Detecting", max=1.0, layout=widgets.Layout(visibility="hidden")
        )
        self.message = widgets.HTML()
        self.message.add_class("crcore-message")
        self.threshold = widgets.FloatSlider(
            description="Threshold",
            min=-4,
            max=1,
            step=0.01,
            value=to_slider(0.5),
            readout=False,
            style=wide,
            layout=long,
        )
        self.exact = widgets.BoundedFloatText(
            description="Probability", min=0, max=1, step=0.001, value=0.5, style=wide, layout=long
        )
        self.dilate = widgets.IntSlider(description="Dilation (px)", min=0, max=8, style=wide, layout=long)
        self.least = widgets.IntSlider(description="Smallest (px)", min=1, max=20, style=wide, layout=long)
        self.stretch = widgets.Dropdown(description="Scale", options=list(STRETCHES), style=wide, layout=long)
        self.interval = widgets.Dropdown(description="Limits", options=list(INTERVALS), style=wide, layout=long)
        self.colours = widgets.Dropdown(description="Colours", options=list(COLOUR_MAPS), style=wide, layout=long)
        self.invert = widgets.Checkbox(description="Invert", value=True, indent=False)
        self.blink = widgets.ToggleButton(description="Blink", tooltip="Show and hide the mask in turn (B)")
        self.ticker = widgets.Play(min=0, max=1_000_000, interval=600, layout=widgets.Layout(display="none"))
        self.tool = widgets.ToggleButtons(description="Tool", options=TOOLS, style={"button_width": "88px"})
        self.radius = widgets.IntSlider(description="Brush (px)", min=0, max=10, value=1, style=wide, layout=long)
        self.undo = widgets.Button(description="Undo", tooltip="Take the last edit back (U)")
        self.redo = widgets.Button(description="Redo", tooltip="Make it again (R)")
        self.target = widgets.Text(description="Save as", style=wide, layout=long)
        self.save = widgets.Button(description="Save mask", tooltip="Mask, probabilities and edits as FITS")
        self.teach = widgets.Button(description="Save for training", tooltip="As labels, for crcore train")
        self.reload = widgets.Button(description="Load mask", tooltip="Go on from a file that was saved here")
        self.all = widgets.Button(description="Whole frame", tooltip="Show all (0)")
        self.nearer = widgets.Button(description="Zoom in", tooltip="(+)")
        self.farther = widgets.Button(description="Zoom out", tooltip="(-)")
        self.before = widgets.Button(description="Previous ray", tooltip="(P)")
        self.after = widgets.Button(description="Next ray", tooltip="(N)")
        size = {"width": f"{self.screen.width}px", "height": f"{self.screen.height}px"}
        size |= {"flex": "0 0 auto", "margin": "2px"}
        self.left, self.right = (widgets.Image(format="png", layout=widgets.Layout(**size)) for _ in range(2))
        self.left.add_class("crcore-image")
        self.right.add_class("crcore-mask")
        strip = widgets.Layout(width=f"{64 * THUMBNAILS}px", height="64px")
        self.strip = widgets.Image(format="png", layout=strip)
        self.strip.add_class("crcore-rays")
        self.histogram, self.curve = (
            widgets.Image(format="png", layout=widgets.Layout(width="330px")) for _ in range(2)
        )
        self.counts, self.readout = widgets.HTML(), widgets.HTML("Move the pointer over a view.")
        self.counts.add_class("crcore-counts")
        self.readout.add_class("crcore-readout")

    def _layout(self):
        row, column = widgets.HBox, widgets.VBox
        files = row([self.file, self.open, self.upload, self.plane_box, self.progress])
        views = row([self.left, self.right])
        moving = row(
            [self.all, self.nearer, self.farther, self.before, self.after, self.blink, self.invert, self.ticker]
        )
        tools = row([self.tool, self.undo, self.redo])
        keeping = row([self.target, self.save, self.reload, self.teach])
        side = column([
            self.model, self.second, self.threshold, self.exact, self.dilate, self.least, self.counts, self.histogram,
            self.stretch, self.interval, self.colours, self.radius, self.curve,
        ])  # fmt: skip
        for box in (views, side):
            box.layout.overflow, box.layout.flex = "visible", "0 0 auto"
        keys = widgets.HTML(_KEYS, layout=widgets.Layout(max_width=f"{2 * self.screen.width}px"))
        main = column([views, self.readout, self.strip, moving, tools, keeping, keys])
        main.layout = widgets.Layout(width=f"{2 * self.screen.width + 20}px", flex="0 0 auto", overflow="visible")
        side.layout.width = "345px"
        for box in (moving, tools, keeping):
            for button in (b for b in box.children if isinstance(b, widgets.Button | widgets.ToggleButton)):
                button.layout.width = "115px"
        guard = widgets.Output(layout=widgets.Layout(display="none"))
        guard.append_display_data(Javascript(_GUARD.replace("LIMIT", str(UPLOAD_LIMIT))))
        self.page = column([files, self.message, row([main, side]), guard])

    def _listen(self):
        self.open.on_click(lambda _: self.open_path(self.file.value))
        self.upload.observe(self._uploaded, "value")
        self.plane.observe(lambda _: self._open_plane(), "value")
        for widget in (self.model, self.second):
            widget.observe(lambda _: self._detect(), "value")
        self.threshold.observe(lambda change: self._tune(from_slider(change["new"])), "value")
        self.exact.observe(lambda change: self._tune(change["new"]), "value")
        for widget in (self.dilate, self.least):
            widget.observe(lambda _: self._tune(self.exact.value), "value")
        for widget in (self.stretch, self.interval, self.colours, self.invert):
            widget.observe(lambda _: self._restyle(), "value")
        self.blink.observe(self._blinking, "value")
        self.ticker.observe(lambda change: self._show(hide=bool(change["new"] % 2)), "value")
        self.undo.on_click(lambda _: self._edit(lambda s: s.undo() or self._say("Nothing to undo.")))
        self.redo.on_click(lambda _: self._edit(lambda s: s.redo() or self._say("Nothing to redo.")))
        self.save.on_click(lambda _: self._keep())
        self.teach.on_click(lambda _: self._teach())
        self.reload.on_click(lambda _: self._reload())
        self.all.on_click(lambda _: self._move(fit=True))
        self.nearer.on_click(lambda _: self._move(zoom=1.5))
        self.farther.on_click(lambda _: self._move(zoom=1 / 1.5))
        self.before.on_click(lambda _: self._next(-1))
        self.after.on_click(lambda _: self._next(1))
        watched = ["mousedown", "mousemove", "mouseup", "mouseleave", "wheel", "keydown", "dragstart"]
        self._events = []
        for view in (self.left, self.right):
            event = Event(
                source=view,
                watched_events=watched,
                prevent_default_action=True,
                wait=30,
                throttle_or_debounce="throttle",
            )
            event.on_dom_event(self._guarded(self._on_view))
            self._events.append(event)
        event = Event(source=self.strip, watched_events=["click"])
        event.on_dom_event(self._guarded(self._on_strip))
        self._events.append(event)

    def _guarded(self, function):
        """Whatever goes wrong is told in the page, which goes on."""

        def call(*args):
            try:
                return function(*args)
            except InputError as error:
                self._say(str(error))
            except Exception as error:
                self._say(f"{type(error).__name__}: {error}")
            return None

        return call

    def _say(self, text):
        self.message.value = "" if not text else f"<b>{_escaped(text)}</b>"

    # --- files and detection ---

    def open_path(self, path, *, wait=False):
        """Open a FITS file; what is wrong with it is told in the page."""

        def work():
            place = Path(str(path)).expanduser()
            n = planes(place)
            plane = min(self.plane.value, n - 1)
            frame = Frame.read(place) if n == 1 else read_plane(place, plane)
            self.open_frame(frame, wait=wait, quiet=n > 1, path=place)
            self.file.value = str(path)
            self.plane_box.layout.display = "none" if n == 1 else ""
            if n > 1:
                self.plane.max = n - 1
                self._say(f"{place.name} is a cube of {n} planes: choose one. This is plane {plane}.")

        return self._guarded(work)()

    def _open_plane(self):
        if self.path is not None and self.plane_box.layout.display != "none":
            self.open_path(self.path)

    def _uploaded(self, change):
        @self._guarded
        def work():
            if not change["new"]:
                return
            item = change["new"][0]
            if item["size"] > UPLOAD_LIMIT:
                raise InputError(
                    f"{item['name']}: {item['size'] / 1e6:.0f} MB is too large to upload: open it by its path"
                )
            with tempfile.TemporaryDirectory() as folder:  # the copy is gone as soon as it has been read
                path = Path(folder) / Path(item["name"]).name
                path.write_bytes(bytes(item["content"]))
                n = planes(path)
                if n > 1:
                    raise InputError(f"{path.name} is a cube of {n} planes: open it by its path, and choose one")
                self.plane_box.layout.display = "none"
                self.open_frame(Frame.read(path))

        work()

    def open_frame(self, frame, *, truth=None, wait=False, quiet=False, path=None):
        """Look at a frame, of the file ``path`` where it has one."""
        if (frame.bad | frame.saturated).all():
            raise InputError(f"{frame.name}: every pixel is bad, saturated or not a number: nothing to look at")
        self.frame, self.truth = frame, None if truth is None else np.asarray(truth, dtype=bool)
        self.screen = self.screen.fit(frame.shape)
        self.session, self._cursor, self.path = None, None, path
        self.target.value = f"{file_stem(frame.name)}_mask.fits"
        if not quiet:
            self._say("")
        self._detect(wait=wait)

    def _detect(self, *, wait=False):
        if self.frame is None:
            return
        thread = threading.Thread(target=self._guarded(self._look), args=(self.frame,), daemon=True)
        thread.start()
        if wait:
            thread.join()

    def _look(self, frame):
        """Run the chosen detectors, beside the page."""
        with self._busy:
            self.progress.value, self.progress.layout.visibility = 0.0, "visible"
            try:
                found = self._found(self.model.value, frame, 0.0)
                second = None if self.second.value == "none" else self._found(self.second.value, frame, 0.5)
            finally:
                self.progress.layout.visibility = "hidden"
            if frame is not self.frame:
                return  # another file was opened meanwhile
            before = self.session
            if before is not None and before.detection.model == found.model:  # only the other detector has changed
                session = before.with_second(second)
            else:
                session = Session(found, truth=self.truth, second=second)
                if before is not None:  # what was done by hand is not lost
                    session.take_over(before)
            self._start(session)

    def _found(self, name, frame, begun):
        if name not in self._made:
            self._made[name] = self._makers[name]()
        detector, share = self._made[name], 1.0 if self.second.value == "none" else 0.5

        def tell(done):
            self.progress.value = begun + share * done

        if isinstance(detector, NetworkDetector):
            return detector(frame, progress=tell)
        found = detector(frame)
        return Detection(found.prob, found.not_evaluated, found.threshold, name, frame=frame)

    def _start(self, session):
        self.session = session
        self._limits, self._shown = self.screen.limits(session), 0
        self._plots()
        self._sync()
        self._redraw()

    def _sync(self):
        """Widgets say what the session says."""
        self._syncing = True
        self.threshold.value, self.exact.value = to_slider(self.session.threshold), round(self.session.threshold, 6)
        self.dilate.value, self.least.value = self.session.dilate, self.session.min_pixels
        self._syncing = False

    _syncing = False

    # --- tuning and looking ---

    def _tune(self, threshold):
        if self.session is None or self._syncing:
            return
        begun = time.perf_counter()
        self.session.set(threshold=threshold, dilate=self.dilate.value, min_pixels=self.least.value)
        self._sync()
        self._redraw(image=False)
        self.moves.append(time.perf_counter() - begun)

    def _restyle(self):
        self.screen = replace(
            self.screen, stretch=self.stretch.value, interval=self.interval.value, colours=self.colours.value,
            invert=self.invert.value,
        )  # fmt: skip
        if self.session is not None:
            self._limits = self.screen.limits(self.session)
        self._redraw()

    def _move(self, x=None, y=None, *, zoom=None, fit=False, at=None):
        if self.session is None:
            return
        shape = self.session.shape
        if fit:
            self.screen = self.screen.fit(shape)
        elif zoom is not None:
            self.screen = self.screen.zoomed(zoom, shape, at=at)
        else:
            self.screen = self.screen.moved(x, y, shape)
        self._redraw(strip=False)

    def _next(self, step):
        rays = [] if self.session is None else self.session.largest(THUMBNAILS)
        if not rays:
            self._say("No ray is flagged at this threshold.")
            return
        self._shown = (self._shown + step) % len(rays)
        self._visit(*rays[self._shown][:2])

    def _visit(self, x, y):
        self._cursor = (x, y)
        self.screen = replace(self.screen, zoom=max(self.screen.zoom, 6.0))
        self._move(x, y)
        self._tell(x, y)

    def _redraw(self, *, image=True, strip=True):
        if self.session is None:
            blank = np.full((self.screen.height, self.screen.width, 3), 235, dtype=np.uint8)
            self.left.value = self.right.value = _png(blank)
            self.strip.value = _png(np.full((64, 64 * THUMBNAILS, 3), 235, dtype=np.uint8))
            self.counts.value = "Open a file."
            return
        if image or self._base is None:
            self._base = self.screen.image(self.session, self._limits)
            self.left.value = _png(self._crossed(self._base))
        self._show()
        if strip:
            self._thumbnails()
            self._numbers()

    _base = None

    def _show(self, *, hide=False):
        if self.session is not None and self._base is not None:
            picture = self._base if hide else self.screen.overlay(self.session, self._base)
            self.right.value = _png(self._crossed(picture))

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
        self.strip.value = _png(strip)

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
            text += (
                f"<br>both {both} px (black), only {_escaped(self.session.detection.model)} {counts['pixels'] - both} "
            )
            text += f"(orange), only {_escaped(self.second.value)} {int(second.sum()) - both} (blue)"
        self.counts.value = text
        self._mark()

    # --- plots: drawn once for a detection, and the threshold put on them ---

    def _plots(self):
        edges, counts = self.session.histogram()
        self._histogram = _Plot(330, 130, "probability", "pixels")
        self._histogram.axes.stairs(np.maximum(counts, 0.7), edges, fill=True, color="#0072B2", baseline=0.7)
        ticks = [1e-4, 1e-3, 1e-2, 0.1, 0.5, 1]
        self._histogram.axes.set_xticks([to_slider(t) for t in ticks], [f"{t:g}" for t in ticks])
        self._histogram.axes.set(yscale="log", xlim=(-4, 1))
        self._histogram.draw()
        self._curve = None
        scores = self.session.scores
        if scores is not None and scores.positives:
            precision, recall = scores.precision_recall()
            self._curve = _Plot(330, 180, "recall", "precision")
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

    # --- mouse and keyboard ---

    def _place(self, event):
        return self.screen.pixel_at(
            event.get("dataX", event.get("relativeX", 0)), event.get("dataY", event.get("relativeY", 0))
        )

    def _on_view(self, event):
        if self.session is None:
            return
        kind = event["type"] if "type" in event else event.get("event")
        if kind == "keydown":
            self._on_key(event)
            return
        here = self._place(event)
        if kind == "wheel":
            self._move(zoom=1.25 if event.get("deltaY", 0) < 0 else 0.8, at=here)
        elif kind == "mousedown":
            self._last, self._stroke = (event["dataX"], event["dataY"]), [here]
        elif kind == "mousemove" and event.get("buttons") and self._last is not None:
            if self.tool.value == "look":
                column, row = event["dataX"] - self._last[0], event["dataY"] - self._last[1]
                self._last = (event["dataX"], event["dataY"])
                self._move(self.screen.x - column / self.screen.zoom, self.screen.y + row / self.screen.zoom)
            else:
                self._stroke.append(here)
        elif kind in ("mouseup", "mouseleave") and self._last is not None:
            self._last = None
            if kind == "mouseup" and here != self._stroke[-1]:
                self._stroke.append(here)
            self._use(self._stroke)
        self._tell(*here)

    def _use(self, points):
        """Apply the tool along a stroke, or at its first point."""
        tool = self.tool.value
        if tool in ("paint", "erase"):
            self._edit(lambda s: s.brush(tool, points, self.radius.value))
        elif tool != "look":
            self._edit(lambda s: s.whole_ray(tool, *points[0]))

    def _edit(self, change):
        if self.session is None:
            return

        @self._guarded
        def work():
            self._say("")
            change(self.session)

        work()
        self._redraw(image=False)

    def _on_key(self, event):
        key, step = event.get("key", ""), 40 / self.screen.zoom
        arrows = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, 1), "ArrowDown": (0, -1)}
        cursor = {"a": (-1, 0), "d": (1, 0), "w": (0, 1), "s": (0, -1)}
        if key in arrows:
            self._move(self.screen.x + arrows[key][0] * step, self.screen.y + arrows[key][1] * step)
        elif key in ("+", "=", "-", "0"):
            self._move(fit=key == "0", zoom={"-": 1 / 1.5}.get(key, 1.5))
        elif key.lower() in cursor:
            dx, dy = cursor[key.lower()]
            x, y = self._cursor or (round(self.screen.x), round(self.screen.y))
            self._cursor = (x + dx, y + dy)
            self._redraw(strip=False)
            self._tell(*self._cursor)
        elif key == "Enter" and self._cursor is not None:
            self._use([self._cursor])
        elif key.lower() in ("n", "p"):
            self._next(1 if key.lower() == "n" else -1)
        elif key.lower() == "b":
            self.blink.value = not self.blink.value
        elif key.lower() in ("u", "r"):
            (self.undo if key.lower() == "u" else self.redo).click()

    def _on_strip(self, event):
        number = int(event["dataX"]) // 64
        if self.session is not None and number < len(self._rays):
            self._shown = number
            self._visit(*self._rays[number][:2])

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

    def _blinking(self, change):
        self.ticker.playing = bool(change["new"])
        if not change["new"]:
            self._show()

    # --- keeping ---

    def _keep(self):
        @self._guarded
        def work():
            if self.session is None:
                raise InputError("nothing is open")
            target = Path(self.target.value).expanduser()
            if self.path is not None and target.exists() and target.samefile(self.path):
                raise InputError(f"{target}: is the frame itself: choose another name")
            self.session.save(target)
            self._say(f"Saved: {target} ({int(self.session.mask.sum())} pixels, {len(self.session.edits)} edits).")

        work()

    def _teach(self):
        @self._guarded
        def work():
            if self.session is None:
                raise InputError("nothing is open")
            path = self.session.save_training(Path(self.target.value).expanduser().parent / "training")
            learn = f"'crcore train RECIPE.yaml -d {path.parent.parent}' learns from five or more such frames"
            self._say(f"Saved: {path}; {learn}.")

        work()

    def _reload(self):
        @self._guarded
        def work():
            if self.frame is None:
                raise InputError("open the frame first, then its mask")
            path = Path(self.target.value).expanduser()
            second = None if self.session is None else self.session.second
            self._start(Session.load(path, self.frame, truth=self.truth).with_second(second))
            self._say(f"Loaded: {path} ({int(self.session.mask.sum())} pixels, {len(self.session.edits)} edits).")

        work()


class _Plot:
    """A small plot as pixels, on which a line or a point is put without drawing it anew."""

    def __init__(self, width, height, xlabel, ylabel):
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.subplots()
        self.axes.set_xlabel(xlabel, fontsize=7)
        self.axes.set_ylabel(ylabel, fontsize=7)
        self.axes.tick_params(labelsize=6)

    def draw(self):
        self.figure.canvas.draw()
        self._pixels = np.asarray(self.figure.canvas.buffer_rgba())[..., :3].copy()

    def _at(self, x, y):
        column, up = self.axes.transData.transform((x, y))
        return int(np.clip(column, 0, self._pixels.shape[1] - 1)), int(self._pixels.shape[0] - 1 - up)

    def with_line(self, x):
        picture = self._pixels.copy()
        box = self.axes.get_window_extent()
        column, _ = self._at(x, 1)
        rows = slice(int(picture.shape[0] - box.y1), int(picture.shape[0] - box.y0))
        picture[rows, max(column - 1, 0) : column + 1] = (213, 94, 0)
        return _png(picture)

    def with_point(self, x, y):
        picture = self._pixels.copy()
        if np.isfinite(x) and np.isfinite(y):
            column, row = self._at(x, y)
            picture[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = (213, 94, 0)
        return _png(picture)


def _png(picture):
    stream = io.BytesIO()
    Picture.fromarray(picture).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _escaped(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
