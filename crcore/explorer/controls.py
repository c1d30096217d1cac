"""The widgets of the explorer's page, by name, and where they stand."""

import ipywidgets as widgets
from IPython.display import Javascript

from crcore.explorer.screen import COLOUR_MAPS, INTERVALS, STRETCHES
from crcore.explorer.session import to_slider

__all__ = ["THUMBNAILS", "UPLOAD_LIMIT", "Controls"]

#: larger files are opened by their path, not uploaded
UPLOAD_LIMIT = 400_000_000

TOOLS = ("look", "paint", "erase", "add ray", "remove ray")
THUMBNAILS = 10

_KEYS = (
    "<b>Keys</b>, with the pointer on a view: arrows move, + and - zoom, 0 shows all, W A S D move the cursor, Enter "
    "uses the tool there, N and P the next and previous ray, B blinks, U and R undo and redo."
)
#: the page refuses a file that is too large before it is sent: the connection would break; and keys go to the field
#: that has the focus: ipyevents would take them all for the view under the mouse, until the mouse leaves it
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
  const views = ".crcore-image, .crcore-mask", watched = "ipyevents-watched";
  document.addEventListener("focusin", function (event) {
    document.querySelectorAll(views).forEach(function (view) {
      const left = view.classList.contains(watched) && !view.contains(event.target);
      if (left) view.dispatchEvent(new MouseEvent("mouseleave"));
    });
  });
  document.addEventListener("mouseenter", function (event) {
    const typing = document.activeElement && document.activeElement.matches("input[type=text], input[type=number]");
    if (typing && event.target.matches && event.target.matches(views)) event.stopImmediatePropagation();
  }, true);
  document.addEventListener("mousedown", function (event) {
    const view = event.target.closest(views);
    if (!view || view.classList.contains(watched)) return;
    if (document.activeElement) document.activeElement.blur();
    view.dispatchEvent(new MouseEvent("mouseenter"));
  }, true);
}
"""


class Controls:
    """Every widget of the page as an attribute, and ``page``, which holds them all. They do nothing by themselves.

    Parameters
    ----------
    models : sequence of str
        Names of detectors to choose from.
    model : str
        The one to begin with.
    size_px : int
        Side of a view.
    """

    def __init__(self, models, model, size_px):
        wide = {"description_width": "110px"}
        long = widgets.Layout(width="330px")
        # whole paths only: sent at each key, a busy kernel's answer would overwrite what was typed since
        self.file = widgets.Text(
            description="File",
            placeholder="path of a FITS file",
            continuous_update=False,
            layout=widgets.Layout(width="420px"),
        )
        self.open = widgets.Button(description="Open", tooltip="Open the file at this path")
        self.upload = widgets.FileUpload(description="Upload", accept=".fits,.fit,.fts,.fz,.gz", multiple=False)
        self.plane = widgets.BoundedIntText(description="Plane", min=0, max=0, layout=widgets.Layout(width="170px"))
        self.plane_box = widgets.HBox([self.plane], layout=widgets.Layout(display="none"))
        self.model = widgets.Dropdown(description="Model", options=list(models), value=model, style=wide, layout=long)
        self.second = widgets.Dropdown(
            description="Compare with", options=["none", *models], value="none", style=wide, layout=long
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
        self.target = widgets.Text(description="Save as", continuous_update=False, style=wide, layout=long)
        self.save = widgets.Button(description="Save mask", tooltip="Mask, probabilities and edits as FITS")
        self.teach = widgets.Button(description="Save for training", tooltip="As labels, for crcore train")
        self.reload = widgets.Button(description="Load mask", tooltip="Go on from a file that was saved here")
        self.all = widgets.Button(description="Whole frame", tooltip="Show all (0)")
        self.nearer = widgets.Button(description="Zoom in", tooltip="(+)")
        self.farther = widgets.Button(description="Zoom out", tooltip="(-)")
        self.before = widgets.Button(description="Previous ray", tooltip="(P)")
        self.after = widgets.Button(description="Next ray", tooltip="(N)")
        size = {"width": f"{size_px}px", "height": f"{size_px}px"}
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
        self._layout(size_px)

    def _layout(self, size_px):
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
        keys = widgets.HTML(_KEYS, layout=widgets.Layout(max_width=f"{2 * size_px}px"))
        main = column([views, self.readout, self.strip, moving, tools, keeping, keys])
        main.layout = widgets.Layout(width=f"{2 * size_px + 20}px", flex="0 0 auto", overflow="visible")
        side.layout.width = "345px"
        for box in (moving, tools, keeping):
            for button in (b for b in box.children if isinstance(b, widgets.Button | widgets.ToggleButton)):
                button.layout.width = "115px"
        guard = widgets.Output(layout=widgets.Layout(display="none"))
        guard.append_display_data(Javascript(_GUARD.replace("LIMIT", str(UPLOAD_LIMIT))))
        self.page = column([files, self.message, row([main, side]), guard])
