"""What to know of the released Cosmic-CoNN before comparing with it; each function shows one thing (notebook 06)."""

import numpy as np

from crcore import zoo
from crcore.detection import NetworkDetector
from crcore.frame import Frame
from crcore.rivals import ReleasedCosmicConn

__all__ = ["first_vertex", "printed_snippet", "side_changes", "unlooked"]


def unlooked(frame, shape=(111, 125)):
    """How many pixels of a corner of a frame the released package never looks at; one sentence."""
    corner = Frame(frame.data[: shape[0], : shape[1]], read_noise=frame.read_noise)
    unseen = ReleasedCosmicConn()(corner).not_evaluated
    return f"{unseen.sum()} of {unseen.size} pixels of a {shape[0]} x {shape[1]} frame were not looked at"


def side_changes(frame, tile_px, model="ground_imaging"):
    """How many pixels change side of the threshold where the released network sees tiles, not the whole."""
    network = zoo.load_official(model)
    whole, tiled = (NetworkDetector(network, tile_px=t)(frame).mask for t in (max(frame.shape), tile_px))
    return f"tiles of {tile_px}: {(whole != tiled).sum()} pixels change side, of {whole.sum()} flagged"


def printed_snippet():
    """What the paper's two values of ``init_model`` do in the released package; one sentence."""
    import cosmic_conn

    try:
        _cr_model, _opt = cosmic_conn.init_model("ground_imaging")
    except TypeError as error:
        return f"TypeError: {error}"
    return "runs as printed"


def first_vertex(scores, fpr=1e-4):
    """True-positive rate at the first vertex of the ROC curve beyond a false-positive rate, not interpolated.

    Parameters
    ----------
    scores : crcore.metrics.PixelScores
    fpr : float, optional
    """
    x, y = scores.roc()
    return float(y[min(int(np.searchsorted(x, fpr)), len(y) - 1)])
