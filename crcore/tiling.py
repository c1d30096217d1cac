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
    height, width = image.shape
    tile_px, margin_px, edge_px = (-(-n // multiple) * multiple for n in (tile_px, margin_px, edge_px))
    padded = _reflected(image, edge_px, multiple)
    answer = np.empty((height, width), dtype=np.float32)
    for top in range(0, height, tile_px):
        h = min(tile_px, height - top)
        rows, up = _around(top + edge_px, h, margin_px, multiple, padded.shape[0])
        for left in range(0, width, tile_px):
            w = min(tile_px, width - left)
            columns, before = _around(left + edge_px, w, margin_px, multiple, padded.shape[1])
            part = function(np.ascontiguousarray(padded[rows, columns]))
            answer[top : top + h, left : left + w] = part[up : up + h, before : before + w]
    return answer


def _around(start, length, margin, multiple, size):
    """The rows of a tile with its margin, as far as there are any, and where in them the tile begins."""
    first = max(start - margin, 0)
    last = min(start - (-length // multiple) * multiple + margin, size)
    return slice(first, last), start - first


def _reflected(image, edge, multiple):
    """An image that goes on as its reflections: ``edge`` pixels on each side, and what its sides lack to a multiple."""
    height, width = image.shape
    padded = np.empty([edge - (-n // multiple) * multiple + edge for n in image.shape], dtype=image.dtype)
    inside = slice(edge, edge + height), slice(edge, edge + width)
    padded[inside] = image
    for outside in (slice(0, edge), slice(edge + width, None)):
        padded[inside[0], outside] = image[:, _index(outside, edge, padded.shape[1], width)]
    for outside in (slice(0, edge), slice(edge + height, None)):
        padded[outside] = padded[edge + _index(outside, edge, padded.shape[0], height)]
    return padded


def _index(outside, edge, size, length):
    """Which of ``length`` rows are seen where a padded image goes on: 0 1 2 1 0 1 2 ..."""
    index = np.abs(np.arange(size)[outside] - edge) % max(2 * (length - 1), 1)
    return np.minimum(index, 2 * (length - 1) - index) if length > 1 else np.zeros(len(index), dtype=int)
