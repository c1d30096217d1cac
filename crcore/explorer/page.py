"""The explorer's page for notebooks and the browser: what its widgets do; `explore`."""

import html
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ipyevents import Event

from crcore import zoo
from crcore.detection import Detection, NetworkDetector
from crcore.errors import InputError
from crcore.explorer.controls import THUMBNAILS, UPLOAD_LIMIT
from crcore.explorer.opening import detectors, planes, read_plane
from crcore.explorer.saved import load_mask, save_mask, save_training
from crcore.explorer.session import Session, from_slider, to_slider
from crcore.explorer.views import Views
from crcore.fits_input import fits_stem
from crcore.frame import Frame, as_frame

__all__ = ["Explorer", "explore"]


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


class Explorer(Views):
    """The page: what its widgets do with a session.

    Attributes
    ----------
    moves : list of float
        Seconds from a change of the threshold to both pictures, as the kernel sees it.
    """

    def __init__(self, *, model=zoo.DEFAULT_MODEL, size_px=440):
        self.truth, self.frame, self.path, self.moves = None, None, None, []
        self._stroke, self._last, self._shown, self._syncing = [], None, 0, False
        self._makers, self._made, self._busy = detectors(), {}, threading.Lock()
        super().__init__(list(self._makers), model, size_px)
        self._listen()

    def _listen(self):
        self.open.on_click(lambda _: self.open_path(self.file.value))
        self.upload.observe(self._guarded(self._uploaded), "value")
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
        for button, does in ((self.save, self._keep), (self.teach, self._teach), (self.reload, self._reload)):
            button.on_click(self._guarded(lambda _, does=does: does()))
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
        self.message.value = "" if not text else f"<b>{html.escape(text)}</b>"

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
        if not change["new"]:
            return
        item = change["new"][0]
        if item["size"] > UPLOAD_LIMIT:
            raise InputError(f"{item['name']}: {item['size'] / 1e6:.0f} MB is too large to upload: open it by its path")
        with tempfile.TemporaryDirectory() as folder:  # the copy is gone as soon as it has been read
            path = Path(folder) / Path(item["name"]).name
            path.write_bytes(bytes(item["content"]))
            n = planes(path)
            if n > 1:
                raise InputError(f"{path.name} is a cube of {n} planes: open it by its path, and choose one")
            self.plane_box.layout.display = "none"
            self.open_frame(Frame.read(path))

    def open_frame(self, frame, *, truth=None, wait=False, quiet=False, path=None):
        """Look at a frame, of the file ``path`` where it has one."""
        if (frame.bad | frame.saturated).all():
            raise InputError(f"{frame.name}: every pixel is bad, saturated or not a number: nothing to look at")
        self.frame, self.truth = frame, None if truth is None else np.asarray(truth, dtype=bool)
        self.screen = self.screen.fit(frame.shape)
        self.session, self._cursor, self.path = None, None, path
        self.target.value = f"{fits_stem(frame.name)}_mask.fits"
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
                before = self.session
                same = before is not None and before.detection.model == self.model.value
                found = before.detection if same else self._found(self.model.value, frame, 0.0)
                second = None if self.second.value == "none" else self._found(self.second.value, frame, 0.5)
            finally:
                self.progress.layout.visibility = "hidden"
            if frame is not self.frame:
                return  # another file was opened meanwhile
            if same:  # only the other detector has changed
                self._start(before.with_second(second))
                return
            session = Session(found, truth=self.truth, second=second)
            if before is not None:  # what was done by hand is not lost
                session.take_over(self.session)
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

        self._say("")
        self._guarded(change)(self.session)
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

    def _blinking(self, change):
        self.ticker.playing = bool(change["new"])
        if not change["new"]:
            self._show()

    # --- keeping ---

    def _keep(self):
        if self.session is None:
            raise InputError("nothing is open")
        target = Path(self.target.value).expanduser()
        if self.path is not None and target.exists() and target.samefile(self.path):
            raise InputError(f"{target}: is the frame itself: choose another name")
        save_mask(self.session, target)
        self._say(f"Saved: {target} ({int(self.session.mask.sum())} pixels, {len(self.session.edits)} edits).")

    def _teach(self):
        if self.session is None:
            raise InputError("nothing is open")
        path = save_training(self.session, Path(self.target.value).expanduser().parent / "training")
        learn = f"'crcore train RECIPE.yaml -d {path.parent.parent}' learns from five or more such frames"
        self._say(f"Saved: {path}; {learn}.")

    def _reload(self):
        if self.frame is None:
            raise InputError("open the frame first, then its mask")
        path = Path(self.target.value).expanduser()
        second = None if self.session is None else self.session.second
        self._start(load_mask(path, self.frame, truth=self.truth).with_second(second))
        self._say(f"Loaded: {path} ({int(self.session.mask.sum())} pixels, {len(self.session.edits)} edits).")
