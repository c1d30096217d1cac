"""Stamps for training: one from each sequence, any size, turned and mirrored (section 3.2)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crcore.dataset import open_cached
from crcore.errors import InputError
from crcore.labelled import BORDER, HOT_PIXEL, NO_DATA, SOURCE, UNDECIDED

__all__ = ["StampSource", "Stamps", "ahead", "epoch_indices"]


@dataclass(frozen=True)
class Stamps:
    """A mini-batch; arrays of shape (B, 1, S, S), float32, but for ``census``.

    Attributes
    ----------
    image, target, median, use
        Network input, labels, median frame (electrons), and the weight of the label in the loss (`StampSource`).
    census
        Widths of the peaks of the frame that a stamp is from (`crcore.preprocess.peak_census`), (B, 10).
    """

    image: np.ndarray
    target: np.ndarray
    median: np.ndarray
    use: np.ndarray
    census: np.ndarray


def epoch_indices(n_sequences, samples, rng):
    """Which sequences an epoch visits: ``samples`` of them, each as often as the others."""
    rounds = -(-samples // n_sequences)
    order = np.concatenate([rng.permutation(n_sequences) for _ in range(rounds)])
    return order[:samples]


def ahead(function, jobs):
    """Results of ``function(*job)`` in order, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for job in jobs:
            after = pool.submit(function, *job)
            if coming is not None:
                yield coming.result()
            coming = after
        if coming is not None:
            yield coming.result()


class StampSource:
    """Draws stamps from labelled sequences on disk, which stay there: arrays are memory-mapped.

    Parameters
    ----------
    paths : sequence of path-like
        Files in the layout of the LCO CR dataset.
    stamp_px : int
        Side of a stamp; not larger than the labelled part of the frames.
    how : str
        Input preparation, see `crcore.preprocess.prepare`.
    use_ignore : bool, optional
        Give pixels that the labels ignore no weight. Else they count as what is no ray, as in the paper, but
        for simulated rays that the labels have lost to sources.
    source_weight, source_ray_weight : float, optional
        With ``use_ignore``, the weights of pixels that are ignored only for lying on a source: of those that are no
        rays, and of those that are. The second is that of the first by default, but at most 1.
    hot_weight : float, optional
        With ``use_ignore``, the weight of pixels that are ignored only for being single hot ones.
    soft_labels : bool, optional
        Stamps are labelled by the chance that a reference calls a pixel a ray, where it is known.

    Raises
    ------
    InputError
        When there are no files, a stamp does not fit, or there is no ray in any.

    Attributes
    ----------
    cr_share : float
        Share of the labelled pixels that are rays: the prior probability of one.
    """

    def __init__(
        self,
        paths,
        stamp_px,
        how,
        *,
        use_ignore=False,
        source_weight=0.0,
        source_ray_weight=None,
        hot_weight=0.0,
        soft_labels=False,
    ):
        if not paths:
            raise InputError("no labelled sequences to draw stamps from: simulate or label some first")
        self.stamp_px, self.use_ignore, self.source_weight = stamp_px, use_ignore, source_weight
        self.source_ray_weight = min(source_weight, 1.0) if source_ray_weight is None else source_ray_weight
        self.hot_weight, self.soft_labels = hot_weight, soft_labels
        self._boxes, self._places = [], []
        # Each map holds a file open, and systems allow some hundreds: those used last stay.
        self._arrays = lru_cache(maxsize=32)(lambda index: _reopened(self._places[index]))
        rays = pixels = 0
        for path in paths:
            arrays = open_cached(path, how)
            rows, columns = box = _labelled_box(arrays["ignore"][0])
            height, width = rows.stop - rows.start, columns.stop - columns.start
            if min(height, width) < stamp_px:
                raise InputError(
                    f"{path}: its labelled part of {height} x {width} pixels is smaller than the stamp of {stamp_px}: "
                    "use larger frames or a smaller stamp"
                )
            rays += int(arrays["cr"].sum())
            pixels += len(arrays["cr"]) * height * width
            self._boxes.append(box)
            self._places.append({name: _place(array) for name, array in arrays.items()})
        if rays == 0:
            raise InputError(f"no cosmic ray is labelled in {len(paths)} sequences: nothing can be learnt from them")
        self.cr_share = rays / pixels

    def __len__(self):
        return len(self._boxes)

    def draw(self, indices, rngs):
        """One random stamp of a random exposure of each sequence in ``indices``, as `Stamps`.

        Parameters
        ----------
        indices : sequence of int
            Sequences.
        rngs : sequence of numpy.random.Generator
            One for each stamp, so that it does not matter who draws the others.
        """
        return _gather([self._cut(int(i), rng) for i, rng in zip(indices, rngs, strict=True)])

    def whole(self, index, exposure, crop_px=None):
        """The labelled part of one exposure (its first ``crop_px`` rows and columns), for validation, as `Stamps`.

        Weights are 1 where the labels can be trusted and 0 elsewhere; labels are 0 or 1.
        """
        box = self._boxes[index]
        exposure = exposure % len(self._arrays(index)["inputs"])
        window = tuple(slice(s.start, s.stop if crop_px is None else min(s.start + crop_px, s.stop)) for s in box)
        arrays = self._arrays(index)
        ignore = arrays["ignore"][exposure][window]
        trusted = (ignore == 0) | ((ignore == SOURCE) & (self.source_weight > 0))
        return _gather([(*_window(arrays, exposure, window), trusted, arrays["census"][exposure])])

    def _cut(self, index, rng):
        arrays, box = self._arrays(index), self._boxes[index]
        exposure = rng.integers(len(arrays["inputs"]))
        corner = [rng.integers(s.start, s.stop - self.stamp_px + 1) for s in box]
        window = tuple(slice(start, start + self.stamp_px) for start in corner)
        turns, mirror = rng.integers(4), rng.integers(2)
        image, target, median = _window(arrays, exposure, window)
        if self.soft_labels:
            target = arrays["chance"][exposure][window] / np.float32(255)
        target, weight = self._weigh(target, arrays["ignore"][exposure][window])
        parts = (image, target, median, weight)
        parts = [np.rot90(part, turns) for part in parts]
        parts = [part[:, ::-1] if mirror else part for part in parts]
        return [*parts, arrays["census"][exposure]]

    def _weigh(self, target, ignore):
        """Labels and their weights in the loss."""
        target = target.astype(np.float32)
        if not self.use_ignore:
            return target, (ignore & UNDECIDED) == 0
        weight = (ignore == 0).astype(np.float32)
        weight[ignore == HOT_PIXEL] = self.hot_weight
        source = ignore == SOURCE
        ray, none = self.source_ray_weight * target[source], self.source_weight * (1 - target[source])
        weight[source] = ray + none
        target[source] = np.divide(ray, ray + none, out=target[source], where=ray + none > 0)
        return target, weight


def _place(array):
    """Where a mapped array is, so that it opens again without a look at what made it; others as they are."""
    if not isinstance(array, np.memmap):
        return array
    return {"filename": array.filename, "dtype": array.dtype, "offset": array.offset, "shape": array.shape}


def _reopened(places):
    return {name: np.memmap(mode="r", **place) if isinstance(place, dict) else place for name, place in places.items()}


def _window(arrays, exposure, window):
    return arrays["inputs"][exposure][window], arrays["cr"][exposure][window], arrays["median"][window]


def _gather(samples):
    arrays = [np.stack([np.ascontiguousarray(s[k], dtype=np.float32) for s in samples]) for k in range(5)]
    return Stamps(*(array[:, None] for array in arrays[:4]), arrays[4])


def _labelled_box(ignore):
    """The rectangle inside the ignored border."""
    inside = (ignore & (BORDER | NO_DATA)) == 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
