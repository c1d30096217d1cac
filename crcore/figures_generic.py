"""Figures of the generic detector: accuracy by kind of camera, harm, accuracy against speed, reliability."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from crcore.figures import COLOUR_CYCLE, MARKERS

__all__ = [
    "accuracy_by_kind",
    "frontier",
    "harm_at_recall",
    "harm_curves",
    "harm_objects",
    "rays_by_kind",
    "reliability_diagram",
]


def harm_curves(rows, *, title=""):
    """Stars flagged per 1,000 against their width, one panel for each range of brightness.

    Parameters
    ----------
    rows : list of dict
        From `crcore.harm.harm_by_width`.
    title : str, optional
    """
    ranges = [r for r in dict.fromkeys(row["snr"] for row in rows) if any(x["stars"] and x["snr"] == r for x in rows)]
    figure = Figure(figsize=(2.6 * len(ranges) + 0.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(ranges), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(row["detector"] for row in rows))
    for axis, snr in zip(axes, ranges, strict=True):
        for k, name in enumerate(names):
            color, style = COLOUR_CYCLE[k % len(COLOUR_CYCLE)]
            mine = [r for r in rows if r["detector"] == name and r["snr"] == snr and r["stars"]]
            width = [r["fwhm_px"] for r in mine]
            harm = [1000 * r["harmed"] / r["stars"] for r in mine]
            axis.plot(width, harm, color=color, ls=style, marker=MARKERS[k % len(MARKERS)], ms=3, label=name)
        axis.set_yscale("symlog", linthresh=1)
        axis.set_ylim(-0.1, 1000)
        axis.set_xlabel("FWHM of stars, pixels")
        axis.set_title("saturated" if snr == "saturated" else f"peak S/N {snr}", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("stars harmed per 1,000")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def harm_at_recall(rows, own, *, title=""):
    """Stars flagged per 1,000 against the share of ray pixels that are found, a panel for each width of the stars.

    Parameters
    ----------
    rows : list of dict
        ``detector``, ``fwhm_px`` and the columns of `crcore.harm.harm_at_recall`.
    own : dict
        Recall and stars per 1,000 of a detector at its own threshold, by its name and a width; drawn as a large mark.
    title : str, optional
    """
    widths = list(dict.fromkeys(row["fwhm_px"] for row in rows))
    names = list(dict.fromkeys(row["detector"] for row in rows))
    columns = min(len(widths), 3)
    lines = -(-len(widths) // columns)
    figure = Figure(figsize=(3.2 * columns + 0.6, 2.6 * lines + 1.0), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(widths) :]:
        axes.set_axis_off()
    for axes, width in zip(panels.flat, widths, strict=False):
        for k, name in enumerate(names):
            (color, style), marker = COLOUR_CYCLE[k % len(COLOUR_CYCLE)], MARKERS[k % len(MARKERS)]
            mine = [r for r in rows if r["detector"] == name and r["fwhm_px"] == width]
            harm = [1000 * r["harmed"] / max(r["stars"], 1) for r in mine]
            axes.plot([r["recall"] for r in mine], harm, color=color, ls=style, label=name)
            if (name, width) in own:
                axes.plot(*own[name, width], color=color, marker=marker, ms=7, mec="black")
        axes.set_title(f"FWHM {width:g} px", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0, 0].set_yscale("symlog", linthresh=1)
    panels[0, 0].set_ylim(-0.1, 1000)
    for axes in panels[-1]:
        axes.set_xlabel("share of ray pixels found")
    for axes in panels[:, 0]:
        axes.set_ylabel("stars harmed per 1,000")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def harm_objects(rows, *, title=""):
    """Objects of each kind that are flagged, per 1,000, one mark a detector.

    Parameters
    ----------
    rows : list of dict
        From `crcore.harm_objects.harm_by_object`.
    title : str, optional
    """
    kinds = [k for k in dict.fromkeys(row["object"] for row in rows) if any(r["n"] for r in rows if r["object"] == k)]
    names = list(dict.fromkeys(row["detector"] for row in rows))
    figure = Figure(figsize=(8, 0.42 * len(kinds) + 1.6), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(names):
        mine = {row["object"]: row for row in rows if row["detector"] == name}
        harm = [1000 * mine[kind]["harmed"] / max(mine[kind]["n"], 1) for kind in kinds]
        height = np.arange(len(kinds)) + 0.5 * (k / max(len(names) - 1, 1) - 0.5)
        axes.plot(harm, height, ls="", marker=MARKERS[k % len(MARKERS)], ms=6,
                  color=COLOUR_CYCLE[k % len(COLOUR_CYCLE)][0], label=name)  # fmt: skip
    counted = {kind: max(row["n"] for row in rows if row["object"] == kind) for kind in kinds}
    axes.set_yticks(range(len(kinds)), [f"{kind} ({counted[kind]:,})" for kind in kinds])
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-0.1, 1100)
    axes.set_xlabel("flagged per 1,000")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    axes.set_title(title, fontsize=10)
    return figure


def accuracy_by_kind(rows, *, title=""):
    """Average precision of each detector on each kind of camera.

    Parameters
    ----------
    rows : list of dict
        ``detector``, ``set``, ``average_precision``, and ``low`` and ``high`` (95 % by frame).
    title : str, optional
    """
    sets = list(dict.fromkeys(row["set"] for row in rows))
    names = list(dict.fromkeys(row["detector"] for row in rows))
    figure = Figure(figsize=(1.9 * len(sets) + 2.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(names):
        mine = {row["set"]: row for row in rows if row["detector"] == name}
        x = np.array([sets.index(s) for s in mine]) + 0.8 * (k - (len(names) - 1) / 2) / len(names)
        value = np.array([row["average_precision"] for row in mine.values()])
        low = np.maximum(value - [row["low"] for row in mine.values()], 0)
        high = np.maximum([row["high"] for row in mine.values()] - value, 0)
        color, marker = COLOUR_CYCLE[k % len(COLOUR_CYCLE)][0], MARKERS[k % len(MARKERS)]
        axes.errorbar(x, value, yerr=[low, high], fmt=marker, ms=5, color=color, lw=1, label=name)
    axes.set_xticks(range(len(sets)), sets, fontsize=8)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("average precision")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title(title, fontsize=10)
    return figure


#: of each of `crcore.generic_study.RAY_BINS`: the axis, and its bins
_BY = {
    "length_px": ("length, pixels", ("1–2", "3", "4–5", "6–7", "8–15", "≥16")),
    "charge_e": ("charge, thousand electrons", ("<0.2", "0.2–0.5", "0.5–1", "1–3", "3–10", "≥10")),
    "distance_px": ("pixels to the next source", ("on it", "1–2", "3–5", "6–10", "≥11")),
    "sigma": ("single pixels, in sigma of the sky", ("2.5–3", "3–4", "4–5", "5–10", "10–30", "≥30")),
}


def rays_by_kind(rows, *, least=20, title=""):
    """Completeness and purity of whole rays by length, charge and distance to a source; of pixels by their brightness.

    Parameters
    ----------
    rows : list of dict
        ``binned`` of `crcore.generic_study.score_by_kind`, of one set.
    least : int, optional
        Bins with fewer rays, or detections, are not drawn.
    title : str, optional
    """
    figure = Figure(figsize=(11.0, 5.2), layout="constrained")
    axes = figure.subplots(2, len(_BY), sharey=True)
    names = list(dict.fromkeys(row["detector"] for row in rows))
    for (by, (label, bins)), column in zip(_BY.items(), axes.T, strict=True):
        edges = list(dict.fromkeys(row["low"] for row in rows if row["by"] == by))
        for axis, (total, good) in zip(column, (("rays", "found"), ("detections", "right")), strict=True):
            for k, name in enumerate(names):
                (color, style), marker = COLOUR_CYCLE[k % len(COLOUR_CYCLE)], MARKERS[k % len(MARKERS)]
                mine = [r for r in rows if r["detector"] == name and r["by"] == by and r[total] >= least]
                x, y = [edges.index(r["low"]) for r in mine], [r[good] / r[total] for r in mine]
                axis.plot(x, y, color=color, ls=style, marker=marker, ms=4, label=name)
            axis.set_xticks(range(len(edges)), bins, fontsize=7)
            axis.set_xlim(-0.4, len(edges) - 0.6)
            axis.grid(alpha=0.3)
        column[1].set_xlabel(label)
    axes[0, 0].set_ylim(-0.02, 1.02)
    axes[0, 0].set_ylabel("found, of the rays (pixels)")
    axes[1, 0].set_ylabel("right, of the detections")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7, frameon=False
    )
    figure.suptitle(title, fontsize=10)
    return figure


def frontier(points, widths=(), *, title=""):
    """Average precision against seconds a megapixel.

    Parameters
    ----------
    points : list of dict
        ``detector``, ``seconds_per_mpixel``, ``average_precision``.
    widths : sequence of dict, optional
        The same for networks that differ in their ``width`` alone: joined by a line.
    title : str, optional
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for k, point in enumerate(points):
        color, marker = COLOUR_CYCLE[k % len(COLOUR_CYCLE)][0], MARKERS[k % len(MARKERS)]
        axes.plot(point["seconds_per_mpixel"], point["average_precision"], marker, ms=8, color=color,
                  label=point["detector"])  # fmt: skip
    if widths:
        x, y = ([row[key] for row in widths] for key in ("seconds_per_mpixel", "average_precision"))
        axes.plot(x, y, ".-", color="0.5", lw=0.8, label="generic's widths, trained briefly\n(data/results)")
        for row in widths:
            place = (row["seconds_per_mpixel"], row["average_precision"])
            axes.annotate(
                str(row["width"]), place, xytext=(0, -11), textcoords="offset points", fontsize=7, ha="center"
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("seconds per megapixel")
    axes.set_ylabel("average precision")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title(title, fontsize=10)
    return figure


def reliability_diagram(diagrams, *, title=""):
    """How often a pixel of each probability really is a ray, and how many pixels have it.

    Parameters
    ----------
    diagrams : dict of str to list of dict
        Name of a detector to rows of `crcore.calibration.reliability`.
    title : str, optional
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes, counts = figure.subplots(1, 2)
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    for k, (name, rows) in enumerate(diagrams.items()):
        seen = [row for row in rows if row["pixels"]]
        color, style = COLOUR_CYCLE[k % len(COLOUR_CYCLE)]
        prob, frequency, error = (np.array([row[c] for row in seen]) for c in ("prob", "frequency", "error"))
        marker = MARKERS[k % len(MARKERS)]
        axes.errorbar(prob, frequency, yerr=error, color=color, ls=style, marker=marker, ms=4, lw=1, label=name)
        counts.plot(prob, [row["pixels"] for row in seen], color=color, ls=style, marker=marker, ms=4, lw=1)
    axes.set_xlabel("probability given")
    axes.set_ylabel("share that are rays")
    axes.legend(frameon=False, fontsize=7)
    counts.set_xlabel("probability given")
    counts.set_ylabel("pixels")
    counts.set_yscale("log")
    for axis in (axes, counts):
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    return figure
