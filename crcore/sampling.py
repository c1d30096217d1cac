"""Stamps for training: one from each sequence, any size, turned and mirrored (section 3.2)."""

from dataclasses import dataclass

import numpy as np

from crcore.dataset import open_cached
from crcore.errors import InputError
from crcore.labeling import BORDER, NO_DATA
from crcore.preprocess import prepare

__all__ = ["StampSource", "Stamps", "epoch_indices"]


@dataclass(frozen=True)
class Stamps:
    """A mini-batch; arrays of shape (B, 1, S, S), float32.

    Attributes
    ----------
    image, target, median, use
        Network input, labels, median frame (electrons), and 1 where the label may be
        trusted (0 in sources' rims and beyond the edge).
    """

    image: np.ndarray
    target: np.ndarray
    median: np.ndarray
    use: np.ndarray


def epoch_indices(n_sequences, samples, rng):
    """Which sequences an epoch visits: ``samples`` of them, each as often as the others."""
    rounds = -(-samples // n_sequences)
    order = np.concatenate([rng.permutation(n_sequences) for _ in range(rounds)])
    return order[:samples]


class StampSource:
    """Draws stamps from labelled sequences on disk.

    Parameters
    ----------
    paths : sequence of path-like
        Files in the layout of the LCO CR dataset.
    stamp_px : int
        Side of a stamp; smaller than the labelled part of the frames.
    how : {"counts", "noise"}
        Input preparation, see `crcore.preprocess.prepare`.

    Raises
    ------
    InputError
        When there are no files, a stamp does not fit, or there is no ray in any.
    """

    def __init__(self, paths, stamp_px, how):
        if not paths:
            raise InputError("no labelled sequences to draw stamps from: simulate or label some first")
        self.stamp_px = stamp_px
        self.how = how
        self._items = []
        rays = 0
        for path in paths:
            arrays = open_cached(path)
            rows, columns = _labelled_box(arrays["ignore"][0])
            if min(rows.stop - rows.start, columns.stop - columns.start) < stamp_px:
                raise InputError(
                    f"{path}: its labelled part of {rows.stop - rows.start} x {columns.stop - columns.start} pixels "
                    f"is smaller than the stamp of {stamp_px}: use larger frames or a smaller stamp"
                )
            inputs = np.stack([prepare(frame, how) for frame in arrays["data"]])[:, rows, columns]
            rays += int(arrays["cr"].sum())
            cr = np.ascontiguousarray(arrays["cr"][:, rows, columns])
            ignore = np.ascontiguousarray(arrays["ignore"][:, rows, columns])
            median = np.ascontiguousarray(arrays["median"][rows, columns])
            self._items.append((inputs.astype(np.float16 if how == "noise" else np.float32), cr, ignore, median))
        if rays == 0:
            raise InputError(f"no cosmic ray is labelled in {len(paths)} sequences: nothing can be learnt from them")

    def __len__(self):
        return len(self._items)

    def draw(self, indices, rng):
        """One random stamp of a random exposure of each sequence in ``indices``, as `Stamps`."""
        return self._gather([self._cut(self._items[i], rng) for i in indices])

    def whole(self, index, exposure, crop_px=None):
        """The labelled part of one exposure (its upper left ``crop_px``), for validation, as `Stamps`."""
        inputs, cr, ignore, median = self._items[index]
        side = slice(0, crop_px)
        return self._gather(
            [
                (
                    inputs[exposure][side, side],
                    cr[exposure][side, side],
                    median[side, side],
                    ignore[exposure][side, side] == 0,
                )
            ]
        )

    def _cut(self, item, rng):
        inputs, cr, ignore, median = item
        s = self.stamp_px
        exposure = rng.integers(len(inputs))
        y = rng.integers(inputs.shape[1] - s + 1)
        x = rng.integers(inputs.shape[2] - s + 1)
        window = np.s_[y : y + s, x : x + s]
        turns, mirror = rng.integers(4), rng.integers(2)
        parts = (inputs[exposure][window], cr[exposure][window], median[window], ignore[exposure][window] == 0)
        parts = [np.rot90(p, turns) for p in parts]
        return [p[:, ::-1] if mirror else p for p in parts]

    @staticmethod
    def _gather(samples):
        arrays = [np.stack([np.ascontiguousarray(s[k], dtype=np.float32) for s in samples])[:, None] for k in range(4)]
        return Stamps(*arrays)


def _labelled_box(ignore):
    """The rectangle inside the ignored border."""
    inside = (ignore & (BORDER | NO_DATA)) == 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
