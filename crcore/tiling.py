"""Cover a frame with overlapping tiles, with reflected borders, and put the answers together."""

import numpy as np

__all__ = ["map_tiles"]


def map_tiles(function, image, *, tile_px, margin_px, multiple, edge_px=16):
    """Apply a function to tiles of an image and keep the middle of each answer.

    Where the function sees no farther than ``margin_px``, and knows positions only up to ``multiple``, the tiles do
    not show.

    Parameters
    ----------
    function : callable
        Takes and returns an array (h, w) whose sides are multiples of ``multiple``.
    image : numpy.ndarray, shape (H, W)
        Any shape, down to one pixel.
    tile_px : int
        Side of a tile without its margin; made a multiple of ``multiple``. A frame that fits in one is not cut.
    margin_px : int
        Pixels of context around each tile, made a multiple too.
    multiple : int
        The function's sides must be multiples of this.
    edge_px : int, optional
        At the edges of the frame its reflection goes on for so many pixels, made a multiple too. Beyond them a network
        sees nothing, as at the edges of the stamps it was trained on.

    Returns
    -------
    numpy.ndarray
        float32, (H, W): every pixel is answered for.
    """
    tile_px, margin_px, edge_px = (-(-n // multiple) * multiple for n in (tile_px, margin_px, edge_px))
    answer = np.empty(image.shape, dtype=np.float32)
    tiles = [[range(start, min(start + tile_px, n)) for start in range(0, n, tile_px)] for n in image.shape]
    for rows in tiles[0]:
        for columns in tiles[1]:
            seen = [
                range(
                    max(part.start - margin_px, -edge_px),
                    min(_up(part.stop, multiple) + margin_px, _up(n, multiple) + edge_px),
                )
                for part, n in zip((rows, columns), image.shape, strict=True)
            ]
            part = function(_window(image, *seen))
            inside = tuple(
                slice(p.start - s.start, p.stop - s.start) for p, s in zip((rows, columns), seen, strict=True)
            )
            answer[rows.start : rows.stop, columns.start : columns.stop] = part[inside]
    return answer


def _up(n, multiple):
    return -(-n // multiple) * multiple


def _window(image, rows, columns):
    """Part of an image that goes on as its reflections: row -1 is row 1, and so on."""
    window = np.empty((len(rows), len(columns)), dtype=image.dtype)
    middle = [
        slice(max(-part.start, 0), min(n, part.stop) - part.start)
        for part, n in zip((rows, columns), image.shape, strict=True)
    ]
    window[tuple(middle)] = image[max(rows.start, 0) : rows.stop, max(columns.start, 0) : columns.stop]
    y, x = (_reflected(np.array(part), n) for part, n in zip((rows, columns), image.shape, strict=True))
    for outside in (slice(0, middle[0].start), slice(middle[0].stop, None)):
        window[outside] = image[np.ix_(y[outside], x)]
    for outside in (slice(0, middle[1].start), slice(middle[1].stop, None)):
        window[:, outside] = image[np.ix_(y, x[outside])]
    return window


def _reflected(index, size):
    """Which of ``size`` rows is seen at a place that may lie outside: 2 1 0 1 2 1 0 ... for three."""
    if size == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * (size - 1))
    return np.minimum(index, 2 * (size - 1) - index)
