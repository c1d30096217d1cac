"""The look by eye that every mask gets: contact sheets, and accepting or rejecting sequences.

The authors verified every mask by hand (section 2). A sheet shows each exposure, the
median frame and the mask with all rays circled, and the largest rays enlarged.
"""

import csv
import html
from pathlib import Path

import matplotlib
import numpy as np
from astropy.visualization import ZScaleInterval
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from scipy import ndimage

from crcore import results
from crcore.errors import InputError

__all__ = ["contact_sheet", "decide", "draw_sheet", "write_index"]

_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_PANEL_PX, _STAMP_PX, _STAMPS = 640, 32, 8


def contact_sheet(path, sequence, *, title=""):
    """Write `draw_sheet` as a PNG, whole or not at all."""
    with results.atomic(path) as part, matplotlib.rc_context({"savefig.dpi": 80}):
        draw_sheet(sequence, title=title).savefig(part, format="png")


def draw_sheet(sequence, *, title=""):
    """Draw a labelled sequence: exposures, median, masks, the largest rays.

    Parameters
    ----------
    sequence : crcore.labelled.Sequence
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    n = len(sequence.data)
    height, width = sequence.data.shape[1:]
    tall = float(np.clip(4.2 * height / width, 1.8, 6.0))
    figure = Figure(figsize=(17, (tall + 0.35) * n + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(n, 4, width_ratios=(1, 1, 1, 0.9))
    median = sequence.median
    for i in range(n):
        frame = sequence.data[i] - np.median(sequence.data[i])
        low, high = ZScaleInterval(n_samples=2000).get_limits(frame[sequence.ignore[i] & 2 == 0])
        found = _rays(sequence.cr[i])
        panels = (
            (frame, f"exposure {i + 1}: {len(found)} rays, {int(sequence.cr[i].sum())} pixels"),
            (median, "median of all exposures"),
            (None, "mask (red), ignored (grey)"),
        )
        for j, (image, label) in enumerate(panels):
            axes = figure.add_subplot(grid[i, j])
            extent = (-0.5, frame.shape[1] - 0.5, -0.5, frame.shape[0] - 0.5)
            if image is None:
                shown = np.where(sequence.ignore[i] > 0, 1, 0)
                shown = np.maximum(_shrink(shown, np.max), 2 * _shrink(sequence.cr[i], np.max))
                axes.imshow(shown, origin="lower", extent=extent, cmap=_mask_colors(), vmin=0, vmax=2)
            else:
                axes.imshow(_shrink(image, np.mean), origin="lower", extent=extent, cmap="gray", vmin=low, vmax=high)
            if found:
                centre, size = np.array([f[0] for f in found]), np.array([f[1] for f in found])
                size = size + 0.02 * max(frame.shape)
                axes.add_collection(
                    EllipseCollection(
                        size, size, np.zeros(len(size)), units="xy", offsets=centre, transOffset=axes.transData,
                        facecolors="none", edgecolors="tab:orange", linewidths=0.7,
                    )
                )  # fmt: skip
            axes.set_title(label, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
        _stamps(figure, grid[i, 3], frame, sequence.cr[i], found, low, high)
    figure.suptitle(title or ", ".join(sequence.names), fontsize=10)
    return figure


def _mask_colors():
    return ListedColormap(["white", "0.75", "tab:red"])


def _shrink(image, how):
    """Blocks of pixels reduced by ``how`` so that the picture is about `_PANEL_PX` wide."""
    factor = max(1, int(np.ceil(max(image.shape) / _PANEL_PX)))
    h, w = (side // factor * factor for side in image.shape)
    blocks = image[:h, :w].reshape(h // factor, factor, w // factor, factor)
    return how(how(blocks, axis=3), axis=1)


def _rays(mask):
    """Centre (x, y), extent and slices of each ray, largest first."""
    labels, n = ndimage.label(mask, _NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        y, x = ((s.start + s.stop - 1) / 2 for s in box)
        extent = max(s.stop - s.start for s in box)
        found.append(((x, y), extent, int(sizes[number])))
    return sorted(found, key=lambda f: -f[2])


def _stamps(figure, place, frame, mask, found, low, high):
    """The largest rays, with the outline of the mask."""
    inner = place.subgridspec(2, _STAMPS // 2, wspace=0.04, hspace=0.04)
    for k, ((x, y), _, _) in enumerate(found[:_STAMPS]):
        top = int(np.clip(y - _STAMP_PX // 2, 0, max(0, frame.shape[0] - _STAMP_PX)))
        left = int(np.clip(x - _STAMP_PX // 2, 0, max(0, frame.shape[1] - _STAMP_PX)))
        window = np.s_[top : top + _STAMP_PX, left : left + _STAMP_PX]
        axes = figure.add_subplot(inner[divmod(k, _STAMPS // 2)])
        axes.imshow(frame[window], origin="lower", cmap="gray", vmin=low, vmax=low + 3 * (high - low))
        axes.contour(mask[window], levels=[0.5], colors="tab:orange", linewidths=0.8)
        axes.set_xticks([])
        axes.set_yticks([])


def write_index(folder):
    """Write ``contact_sheets/index.html`` of a labelled folder: all sheets on one page, with decisions."""
    folder = Path(folder)
    parts = []
    for row in results.read_rows(folder / "manifest.csv"):
        if row.get("sheet"):
            name = html.escape(str(row["file"]))
            sheet = html.escape(Path(str(row["sheet"])).name)
            verdict = html.escape(f"{row['review'] or 'not reviewed'} {row['reason']}".strip())
            parts.append(f'<h2>{name}</h2><p>{verdict}</p><img src="{sheet}" alt="{name}" style="max-width:100%">')
    page = "<!doctype html><meta charset='utf-8'><title>Contact sheets</title>" + "\n".join(parts)
    with results.atomic(folder / "contact_sheets" / "index.html") as part:
        part.write_text(page + "\n", encoding="utf-8")


def decide(folder, names, verdict, reason=""):
    """Record in the manifest that sequences were accepted or rejected by eye.

    Rejected sequences are no longer part of the dataset: training and evaluation skip them.

    Parameters
    ----------
    folder : path-like
        Output of ``crcore label``.
    names : list of str
        File names of labelled sequences, or unique parts of them.
    verdict : {"accepted", "rejected"}
    reason : str, optional

    Returns
    -------
    list of str
        The files whose rows were changed.

    Raises
    ------
    InputError
        When there is no manifest, or a name fits none or several files.
    """
    manifest = Path(folder) / "manifest.csv"
    if not manifest.exists():
        raise InputError(f"{manifest}: no such file: run 'crcore label' first")
    if verdict not in ("accepted", "rejected"):
        raise InputError(f"verdict {verdict!r} is unknown: use accepted or rejected")
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))  # as text: a name may look like a number
    if not rows or "review" not in rows[0]:
        raise InputError(f"{manifest}: has no column 'review': it is no manifest of 'crcore label'")
    changed = []
    for name in names:
        fits = [r for r in rows if r["file"] and name in (r["file"], Path(str(r["file"])).name)]
        fits = fits or [r for r in rows if r["file"] and name in str(r["file"])]
        if len(fits) != 1:
            found = "none" if not fits else ", ".join(str(r["file"]) for r in fits[:4])
            raise InputError(f"{name}: fits {len(fits)} labelled sequences in {manifest} ({found}): name one")
        fits[0].update(review=verdict, reason=reason)
        changed.append(str(fits[0]["file"]))
    results.write_rows(manifest, rows)
    write_index(folder)
    return changed
