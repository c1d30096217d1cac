"""One function per figure of the paper. They draw what they are given and compute no results.

Colours are Okabe and Ito's, told apart by colour-blind eyes; lines differ in style too,
so that figures read in grey.
"""

import matplotlib.dates as mdates
import numpy as np
from astropy.stats import mad_std
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from scipy import ndimage

__all__ = [
    "before_after",
    "curves",
    "discrepancy",
    "learning_curves",
    "samples_by_month",
    "sequence_stamps",
    "thresholds",
]

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
#: colour and line style of each curve in turn
COLOUR_CYCLE = [
    (BLUE, "-"),
    (ORANGE, "--"),
    (GREEN, "-."),
    (RED, ":"),
    (PURPLE, (0, (5, 1))),
    (SKY, (0, (3, 1, 1, 1))),
    (BLACK, "-"),
    (BLUE, ":"),
    (ORANGE, "-"),
    (GREEN, "--"),
    (RED, "-"),
]
#: and a mark, where many lines cross
MARKERS = "osD^vP*X<>h"


def _grey(axes, image, limits=None, title=None):
    if limits is None:  # from a little below the sky to 15 times its noise above: faint rays show
        sky, noise = np.nanmedian(image), max(mad_std(image, ignore_nan=True), 1e-3)
        limits = sky - 3 * noise, sky + 15 * noise
    axes.imshow(image, cmap="gray_r", origin="lower", interpolation="nearest", vmin=limits[0], vmax=limits[1])
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=9)


def _circles(axes, mask, *, color=RED, most=300):
    """A circle around each 8-connected group of a mask."""
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    for box in ndimage.find_objects(labels, n)[:most]:
        y, x = ((s.start + s.stop - 1) / 2 for s in box)
        radius = 5 + max(s.stop - s.start for s in box) / 2
        axes.plot(x, y, "o", ms=2 * radius, mfc="none", mec=color, mew=1.2, alpha=0.9)


def busiest_window(masks, size):
    """The ``size`` x ``size`` window with the most groups of flagged pixels in all masks; slices (y, x)."""
    seeds = np.zeros(masks[0].shape)
    for mask in masks:
        labels, n = ndimage.label(mask, np.ones((3, 3)))
        for y, x in ndimage.center_of_mass(mask, labels, range(1, n + 1)) if n else []:
            seeds[int(y), int(x)] += 1
    size = min(size, *seeds.shape)
    counts = ndimage.uniform_filter(seeds, size, mode="constant")
    half = size // 2
    inside = counts[half : seeds.shape[0] - half or None, half : seeds.shape[1] - half or None]
    y, x = np.unravel_index(np.argmax(inside), inside.shape)
    y, x = min(y, seeds.shape[0] - size), min(x, seeds.shape[1] - size)
    return slice(y, y + size), slice(x, x + size)


def sequence_stamps(sequence, *, size=160, title=""):
    """Fig 1: the exposures, their median, and the masks, in the window with the most rays.

    Parameters
    ----------
    sequence : crcore.labelled.Sequence
    size : int, optional
        Side of the window in pixels.
    title : str, optional
        Says what the data are.
    """
    window = busiest_window(list(sequence.cr), size)
    n = len(sequence.data)
    figure = Figure(figsize=(2.4 * (n + 1), 5.2), layout="constrained")
    axes = figure.subplots(2, n + 1)
    level = sequence.data - np.median(sequence.data, axis=(1, 2), keepdims=True)
    reference = np.median(level, axis=0)[window]
    spread = 1.4826 * np.median(np.abs(reference - np.median(reference)))
    limits = -4 * spread, 14 * spread
    for i in range(n):
        _grey(axes[0, i], level[i][window], limits, f"exposure {i + 1}")
        _circles(axes[0, i], sequence.cr[i][window])
        coded = np.where(sequence.cr[i][window] > 0, 2, (sequence.ignore[i][window] > 0).astype(int))
        axes[1, i].imshow(
            coded,
            cmap=ListedColormap(["white", "#BBBBBB", RED]),
            vmin=0,
            vmax=2,
            origin="lower",
            interpolation="nearest",
        )
        axes[1, i].set_title(f"labels {i + 1}: rays red, ignored grey", fontsize=8)
    _grey(axes[0, n], reference, limits, "median")
    total = sequence.cr.sum(axis=0)[window] > 0
    _grey(axes[1, n], reference, limits, "median, with all rays")
    _circles(axes[1, n], total)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    return figure


def samples_by_month(rows, *, title=""):
    """Fig 2: exposures by month and telescope class.

    Parameters
    ----------
    rows : list of dict
        With ``date`` (ISO), ``class`` and, where they are not three, ``exposures``; one a sequence. Other classes than
        LCO's are one.
    """
    first, last = (f(r["date"][:7] for r in rows if r["date"]) for f in (min, max))
    # the months of the paper's figure, and those of the data before and after
    months = np.arange(min(first, "2018-11"), np.datetime64(max(last, "2019-12")) + 1, dtype="datetime64[M]")
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    bottom = np.zeros(len(months))
    styles = {"0.4 m": (BLUE, ""), "1 m": (ORANGE, "///"), "2 m": (GREEN, "..."), "other": (PURPLE, "xxx")}
    for cls, (color, hatch) in styles.items():
        mine = [r for r in rows if (r["class"] if r["class"] in styles else "other") == cls]
        if cls == "other" and not mine:
            continue
        dates = np.array([r["date"] for r in mine], dtype="datetime64[M]")
        exposures = np.array([r.get("exposures", 3) for r in mine], dtype=int)
        counts = np.array([exposures[dates == month].sum() for month in months])
        axes.bar(
            months,
            counts,
            width=np.timedelta64(25, "D"),
            bottom=bottom,
            color=color,
            hatch=hatch,
            edgecolor="white",
            label=f"{cls} ({counts.sum()})",
        )
        bottom += counts
    axes.xaxis.set_major_locator(mdates.MonthLocator(interval=max(2, len(months) // 8)))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%b %y"))
    axes.set_ylabel("exposures")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(title, fontsize=10)
    return figure


def learning_curves(logs, *, title=""):
    """Fig 5: one minus the Dice score on validation data against the epoch.

    Parameters
    ----------
    logs : dict
        Name of a curve to its rows with ``epoch`` and ``dice``.
    """
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    for (name, rows), (color, style), marker in zip(logs.items(), COLOUR_CYCLE, MARKERS, strict=False):
        x, y = [r["epoch"] for r in rows], [1 - r["dice"] for r in rows]
        axes.plot(x, y, color=color, ls=style, marker=marker, ms=4, markevery=3, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("1 − Dice on validation data")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title(title, fontsize=10)
    return figure


def curves(rows, panels, *, against="labels", title=""):
    """Figs 6, 7 and 10: ROC at all and at low false-positive rates, and precision against recall.

    Parameters
    ----------
    rows : list of dict
        From `crcore.evaluation.curve_rows`.
    panels : sequence of tuple of str
        Set and kind of each panel: ``"roc"``, ``"low roc"`` (up to 0.12 %) or ``"precision"``.
    against : str, optional
        Yardstick.
    """
    figure = Figure(figsize=(4 * len(panels), 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    several = len({name for name, _ in panels}) > 1
    names = dict.fromkeys(r["detector"] for r in rows if r["set"] in {n for n, _ in panels})
    styles = dict(zip(names, COLOUR_CYCLE, strict=False))
    for axis, letter, (set_name, kind) in zip(axes, "abcdefgh", panels, strict=False):
        lowest = 1.0
        for k, (name, (color, style)) in enumerate(styles.items()):
            mine = [r for r in rows if r["set"] == set_name and r["against"] == against and r["detector"] == name]
            x, y = ("recall", "precision") if kind == "precision" else ("fpr", "tpr")
            x, y = np.array([r[x] for r in mine]), np.array([r[y] for r in mine])
            if kind != "precision":
                lowest = min([lowest, *y[(x > 2e-5) & (x < 1e-3)]])
                x = np.maximum(x, 1e-7)
            marks = {"marker": MARKERS[k % len(MARKERS)], "ms": 4, "markevery": (0.012 * k, 0.13)}
            axis.plot(x, y, color=color, ls=style, lw=1.3, label=name, **marks)
        if kind == "precision":
            axis.set(xlim=(0.4, 1.005), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
            axis.axvline(0.95, color="0.7", lw=0.7)
        else:
            axis.set(xlabel="false-positive rate", ylabel="true-positive rate")
            for rate in (1e-4, 1e-3):
                axis.axvline(rate, color="0.7", lw=0.7)
            if kind == "roc":
                axis.set(xscale="log", xlim=(1e-6, 1))
            else:
                axis.set(xlim=(0, 1.2e-3), ylim=(max(lowest - 0.02, 0), 1.005))
                axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
        what = "precision and recall" if kind == "precision" else "ROC"
        axis.set_title(f"({letter}) {what}" + (f": {set_name}" if several else ""), fontsize=9)
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def discrepancy(panels, detectors, *, title=""):
    """Figs 8 and 9: what each detector finds in a few stamps; misses and false alarms in colour.

    Parameters
    ----------
    panels : list of dict
        Each with ``image`` (h, w), ``truth`` (bool), ``use`` (bool) and ``masks``: detector name to bool.
    detectors : list of str
        Columns.
    """
    figure = Figure(figsize=(1.9 * (len(detectors) + 2), 1.95 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), len(detectors) + 2, squeeze=False)
    palette = ListedColormap(["white", BLACK, ORANGE, BLUE, "#E8E8E8"])  # of different lightness, for print
    for line, panel in zip(axes, panels, strict=True):
        _grey(line[0], panel["image"])
        _paint(line[1], np.where(panel["truth"], 1, np.where(panel["use"], 0, 4)), palette)
        for axis, name in zip(line[2:], detectors, strict=True):
            mask = panel["masks"][name]
            code = np.where(panel["truth"] & mask, 1, 0)
            code[panel["truth"] & ~mask] = 2
            code[~panel["truth"] & mask] = 3
            code[~panel["use"]] = 4
            _paint(axis, code, palette)
    for axis, name in zip(axes[0], ["exposure", "labels", *detectors], strict=True):
        axis.set_title(name, fontsize=7)
    figure.suptitle(f"{title}\nfound black, missed orange, false alarm blue, ignored pale grey", fontsize=9)
    return figure


def _paint(axes, code, palette):
    axes.imshow(code, cmap=palette, vmin=0, vmax=4, origin="lower", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def before_after(image, detection, *, title=""):
    """An exposure beside the same with every cosmic ray circled, and the mask."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    _grey(axes[0], image, title="exposure")
    _grey(axes[1], image, title=f"{detection.n_rays} cosmic rays ({detection.model})")
    _circles(axes[1], detection.mask, most=400)
    shown = ndimage.binary_dilation(detection.mask, iterations=1)  # one-pixel events survive the print
    axes[2].imshow(shown, cmap="gray_r", origin="lower", interpolation="nearest")
    axes[2].set_xticks([])
    axes[2].set_yticks([])
    axes[2].set_title("mask (drawn one pixel wider)", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def thresholds(image, prob, levels, *, title=""):
    """The mask at several thresholds, in the window with the most rays: what the threshold decides."""
    window = busiest_window([prob > 0.5], 200)
    figure = Figure(figsize=(2.1 * (len(levels) + 1), 2.6), layout="constrained")
    axes = figure.subplots(1, len(levels) + 1)
    _grey(axes[0], image[window], title="exposure")
    for axis, level in zip(axes[1:], levels, strict=True):
        axis.imshow(prob[window] > level, cmap="gray_r", origin="lower", interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(f"p > {level:g}: {int((prob > level).sum())} px", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure
