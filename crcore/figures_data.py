"""Figures of notebooks 1 and 2 beyond the paper's: cameras, label quality, shapes of rays. They compute no results."""

import numpy as np
from astropy.visualization import ZScaleInterval
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from crcore import morphology
from crcore.figures import BLUE, ORANGE, RED

__all__ = ["camera_gallery", "label_quality", "ray_shapes"]


def camera_gallery(frames, *, columns=5, size=400):
    """One simulated exposure of each camera, and the rays in it.

    Parameters
    ----------
    frames : list of tuple (str, numpy.ndarray, numpy.ndarray)
        Title, exposure in electrons and truth, (H, W).
    columns : int, optional
    size : int, optional
        At most this many pixels of each side are shown.
    """
    rows = -(-len(frames) // columns)
    figure = Figure(figsize=(2.6 * columns, 5.2 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for k, (title, data, truth) in enumerate(frames):
        row, column = divmod(k, columns)
        window = np.s_[:size, :size]
        low, high = ZScaleInterval().get_limits(data[window])
        upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
        upper.imshow(data[window], cmap="gray_r", origin="lower", vmin=low, vmax=high, interpolation="nearest")
        upper.set_title(title, fontsize=8)
        lower.imshow(truth[window] == 1, cmap=ListedColormap(["white", RED]), origin="lower", vmin=0, vmax=1)
        for axis in (upper, lower):
            axis.axis("on")
            axis.set(xticks=[], yticks=[])
    return figure


def label_quality(rows, *, title=""):
    """Recall and purity of labels by signal-to-noise and by distance to sources.

    Parameters
    ----------
    rows : list of dict
        From `crcore.label_quality.label_quality`.
    title : str, optional
    """
    kinds = list(dict.fromkeys(r["by"] for r in rows))
    figure = Figure(figsize=(4.2 * len(kinds), 3.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        mine = [r for r in rows if r["by"] == kind]
        places = np.arange(len(mine))
        for shift, key, color in ((-0.2, "recall", BLUE), (0.2, "purity", ORANGE)):
            values = [np.nan if r[key] in ("", None) else r[key] for r in mine]
            axes.bar(places + shift, values, 0.38, color=color, label=key)
        axes.set_xticks(places, [f"{r['bin']}\n({r['true_pixels']})" for r in mine], fontsize=7)
        axes.set(xlabel=f"{kind} (true pixels)", ylim=(0, 1.02))
        axes.axhline(1, color="0.8", lw=0.8, zorder=0)
        axes.legend(fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=10)
    return figure


def _sheet(footprints, rng, *, side=24, rows=6, columns=9):
    """Some rays side by side, each in the middle of a cell; longer ones are cut."""
    page = np.full((rows * (side + 1) - 1, columns * (side + 1) - 1), np.nan)
    for place, index in enumerate(rng.permutation(len(footprints))[: rows * columns]):
        stamp = footprints[index][:side, :side]
        cell = np.zeros((side, side))
        y, x = ((side - size) // 2 for size in stamp.shape)
        cell[y : y + stamp.shape[0], x : x + stamp.shape[1]] = stamp
        top, left = (k * (side + 1) for k in divmod(place, columns))
        page[top : top + side, left : left + side] = cell
    return page


def ray_shapes(compared):
    """Distributions of the shapes of recorded and simulated rays, and some of each.

    Parameters
    ----------
    compared : list of tuple (str, list of dict, list, list)
        From `crcore.simulate.recordings.compare_recordings`.
    """
    figure = Figure(figsize=(15, 6.5 * len(compared)), layout="constrained")
    axes = figure.subplots(2 * len(compared), 4)
    for number, (name, rows, recorded, simulated) in enumerate(compared):
        block = axes[2 * number : 2 * number + 2]
        tables = [morphology.measure(f) for f in (recorded, simulated)]
        for panel, row in zip(block[:, :3].flat, rows, strict=True):
            both = [np.asarray(t[row["column"]], dtype=float) for t in tables]
            joined = np.concatenate(both)
            if row["column"] == "straightness":
                edges = np.linspace(0, 1, 25)
            else:
                edges = np.geomspace(np.quantile(joined, 0.005) * 0.9, np.quantile(joined, 0.995) * 1.1, 25)
                panel.set_xscale("log")
                panel.xaxis.set_minor_formatter(NullFormatter())
            styles = ({"alpha": 0.35, "label": "recorded"}, {"histtype": "step", "color": "k", "label": "simulated"})
            for values, style in zip(both, styles, strict=True):
                panel.hist(values, edges, weights=np.full(len(values), 1 / len(values)), **style)
            panel.set_title(f"{row['column']}   KS {row['ks']:.3f}", fontsize=10)
        block[0, 0].legend()
        block[0, 0].set_ylabel(name)
        rng = np.random.default_rng(number)
        for panel, footprints, label in zip(block[:, 3], (recorded, simulated), ("recorded", "simulated"), strict=True):
            panel.imshow(np.arcsinh(_sheet(footprints, rng) / 100), cmap="magma", vmin=0, vmax=np.arcsinh(40))
            panel.set(title=label, xticks=[], yticks=[])
    return figure
