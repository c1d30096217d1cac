"""Label exposures that lie on disk: what reads them, and one run of visits after another."""

import numpy as np

from crcore.errors import InputError
from crcore.fits_input import science_extensions
from crcore.frame import Frame
from crcore.labeling import LabelingConfig, label_sequence

__all__ = ["label_files", "read_run"]


def label_files(groups, config=LabelingConfig(), *, reference=None):  # noqa: B008
    """Label sequences one after another, each chip of a mosaic by itself; one that cannot be does not hide the others.

    Parameters
    ----------
    groups : iterable of list of path-like
        From `crcore.sequences.find_sequences`.
    config : LabelingConfig, optional
        Thresholds.
    reference : callable, optional
        Gives the known mask of a path, or None; a frame without one is undecided everywhere.

    Yields
    ------
    paths : list of path-like
    result : Sequence or crcore.errors.InputError
    """
    for paths in groups:
        try:
            extensions = science_extensions(paths[0])
        except InputError as error:
            yield paths, error
            continue
        for ext in extensions:
            one = len(extensions) == 1  # each file says itself where its image is; a reference is of one image
            try:
                frames, known = read_run(paths, ext=None if one else ext, reference=reference if one else None)
                yield paths, label_sequence(frames, config, truth=known)
            except InputError as error:
                yield paths, error


def read_run(paths, *, ext=None, gain=None, read_noise=None, reference=None):
    """Read the exposures of a run and what is known of them.

    Parameters
    ----------
    paths : sequence of path-like
    ext, gain, read_noise : optional
        As in `crcore.frame.Frame.read`.
    reference : callable, optional
        Gives the known mask of a path, or None; a frame without one is undecided everywhere.

    Returns
    -------
    frames : list of crcore.frame.Frame
    truth : list of numpy.ndarray, or None
        None where nothing is known of any.
    """
    frames = [Frame.read(path, ext=ext, gain=gain, read_noise=read_noise) for path in paths]
    masks = [reference(path) for path in paths] if reference else []
    if all(mask is None for mask in masks):
        return frames, None
    return frames, [np.full(f.shape, 2, np.uint8) if m is None else m for f, m in zip(frames, masks, strict=True)]
