"""The compact network on a processor that computes in bfloat16: the same layers in fewer passes over memory."""

import torch
import torch.nn.functional as functional

from crcore.memory import keep_memory
from crcore.networks import CompactUNet

__all__ = ["FusedCompact"]


class FusedCompact:
    """A `crcore.networks.CompactUNet` for inference: images (1, 1, H, W) float32 in, logits of the same shape out.

    Convolution and ReLU are one call. The first convolution, whose input spans more than bfloat16 can tell apart, takes
    image and weights in two parts each, what bfloat16 holds and what is left; the layer at full resolution works on
    blocks of 2 x 2 pixels like all others. Both change nothing but the rounding.

    Parameters
    ----------
    network : crcore.networks.CompactUNet
        One that `suits`.
    """

    @staticmethod
    def suits(network):
        """Whether a network can be run so, with this build of PyTorch."""
        plain = isinstance(network, CompactUNet) and network.fold == 2 and network.enter.told is None
        # made for PyTorch's own compiler; where it is gone the network runs as it is
        return plain and all(hasattr(torch.ops.mkldnn, "_convolution_pointwise" + end) for end in ("", "_"))

    def __init__(self, network):
        keep_memory()
        first = network.enter.conv1
        coarse = first.weight.detach().bfloat16()
        rest = (first.weight.detach() - coarse).bfloat16()
        weight = torch.cat([coarse, coarse, rest], dim=1)  # of the image's two parts, and of the first again
        self._enter = _packed(weight, first.bias), _layer(network.enter.conv2)
        self._down = [(_layer(block.conv1), _layer(block.conv2)) for block in network.down]
        self._widen = [(_half(layer.weight), _half(layer.bias)) for layer in network.widen]
        self._up = [(*_split(block.conv1), _layer(block.conv2)) for block in network.up]
        self._fine = network.fine > 0
        leave = network.coarse if self._fine else network.leave
        self._leave = _half(leave.weight), _half(leave.bias)
        if self._fine:
            self._near = _packed(*_in_blocks(network.near))
            taken = network.leave.weight.detach()[0, :, 0, 0]  # of the first answer, and of the fine features
            self._added = _half(torch.kron(taken[None, 1:], torch.eye(4))[..., None, None])  # (4, 4 fine, 1, 1)
            self._scale, self._offset = taken[0], network.leave.bias.detach()

    def __call__(self, x):
        """Logits."""
        _, _, height, width = x.shape
        image = x.bfloat16()
        kept, rest = _row_pairs(image), _row_pairs((x - image).bfloat16())
        x = _block(_channels([*kept, *rest, *kept]), self._enter)
        skips = []
        for layers in self._down:
            skips.append(x)
            x = _block(_pooled(x), layers)
        for (weight, bias), (beside, below, last) in zip(self._widen, self._up, strict=True):
            x = functional.conv_transpose2d(x, weight, bias, stride=2)
            x = _convolve(_added(_convolve(skips.pop(), beside, then="none"), x, below), last)
        logits = functional.conv2d(x, *self._leave)  # (1, 4, H/2, W/2)
        if self._fine:
            answered = logits.permute(0, 2, 3, 1).view(torch.int32)[0].permute(2, 0, 1)  # (2, H/2, W/2)
            image = answered.transpose(0, 1).contiguous().view(torch.bfloat16).view(height, width)
            beside = _channels([*kept, *answered, *_row_pairs(_highest(image))])
            added = functional.conv2d(_convolve(beside, self._near), self._added)
            logits = logits.float() * self._scale + self._offset + added
        blocks = logits.float().permute(0, 2, 3, 1).reshape(height // 2, width // 2, 2, 2)
        return blocks.permute(0, 2, 1, 3).reshape(1, 1, height, width)


def _row_pairs(image):
    """Both rows of all blocks of 2 x 2 pixels, (H/2, W/2) each: two bfloat16 move as one number, many times faster."""
    height, width = image.shape[-2:]
    return image.view(height // 2, 2, width).view(torch.int32).unbind(1)


def _channels(pairs):
    """Pairs of pixels (h, w) as channels of bfloat16, (1, 2 len(pairs), h, w)."""
    return torch.stack(pairs, dim=-1).view(torch.bfloat16)[None].permute(0, 3, 1, 2)


def _half(tensor):
    return tensor.detach().bfloat16()


def _packed(weight, bias):
    """As the processor wants it, chosen for images of some hundred pixels."""
    size = [1, weight.shape[1], 512, 512]
    dense = _half(weight).contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._reorder_convolution_weight(dense, [1, 1], [1, 1], [1, 1], 1, size), _half(bias)


def _layer(convolution):
    return _packed(convolution.weight, convolution.bias)


def _split(convolution):
    """A convolution of two images beside each other as one of each: their sum is the same, without a copy of both."""
    half = convolution.in_channels // 2
    weight = convolution.weight
    return _packed(weight[:, :half], convolution.bias), _packed(weight[:, half:], torch.zeros_like(convolution.bias))


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


def _in_blocks(convolution):
    """Weight and bias of a 3x3 convolution as one of blocks of 2 x 2 pixels that are channels."""
    weight = convolution.weight.detach()
    c_out, c_in = weight.shape[:2]
    folded = weight.new_zeros(c_out, 2, 2, c_in, 2, 2, 3, 3)  # to and from: channel, row and column in the block
    for row, column in ((r, c) for r in range(2) for c in range(2)):
        for y, x in ((y, x) for y in range(3) for x in range(3)):
            block_y, from_y = divmod(row + y - 1, 2)
            block_x, from_x = divmod(column + x - 1, 2)
            folded[:, row, column, :, from_y, from_x, block_y + 1, block_x + 1] = weight[:, :, y, x]
    return folded.reshape(4 * c_out, 4 * c_in, 3, 3), convolution.bias.repeat_interleave(4)
