"""Figures of how networks learn: their architecture, the median-weighted mask, the first images, the ablation."""

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from crcore.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, _grey

__all__ = ["ablation_grid", "first_images", "median_weight_panels", "network_diagram"]


def network_diagram(layers, *, title=""):
    """Fig 3: a U-Net as boxes, as high as the maps and as wide as the channels; skip connections in blue.

    Parameters
    ----------
    layers : list of dict
        From `crcore.networks.layers`: ``name``, ``level`` (0 at full resolution), ``channels``, ``size_px``.
    title : str, optional
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    top = max(layer["channels"] for layer in layers)
    x, places = 0.0, []
    for layer in layers:
        height = 1.0 / 2 ** layer["level"]
        width = 0.12 + 0.5 * layer["channels"] / top
        y = -0.62 * layer["level"] - height / 2
        color = SKY if layer["name"].startswith("up") else "#9ED9C3"
        axes.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="black", lw=0.8))
        axes.text(x + width / 2, y + height + 0.03, f"{layer['channels']}", ha="center", fontsize=8)
        axes.text(x + width / 2, y - 0.13, f"{layer['name']}\n{layer['size_px']}²", ha="center", va="top", fontsize=6.5)
        places.append((x, y, width, height, layer))
        x += width + 0.45
    for a, b in itertools.pairwise(places):
        style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": GREEN, "lw": 1.2}
        axes.add_patch(FancyArrowPatch((a[0] + a[2], a[1] + a[3] / 2), (b[0], b[1] + b[3] / 2), **style))
    downs = {p[4]["level"]: p for p in places if not p[4]["name"].startswith(("up", "leave"))}
    for place in places:
        if place[4]["name"].startswith("up"):
            start = downs[place[4]["level"]]
            y = start[1] + 0.8 * start[3]
            style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": BLUE, "lw": 1.2, "ls": "--"}
            axes.add_patch(FancyArrowPatch((start[0] + start[2], y), (place[0], place[1] + 0.8 * place[3]), **style))
    axes.set_xlim(-0.2, x)
    axes.set_ylim(min(p[1] for p in places) - 0.5, 0.75)
    axes.set_axis_off()
    axes.set_title(f"{title}\nchannels above, map below; blue: skip connections", fontsize=9)
    return figure


def median_weight_panels(image, target, median, steps, *, title=""):
    """Fig 4: a stamp, its rays, the median frame, and the steps from it to the mask M.

    Parameters
    ----------
    image, target, median : numpy.ndarray, shape (H, W)
        Exposure, labels and median frame.
    steps : dict of str to numpy.ndarray
        From `crcore.losses.median_weight_steps`, each (H, W).
    title : str, optional
    """
    figure = Figure(figsize=(2.3 * 4, 5.2), layout="constrained")
    axes = figure.subplots(2, 4)
    _grey(axes[0, 0], image, title="(a) exposure")
    _grey(axes[0, 1], median, title="(b) median frame")
    axes[0, 2].imshow(target, cmap="gray_r", origin="lower", interpolation="nearest")
    axes[0, 2].set_title("(c) rays", fontsize=9)
    surface = axes[0, 3]
    surface.plot(np.sort(median.ravel())[::-1], color=BLUE, lw=1)
    surface.set_xscale("log")
    surface.set_yscale("symlog", linthresh=10)
    surface.set_title("median frame, pixels sorted (e-)", fontsize=8)
    surface.set_xlabel("rank", fontsize=8)
    for axis, (name, step) in zip(axes[1], steps.items(), strict=True):
        low, high = (0, 1) if name == "weight" else np.percentile(step, [1, 99.8])
        shown = axis.imshow(step, cmap="viridis", origin="lower", interpolation="nearest", vmin=low, vmax=high)
        figure.colorbar(shown, ax=axis, shrink=0.7)
        axis.set_title(f"(d) M, from {step.min():.2g} to 1" if name == "weight" else name, fontsize=9)
    for axis in [*axes[0, :3], *axes[1]]:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    return figure


def first_images(rows, *, title=""):
    """What two losses make of the first images: the loss ratio, and predictions for rays, sources and sky.

    Parameters
    ----------
    rows : list of dict
        From `crcore.loss_study.follow`; lines are medians over seeds, bands the seeds' range.
    title : str, optional
    """
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    names = {"bce": "BCE (eq. 1)", "median_bce": "median-weighted (eq. 2, α = 0)"}
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 1 + len(losses))
    for loss, color, style in zip(losses, (ORANGE, BLUE), ("--", "-"), strict=False):
        x, values = _by_seed(
            [r for r in rows if r["loss"] == loss], lambda r: r["other_loss"] / (r["cr_loss"] or np.nan)
        )
        _band(axes[0], x, values, color, style, names.get(loss, loss))
    axes[0].set_yscale("log")
    axes[0].set_ylabel("loss of other pixels / loss of rays")
    axes[0].legend(frameon=False, fontsize=7)
    for axis, loss in zip(axes[1:], losses, strict=True):
        mine = [r for r in rows if r["loss"] == loss]
        for kind, color, style in (("rays", RED, "-"), ("sources", PURPLE, "--"), ("sky", "0.4", ":")):
            x, values = _by_seed(mine, lambda r, kind=kind: r[f"prob_{kind}"])
            _band(axis, x, values, color, style, kind)
        axis.set_ylim(-0.02, 1.02)
        axis.set_ylabel("mean prediction")
        axis.set_title(names.get(loss, loss), fontsize=9)
        axis.legend(frameon=False, fontsize=7)
    for axis in axes:
        axis.set_xlabel("images seen")
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    return figure


def _by_seed(rows, value):
    """Images seen, and a row of values for each seed; NaN where a batch had no such pixel."""
    seeds = sorted({row["seed"] for row in rows})
    x = sorted({row["images"] for row in rows})
    table = {(row["seed"], row["images"]): value(row) for row in rows}
    return np.array(x), np.array([[table.get((seed, k), np.nan) for k in x] for seed in seeds], dtype=float)


def _band(axes, x, values, color, style, label):
    seen = np.isfinite(values).any(axis=0)
    x, values = x[seen], values[:, seen]
    axes.plot(x, np.nanmedian(values, axis=0), color=color, ls=style, label=label)
    axes.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=color, alpha=0.2, lw=0)


def ablation_grid(summary, *, sets, title=""):
    """Means and ranges over seeds of a grid of variants: one panel a test set, one line a tile.

    Parameters
    ----------
    summary : list of dict
        From `crcore.ablation.summarise` by ``variant``, ``tile_px`` and ``set``; the largest tile holds whole frames.
    sets : sequence of str
        Panels, in order.
    title : str, optional
    """
    variants = list(dict.fromkeys(row["variant"] for row in summary))
    tiles = sorted({row["tile_px"] for row in summary})
    labels = {tile: "whole frames" if tile == tiles[-1] else f"tiles of {tile}" for tile in tiles}
    figure = Figure(figsize=(3.4 * len(sets) + 1.5, 0.34 * len(variants) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, sets, strict=True):
        for k, (tile, color, marker) in enumerate(zip(tiles, (ORANGE, GREEN, BLUE, RED), "sD^v", strict=False)):
            mine = {row["variant"]: row for row in summary if row["set"] == name and row["tile_px"] == tile}
            y = np.array([variants.index(v) for v in mine]) + 0.18 * (k - (len(tiles) - 1) / 2)
            mean = 100 * np.array([row["mean"] for row in mine.values()])
            low = mean - 100 * np.array([row["low"] for row in mine.values()])
            high = 100 * np.array([row["high"] for row in mine.values()]) - mean
            axis.errorbar(mean, y, xerr=[low, high], fmt=marker, ms=4, color=color, lw=1, label=labels[tile])
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("precision at 95% recall, %")
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(variants)), variants, fontsize=8)
    axes[0].invert_yaxis()
    axes[-1].legend(frameon=False, fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure
