"""The compact network on a processor of x86: the same layers in fewer passes over memory."""

import platform

import torch
import torch.nn.functional as functional

from crcore.memory import keep_memory
from crcore.networks import CompactUNet

__all__ = ["FusedCompact"]


class FusedCompact:
    """A `crcore.networks.CompactUNet` for inference: images (1, 1, H, W) float32 in, logits of the same shape out.

    Convolution and ReLU are one call. In bfloat16 the first convolution, whose input spans more than that can tell
    apart, takes image and weights in two parts each, what bfloat16 holds and what is left, and the layer at full
    resolution works on blocks of 2 x 2 pixels like all others: four times the sums, but faster where a processor
    multiplies many channels at once. All this changes nothing but the rounding.

    Parameters
    ----------
    network : crcore.networks.CompactUNet
        One that `suits`.
    dtype : torch.dtype, optional
        ``torch.bfloat16`` where the processor computes in it, or ``torch.float32``.
    """

    @staticmethod
    def suits(network):
        """Whether a network can be run so, with this build of PyTorch."""
        plain = isinstance(network, CompactUNet) and network.fold == 2 and network.enter.told is None
        x86 = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
        # made for PyTorch's own compiler; where they are gone the network runs as it is
        operators = "_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight"
        return plain and x86 and all(hasattr(torch.ops.mkldnn, name) for name in operators)

    def __init__(self, network, dtype=torch.bfloat16):
        keep_memory()
        self._dtype = dtype
        first = network.enter.conv1
        weight = coarse = first.weight.detach().to(dtype)
        if dtype == torch.bfloat16:
            rest = (first.weight.detach() - coarse).to(dtype)
            weight = torch.cat([coarse, coarse, rest], dim=1)  # of the image's two parts, and of the first again
        self._enter = _packed(weight, first.bias, dtype), _layer(network.enter.conv2, dtype)
        self._down = [(_layer(block.conv1, dtype), _layer(block.conv2, dtype)) for block in network.down]
        self._widen = [_plain(layer, dtype) for layer in network.widen]
        self._up = [(*_split(block.conv1, dtype), _layer(block.conv2, dtype)) for block in network.up]
        self._fine = network.fine > 0
        self._leave = _plain(network.coarse if self._fine else network.leave, dtype)
        if self._fine:
            taken = network.leave.weight.detach()[0, :, 0, 0]  # of the first answer, and of the fine features
            blocks = dtype == torch.bfloat16
            near = network.near.weight, network.near.bias
            self._near = _packed(*(_in_blocks(*near) if blocks else near), dtype)
            each = torch.eye(4 if blocks else 1)  # pixel of a block
            self._added = torch.kron(taken[None, 1:], each)[..., None, None].to(dtype)
            self._scale, self._offset = taken[0], network.leave.bias.detach()

    def __call__(self, x):
        """Logits."""
        _, _, height, width = x.shape
        image = x.to(self._dtype)
        kept = _row_pairs(image)
        parts = [*kept, *_row_pairs((x - image).to(self._dtype)), *kept] if self._dtype == torch.bfloat16 else kept
        x = _block(self._channels(parts), self._enter)
        skips = []
        for layers in self._down:
            skips.append(x)
            x = _block(_pooled(x), layers)
        for (weight, bias), (beside, below, last) in zip(self._widen, self._up, strict=True):
            x = functional.conv_transpose2d(x, weight, bias, stride=2)
            x = _convolve(_added(_convolve(skips.pop(), beside, then="none"), x, below), last)
        logits = functional.conv2d(x, *self._leave)  # (1, 4, H/2, W/2)
        if not self._fine:
            return _pixels(logits.float())
        if self._dtype == torch.bfloat16:
            answered = logits.permute(0, 2, 3, 1).view(_PAIR[self._dtype])[0].permute(2, 0, 1)  # (2, H/2, W/2)
            image = answered.transpose(0, 1).contiguous().view(self._dtype).view(height, width)
            beside = self._channels([*kept, *answered, *_row_pairs(_highest(image))])
            added = functional.conv2d(_convolve(beside, self._near), self._added)
            return _pixels(logits.float() * self._scale + self._offset + added)
        logits = _pixels(logits)
        beside = torch.stack([image[0, 0], logits[0, 0], _highest(logits[0, 0])], dim=-1)[None].permute(0, 3, 1, 2)
        return logits * self._scale + self._offset + functional.conv2d(_convolve(beside, self._near), self._added)

    def _channels(self, pairs):
        """Pairs of pixels (h, w) as channels, (1, 2 len(pairs), h, w)."""
        return torch.stack(pairs, dim=-1).view(self._dtype)[None].permute(0, 3, 1, 2)


#: as what two neighbouring pixels move, many times faster than one by one
_PAIR = {torch.bfloat16: torch.int32, torch.float32: torch.int64}


def _row_pairs(image):
    """Both rows of all blocks of 2 x 2 pixels, (H/2, W/2) each, two pixels as one number."""
    height, width = image.shape[-2:]
    return image.view(height // 2, 2, width).view(_PAIR[image.dtype]).unbind(1)


def _pixels(blocks):
    """Blocks of 2 x 2 pixels (1, 4, h, w) as an image (1, 1, 2 h, 2 w)."""
    _, _, height, width = blocks.shape
    blocks = blocks.permute(0, 2, 3, 1).reshape(height, width, 2, 2)
    return blocks.permute(0, 2, 1, 3).reshape(1, 1, 2 * height, 2 * width)


def _plain(layer, dtype):
    return layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)


def _packed(weight, bias, dtype):
    """As the processor wants it, chosen for images of some hundred pixels."""
    size = [1, weight.shape[1], 512, 512]
    dense = weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ops.mkldnn._reorder_convolution_weight(dense, [1, 1], [1, 1], [1, 1], 1, size)
    return weight, bias.detach().to(dtype)


def _layer(convolution, dtype):
    return _packed(convolution.weight, convolution.bias, dtype)


def _split(convolution, dtype):
    """A convolution of two images beside each other as one of each: their sum is the same, without a copy of both."""
    half = convolution.in_channels // 2
    weight, bias = convolution.weight, convolution.bias
    return _packed(weight[:, :half], bias, dtype), _packed(weight[:, half:], torch.zeros_like(bias), dtype)


def _convolve(x, layer, then="relu"):
    """A 3x3 convolution and what follows it in one call."""
    return torch.ops.mkldnn._convolution_pointwise(x, *layer, [1, 1], [1, 1], [1, 1], 1, then, [], "")


def _added(known, x, layer):
    """ReLU of ``known`` and a convolution of x, written over ``known``."""
    fuse = torch.ops.mkldnn._convolution_pointwise_.binary
    return fuse(known, x, *layer, [1, 1], [1, 1], [1, 1], 1, "add", 1.0, "relu", [], "")


def _block(x, layers):
    for layer in layers:
        x = _convolve(x, layer)
    return x


def _pooled(x):
    """The largest of each 2 x 2 pixels, faster than PyTorch's own, which keeps where it was."""
    batch, channels, height, width = x.shape
    blocks = x.permute(0, 2, 3, 1).view(batch, height // 2, 2, width // 2, 2, channels)
    top, bottom = (torch.maximum(blocks[:, :, k, :, 0], blocks[:, :, k, :, 1]) for k in range(2))
    return torch.maximum(top, bottom).permute(0, 3, 1, 2)


def _highest(image):
    """The largest value among each pixel and its eight neighbours, (H, W)."""
    for _ in range(2):
        largest = image.clone()
        torch.maximum(largest[1:], image[:-1], out=largest[1:])
        torch.maximum(largest[:-1], image[1:], out=largest[:-1])
        image = largest.t()
    return image.contiguous()


def _in_blocks(weight, bias):
    """Weight and bias of a 3x3 convolution as one of blocks of 2 x 2 pixels that are channels."""
    weight = weight.detach()
    c_out, c_in = weight.shape[:2]
    folded = weight.new_zeros(c_out, 2, 2, c_in, 2, 2, 3, 3)  # to and from: channel, row and column in the block
    for row, column in ((r, c) for r in range(2) for c in range(2)):
        for y, x in ((y, x) for y in range(3) for x in range(3)):
            block_y, from_y = divmod(row + y - 1, 2)
            block_x, from_x = divmod(column + x - 1, 2)
            folded[:, row, column, :, from_y, from_x, block_y + 1, block_x + 1] = weight[:, :, y, x]
    return folded.reshape(4 * c_out, 4 * c_in, 3, 3), bias.repeat_interleave(4)
