"""The U-Nets of the paper: Cosmic-CoNN (section 3, Fig 3) and deepCR.

Both map a batch of images to logits of the same size; the probability of a
cosmic ray is the sigmoid of the logit. Working with logits keeps the losses
exact in float32 where a sigmoid would round to 0 or 1.
"""

import torch
import torch.nn.functional as functional
from torch import nn

from crcore.architecture import NetworkConfig
from crcore.errors import InputError
from crcore.preprocess import CENSUS_EDGES_PX

__all__ = [
    "CompactUNet",
    "CosmicConnUNet",
    "DeepCRUNet",
    "GroupNorm",
    "NetworkConfig",
    "build",
    "grow",
    "layers",
    "mean_of_views",
]


def build(config):
    """Make the network that a `NetworkConfig` describes, with fresh weights.

    Raises
    ------
    InputError
        For an unknown architecture or normalisation, or a width that the
        groups do not divide.
    """
    architecture = config.architecture
    if architecture == "cosmic-conn":
        return CosmicConnUNet(width=config.width, depth=config.depth, norm=config.norm, groups=config.groups)
    if architecture == "deepcr":
        return DeepCRUNet(width=config.width, norm=config.norm)
    if architecture == "compact":
        return CompactUNet(width=config.width, depth=config.depth, fine=config.fine, census=config.census)
    raise InputError(f"network architecture {architecture!r} is unknown: use 'cosmic-conn', 'deepcr' or 'compact'")


def _normalisation(norm, channels, groups):
    if norm == "group":
        if channels % groups:
            raise InputError(f"width {channels} is not divisible by {groups} groups: change one of them")
        return GroupNorm(groups, channels)
    if norm == "batch":
        # Slow running statistics, as in both papers' training.
        return nn.BatchNorm2d(channels, momentum=0.005)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if norm == "none":
        return nn.Identity()
    raise InputError(f"normalisation {norm!r} is unknown: use 'group', 'batch', 'instance' or 'none'")


class _GroupNormFunction(torch.autograd.Function):
    """Group normalisation with a gradient in few passes over memory.

    PyTorch's own gradient on a CPU takes more than half of a training step for images in ``channels_last``.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        batch, channels, height, width = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, height * width, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, rstd = ctx.saved_tensors
        (batch, channels), groups = x.shape[:2], mean.shape[1]
        wide = weight.dtype  # sums are taken in the parameters' precision
        mean, rstd = (t.to(wide).repeat_interleave(channels // groups, dim=1) for t in (mean, rstd))  # (B, C)
        total = gradient.sum(dim=(2, 3), dtype=wide)  # (B, C)
        along = ((gradient * x).sum(dim=(2, 3), dtype=wide) - mean * total) * rstd
        count = x[0, 0].numel() * (channels // groups)

        def by_group(t):  # (B, C): the mean over a group's pixels
            summed = (t * weight).view(batch, groups, -1).sum(dim=2) / count
            return summed.repeat_interleave(channels // groups, dim=1)

        # dx = rstd (w dy - <w dy> - x^ <w dy x^>), with x^ = (x - mean) rstd
        slope = -(rstd**2) * by_group(along)
        offset = -rstd * by_group(total) - slope * mean
        scale, slope, offset = (t.to(x.dtype)[..., None, None] for t in (rstd * weight, slope, offset))
        dx = (gradient * scale).add_(x * slope + offset)  # sums that broadcast in place are slow
        return dx, along.sum(dim=0), total.sum(dim=0), None, None


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` for images (B, C, H, W) that trains twice as fast on a CPU."""

    def forward(self, x):
        """Normalise; (B, C, H, W)."""
        return _GroupNormFunction.apply(x, self.weight, self.bias, self.num_groups, self.eps)


def _relu(x):
    """In place where no gradient needs what was there."""
    return functional.relu(x, inplace=not torch.is_grad_enabled())


class _Block(nn.Module):
    """Twice: 3x3 convolution, normalisation, ReLU.

    In the released Cosmic-CoNN the two normalisations of a block are one
    module with shared parameters; ``shared=True`` does the same.
    """

    def __init__(self, c_in, c_out, norm, groups, shared, census=False):
        super().__init__()
        self.told = nn.Linear(len(CENSUS_EDGES_PX) - 1, c_out, bias=False) if census else None
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm1 = _normalisation(norm, c_out, groups)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.norm2 = self.norm1 if shared else _normalisation(norm, c_out, groups)

    def forward(self, x, census=None, wide=False):
        if wide:  # an image spans more than bfloat16 can tell apart: a faint ray on a bright star
            with torch.autocast(x.device.type, enabled=False):
                x = self._first(x.to(self.conv1.weight.dtype), census)
        else:
            x = self._first(x, census)
        x = _relu(self.norm1(x))
        return _relu(self.norm2(self.conv2(x)))

    def _first(self, x, census):
        """The first convolution, and what the census adds to each channel."""
        if self.told is None:
            return self.conv1(x)
        shift = self.told(census)  # (B, C)
        if len(x) == 1:  # within the convolution it costs nothing
            return functional.conv2d(x, self.conv1.weight, self.conv1.bias + shift[0], padding=1)
        return self.conv1(x) + shift.to(x.dtype)[..., None, None]


class _UNet(nn.Module):
    """A U-Net with max-pooling down and transposed convolutions up."""

    def __init__(self, *, width, depth, norm, groups, shared, fold=1, census=False):
        super().__init__()
        how = {"norm": norm, "groups": groups, "shared": shared, "census": census}
        channels = [width * 2**level for level in range(depth + 1)]
        self.depth, self.fold = depth, fold
        self.enter = _Block(fold**2, width, **how)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(_Block(channels[i], channels[i + 1], **how) for i in range(depth))
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(channels[i + 1], channels[i], 2, stride=2) for i in reversed(range(depth))
        )
        self.up = nn.ModuleList(_Block(2 * channels[i], channels[i], **how) for i in reversed(range(depth)))
        self.leave = nn.Conv2d(width, fold**2, 1)

    @property
    def multiple(self):
        """Sides of an input must be multiples of this many pixels."""
        return self._shape.multiple

    @property
    def reach_px(self):
        """Pixels from which an output pixel can learn, in one direction, by convolution alone."""
        return self._shape.reach_px

    @property
    def _shape(self):
        compact = self.fold > 1
        return NetworkConfig(
            "compact" if compact else "cosmic-conn", depth=self.depth, fine=self.fine if compact else 0
        )

    def features(self, x, census=None):
        """All but the last convolution: (B, 1, H, W) and (B, 10) to (B, C, H, W), H and W divided by ``fold``."""
        if self.fold > 1:
            x = functional.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last)
        x = self.enter(x, census, wide=True)  # (B, C, H, W)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(self.pool(x), census)  # (B, 2C, H/2, W/2), ...
        for widen, block in zip(self.widen, self.up, strict=True):
            x = block(torch.cat([skips.pop(), widen(x)], dim=1), census)
        return x

    def logits(self, features):
        """The last convolution: features to logits (B, 1, H, W)."""
        return functional.pixel_shuffle(self.leave(features), self.fold)

    def forward(self, x, census=None):
        """Logits, (B, 1, H, W), of images (B, 1, H, W) and, for a network that is told, censuses (B, 10)."""
        return self.logits(self.features(x, census))


def grow(network, old, new, seed):
    """Make a compact network larger, so that it says at first what the smaller one says.

    Parameters
    ----------
    network : CompactUNet
        The smaller one.
    old, new : NetworkConfig
        Its own, and one with a level more, or more fine channels, or both.
    seed : int
        Of the weights that are added.

    Returns
    -------
    CompactUNet
    """
    larger = build(new).to(memory_format=torch.channels_last)
    deeper, fine, known = new.depth - old.depth, old.fine, {}
    for name, tensor in network.state_dict().items():
        part, _, rest = name.partition(".")
        if part in ("widen", "up"):  # their first is the lowest level's
            level, _, rest = rest.partition(".")
            part = f"{part}.{int(level) + deeper}"
        known[f"coarse.{rest}" if part == "leave" and new.fine and not fine else f"{part}.{rest}"] = tensor
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        if deeper:
            for layer in (larger.down[-1].conv1, larger.down[-1].conv2, larger.widen[0]):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                layer.bias.zero_()
            for layer in (larger.up[0].conv1, larger.up[0].conv2):  # what came from above passes unchanged
                nn.init.dirac_(layer.weight)
                layer.bias.zero_()
        if new.fine > fine:
            nn.init.kaiming_normal_(larger.near.weight, nonlinearity="relu")
            for tensor in (larger.near.bias, larger.leave.weight, larger.leave.bias):
                tensor.zero_()
            larger.leave.weight[:, :1] = 1.0
            if fine:
                larger.near.weight[:fine], larger.near.bias[:fine] = known.pop("near.weight"), known.pop("near.bias")
                larger.leave.weight[:, : 1 + fine] = known.pop("leave.weight")
        larger.load_state_dict(known, strict=False)
    return larger


def mean_of_views(networks, image, census, views):
    """What networks say of images on the mean over them, and over turned and mirrored views.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
    image : torch.Tensor, shape (B, 1, S, S)
    census : torch.Tensor, shape (B, 10)
    views : sequence of int
        0 to 3 quarter turns, and 4 to 7, the same and then mirrored.

    Returns
    -------
    torch.Tensor
        Probabilities, (B, 1, S, S): of the mean logit.
    """
    total = torch.zeros_like(image)
    with torch.no_grad():
        for view in map(int, views):
            mirrored, turns = divmod(view, 4)
            seen = torch.rot90(image, turns, (2, 3))
            seen = seen.flip(3) if mirrored else seen
            seen = seen.contiguous(memory_format=torch.channels_last)
            logits = sum(network(seen, census).float() for network in networks)
            logits = logits.flip(3) if mirrored else logits
            total += torch.rot90(logits, -turns, (2, 3))
    return torch.sigmoid(total / (len(views) * len(networks)))


def layers(network, size_px=1024):
    """The parts of a U-Net in the order in which an image passes them, for a drawing or a table.

    Parameters
    ----------
    network : CosmicConnUNet or DeepCRUNet
    size_px : int, optional
        Side of the input.

    Returns
    -------
    list of dict
        ``name``, ``level`` (how often the resolution has been halved), ``channels``, ``size_px``,
        ``parameters``.
    """
    parts = [("enter", network.enter, 0)]
    parts += [(f"down {k}", block, k) for k, block in enumerate(network.down, 1)]
    parts += [(f"up {network.depth - k}", block, network.depth - 1 - k) for k, block in enumerate(network.up)]
    rows = [
        {
            "name": name,
            "level": level,
            "channels": block.conv2.out_channels,
            "size_px": size_px // 2**level,
            "parameters": sum(p.numel() for p in block.parameters()),
        }
        for name, block, level in parts
    ]
    for row, widen in zip(rows[-network.depth :], network.widen, strict=True):
        row["parameters"] += sum(p.numel() for p in widen.parameters())
    leave = sum(p.numel() for p in network.leave.parameters())
    return [*rows, {"name": "leave", "level": 0, "channels": 1, "size_px": size_px, "parameters": leave}]


class CosmicConnUNet(_UNet):
    """The network of Cosmic-CoNN (Xu et al., section 3 and Fig 3).

    Parameters
    ----------
    width, depth, norm, groups
        See `NetworkConfig`.
    """

    def __init__(self, width=32, depth=2, norm="group", groups=8):
        super().__init__(width=width, depth=depth, norm=norm, groups=groups, shared=True)


class DeepCRUNet(_UNet):
    """The mask network of deepCR (Zhang & Bloom 2020, doi:10.3847/1538-4357/ab3fa6).

    Parameters
    ----------
    width : int
        Channels of the first layer.
    norm : {"batch", "none"}
        As in its ACS and DECam models, or as in its WFC3 model.
    """

    def __init__(self, width=32, norm="batch"):
        super().__init__(width=width, depth=1, norm=norm, groups=1, shared=False)


class CompactUNet(_UNet):
    """The compact detector: a U-Net without normalisation that takes and gives blocks of 2 x 2 pixels as channels.

    What it says of a pixel depends on nothing farther away than `reach_px`, so that tiles do not show.

    Parameters
    ----------
    width, depth, fine, census
        See `NetworkConfig`.
    """

    def __init__(self, width=16, depth=2, fine=0, census=False):
        super().__init__(width=width, depth=depth, norm="none", groups=1, shared=False, fold=2, census=census)
        self.fine = fine
        if fine:
            self.coarse = self.leave  # (B, width, H/2, W/2) to a first answer for each pixel
            self.near = nn.Conv2d(3, fine, 3, padding=1)
            self.leave = nn.Conv2d(1 + fine, 1, 1)

    def features(self, x, census=None):
        """All but the last sum: (B, C, H/2, W/2); with a fine layer a first answer and what it adds, (B, 2, H, W)."""
        features = super().features(x, census)
        if not self.fine:
            return features
        first = functional.pixel_shuffle(self.coarse(features), self.fold)
        # Is a ray here? And then: is this pixel its? Images as channels: with one channel each it takes twice as long.
        highest = functional.max_pool2d(first.transpose(0, 1).contiguous(), 3, stride=1, padding=1).transpose(0, 1)
        beside = torch.cat([x.to(first.dtype), first, highest], dim=1).contiguous(memory_format=torch.channels_last)
        added = functional.conv2d(_relu(self.near(beside)), self.leave.weight[:, 1:])
        return torch.cat([first, added], dim=1)

    def logits(self, features):
        """The last convolution: features to logits (B, 1, H, W)."""
        if not self.fine:
            return super().logits(features)
        return functional.conv2d(features[:, :1], self.leave.weight[:, :1], self.leave.bias) + features[:, 1:]
