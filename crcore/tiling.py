"""Cover a frame with overlapping tiles, with reflected borders, and put the answers together."""

import numpy as np

__all__ = ["map_tiles"]


def map_tiles(function, image, *, tile_px, margin_px, multiple):
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
        Pixels of context around each tile; at the frame's edge they are its reflection. Made a multiple too.
    multiple : int
        The function's sides must be multiples of this.

    Returns
    -------
    numpy.ndarray
        float32, (H, W): every pixel is answered for.
    """
    height, width = image.shape
    tile_px, margin_px = (-(-n // multiple) * multiple for n in (tile_px, margin_px))
    answer = np.empty((height, width), dtype=np.float32)
    for top in range(0, height, tile_px):
        h = min(tile_px, height - top)
        rows = _reflected(top - margin_px, -(-h // multiple) * multiple + 2 * margin_px, height)
        for left in range(0, width, tile_px):
            w = min(tile_px, width - left)
            columns = _reflected(left - margin_px, -(-w // multiple) * multiple + 2 * margin_px, width)
            part = function(np.ascontiguousarray(image[rows][:, columns]))
            answer[top : top + h, left : left + w] = part[margin_px : margin_px + h, margin_px : margin_px + w]
    return answer


def _reflected(start, length, size):
    """Which of ``size`` rows stand at ``start`` and after it, when the image goes on as its reflections."""
    index = np.arange(start, start + length)
    if start >= 0 and start + length <= size:
        return slice(start, start + length)
    period = max(2 * (size - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros(length, dtype=int)
