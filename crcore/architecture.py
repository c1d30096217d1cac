"""What a network looks like, in a form that does not need PyTorch."""

from dataclasses import dataclass

from crcore.errors import InputError

__all__ = ["NetworkConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """What a network looks like; saved beside its weights.

    Attributes
    ----------
    architecture : {"cosmic-conn", "deepcr", "compact"}
        Cosmic-CoNN halves the resolution twice, deepCR once. The compact detector has no normalisation, and takes
        the image in blocks of 2 x 2 pixels: the same work on a quarter of the places, five times as fast.
    width : int
        Channels of the first layer; both papers use 32.
    depth : int
        How often Cosmic-CoNN (2 in the paper) and the compact detector halve the resolution.
    norm : {"group", "batch", "instance", "none"}
        Feature normalisation (section 3.3). deepCR has ``"batch"``, or ``"none"`` as its WFC3 model.
    groups : int
        Groups of group normalisation (8 in appendix C).
    fine : int
        Channels of a last layer of the compact detector at full resolution, in which each pixel sees its own value and
        its neighbours' again, and the highest answer around: whether a faint pixel belongs to the ray beside it is
        decided there. 0: none.
    census : bool
        The compact detector is told how wide the peaks of the whole frame are (`crcore.preprocess.peak_census`).
    """

    architecture: str = "cosmic-conn"
    width: int = 32
    depth: int = 2
    norm: str = "group"
    groups: int = 8
    fine: int = 0
    census: bool = False

    def __post_init__(self):
        if self.architecture == "deepcr":  # what deepCR is, whatever was asked for
            object.__setattr__(self, "depth", 1)
            object.__setattr__(self, "norm", "none" if self.norm == "none" else "batch")
        if self.architecture == "compact":
            object.__setattr__(self, "norm", "none")
        elif self.census or self.fine:
            raise InputError(f"network census, fine: only the compact detector has them, not {self.architecture!r}")

    @property
    def fold(self):
        """Side of the blocks of pixels that enter as channels; 1 for single pixels."""
        return 2 if self.architecture == "compact" else 1

    @property
    def multiple(self):
        """Sides of an input must be multiples of this many pixels."""
        return self.fold * 2**self.depth

    @property
    def reach_px(self):
        """Pixels from which an output pixel can learn, in one direction, by convolution alone."""
        scales = [2**level for level in range(self.depth + 1)]
        return self.fold * (2 * sum(scales) + 2 * sum(scales[:-1]) + sum(scales[1:]) + 1) - 1 + 2 * bool(self.fine)

    @property
    def local(self):
        """True where an answer depends on nothing farther away than ``reach_px``.

        Group and instance normalisation take means over all that the network is given.
        """
        return self.norm in ("batch", "none")
