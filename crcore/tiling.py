"""Cover a frame with overlapping tiles, with reflected borders, and put the answers together."""

import numpy as np

__all__ = ["map_tiles"]


def map_tiles(function, image, *, tile_px, margin_px, multiple):
    """Apply a function to tiles of an image and keep the middle of each answer.

    Parameters
    ----------
    function : callable
        Takes and returns an array (h, w) whose sides are multiples of ``multiple``.
    image : numpy.ndarray, shape (H, W)
        Any shape, down to one pixel.
    tile_px : int
        Side of a tile without its margin; a frame that fits in one tile is not cut.
    margin_px : int
        Pixels of context around each tile; at the frame's edge they are its reflection.
    multiple : int
        The function's sides must be multiples of this.

    Returns
    -------
    numpy.ndarray
        float32, (H, W): every pixel is answered for.
    """
    height, width = image.shape
    answer = np.empty((height, width), dtype=np.float32)
    padded = _pad(image, margin_px, multiple)
    for top in range(0, height, tile_px):
        for left in range(0, width, tile_px):
            h, w = min(tile_px, height - top), min(tile_px, width - left)
            h_in, w_in = (-(-(n + 2 * margin_px) // multiple) * multiple for n in (h, w))
            part = function(np.ascontiguousarray(padded[top : top + h_in, left : left + w_in]))
            answer[top : top + h, left : left + w] = part[margin_px : margin_px + h, margin_px : margin_px + w]
    return answer


def _pad(image, margin_px, multiple):
    """Reflect the image outwards; images smaller than the margin are reflected more than once."""
    after = margin_px + multiple
    mode = "reflect" if min(image.shape) > 1 else "edge"
    pad = [(margin_px, after)] * 2
    if mode == "edge" and max(image.shape) > 1:  # one pixel wide: reflect along the other axis only
        axis = int(np.argmax(image.shape))
        along = [(0, 0), (0, 0)]
        along[axis], pad[axis] = pad[axis], (0, 0)
        return np.pad(np.pad(image, along, mode="reflect"), pad, mode="edge")
    return np.pad(image, pad, mode=mode)
