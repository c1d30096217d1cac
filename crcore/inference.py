"""Where a network runs, how precisely, and in how large tiles: PyTorch on a GPU or CPU, or ONNX without PyTorch."""

import contextlib
import copy
import importlib.util
from functools import lru_cache

import numpy as np
import psutil
from scipy import special

from crcore.errors import InputError
from crcore.preprocess import CENSUS_EDGES_PX

__all__ = ["DEVICES", "OnnxRunner", "TorchRunner", "export_onnx", "runner", "tile_for"]

DEVICES = ("cuda", "mps", "cpu", "onnx")

#: side of a tile of a local network on a CPU: its activations then stay near the caches
LOCAL_TILE_PX = 1024
#: side of a tile where the answer depends on it and memory does not reach for the whole frame; as the released package
GLOBAL_TILE_PX = 1024


def runner(model, device=None, *, threads=0):
    """Something that turns tiles of network input into probabilities: ``runner(model)(tile)``.

    Parameters
    ----------
    model : crcore.zoo.Model
    device : {"cuda", "mps", "cpu", "onnx"}, optional
        By default a GPU if there is one, else the CPU; ``"onnx"`` for a model that was loaded without PyTorch.
    threads : int, optional
        Of the processor, for this process; 0 leaves them.

    Raises
    ------
    InputError
        For a device that is not there.
    """
    if device is not None and str(device).split(":")[0] not in DEVICES:
        raise InputError(f"device {device!r} is unknown: use one of {', '.join(DEVICES)}")
    if device == "onnx" or model.network is None:
        return OnnxRunner(model, threads)
    return TorchRunner(model, device, threads)


def tile_for(model, shape, free_bytes):
    """Side of the tiles for a frame, or None for the whole frame at once.

    Section 5 of the paper chooses by the memory that is free. A local network's answer does not depend on it. Others
    take means over a tile, and get the whole frame where half of the free memory reaches for that.

    Parameters
    ----------
    model : crcore.zoo.Model
    shape : tuple of int
        Rows and columns of the frame.
    free_bytes : int
    """
    if model.config.local:
        return LOCAL_TILE_PX
    # about eight arrays of the first layer's width are alive at the widest place
    needed = shape[0] * shape[1] * 8 * model.config.width * 4
    return None if needed < free_bytes / 2 else GLOBAL_TILE_PX


class TorchRunner:
    """A network in PyTorch, in inference mode.

    bfloat16 where the processor computes in it and the input is in units of the noise (electrons would lose digits);
    the last convolution is always in float32.
    """

    def __init__(self, model, device=None, threads=0):
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        gpus = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
        self.device = str(device or (gpus[0] if gpus else "cpu"))
        if self.device != "cpu" and self.device.split(":")[0] not in gpus:
            raise InputError(f"device {self.device!r}: is not there; leave it out, or use 'cpu'")
        self.network = model.network
        if self.device != "cpu":
            self.network = copy.deepcopy(self.network).to(self.device)  # the model's own stays where it is
        self.half = model.input == "noise" and self._has_bfloat16()
        self._fused = {}  # by precision

    def _has_bfloat16(self):
        torch = self._torch
        if self.device.startswith("cuda"):
            return torch.cuda.is_bf16_supported()
        if self.device != "cpu":
            return False
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

    def _in_fewer_passes(self):
        """The network as `crcore.fused` runs it, made once; None where that does not suit."""
        if self.half not in self._fused:
            from crcore.fused import FusedCompact

            suits = self.device == "cpu" and FusedCompact.suits(self.network)
            dtype = self._torch.bfloat16 if self.half else self._torch.float32
            self._fused[self.half] = FusedCompact(self.network, dtype) if suits else None
        return self._fused[self.half]

    @property
    def free_bytes(self):
        """Memory that is free where the network runs."""
        if self.device.startswith("cuda"):
            return self._torch.cuda.mem_get_info(self.device)[0]
        return psutil.virtual_memory().available

    def __call__(self, tile, census=None):
        """Probabilities of a tile (h, w) float32, of the same size; ``census`` is of the whole frame."""
        torch, fused = self._torch, self._in_fewer_passes()
        if fused is not None:
            with torch.inference_mode():
                return torch.sigmoid(fused(torch.from_numpy(np.ascontiguousarray(tile))[None, None]))[0, 0].numpy()
        if census is not None:
            census = torch.from_numpy(census)[None].to(self.device)
        with torch.inference_mode():
            x = torch.from_numpy(tile)[None, None].to(self.device).contiguous(memory_format=torch.channels_last)
            precise = contextlib.nullcontext()
            if self.half:
                precise = torch.autocast(self.device.split(":")[0], torch.bfloat16)
            with precise:
                features = self.network.features(x, census)
            return torch.sigmoid(self.network.logits(features.float()))[0, 0].cpu().numpy()


class OnnxRunner:
    """A network in ONNX Runtime (``pip install 'crcore[onnx]'``): no PyTorch is imported."""

    device, half = "onnx", False

    def __init__(self, model, threads=0):
        path = None if model.folder is None else model.folder / "model.onnx"
        if path is None or not path.exists():
            raise InputError(f"model {model.name!r}: has no model.onnx: make one with 'crcore export'")
        self._session = _session(str(path), path.stat().st_mtime_ns, threads)

    @property
    def free_bytes(self):
        """Memory that is free."""
        return psutil.virtual_memory().available

    def __call__(self, tile, census=None):
        """Probabilities of a tile (h, w) float32, of the same size; ``census`` is of the whole frame."""
        given = {"image": tile[None, None]}
        if census is not None:
            given["census"] = census[None]
        logits = self._session.run(None, given)[0][0, 0]
        return special.expit(logits)


@lru_cache(maxsize=4)
def _session(path, written, threads):  # when it was written tells a network from one that took its place
    if importlib.util.find_spec("onnxruntime") is None:
        raise InputError("onnxruntime is not installed: pip install 'crcore[onnx]'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, one for each kind of damage
        reason = str(error).strip().splitlines()[0][:160]
        raise InputError(f"{path}: is no network that ONNX Runtime reads ({reason}): run 'crcore export'") from None


def export_onnx(model, path):
    """Write a model's network as ONNX: input ``image`` (1, 1, h, w) float32, output ``logit`` of the same size.

    A network that is told the widths of the frame's peaks has a second input, ``census`` (1, 10) float32.

    Parameters
    ----------
    model : crcore.zoo.Model
    path : path-like
        Written whole or not at all.

    Raises
    ------
    InputError
        When the package ``onnx`` is missing.
    """
    if importlib.util.find_spec("onnx") is None:
        raise InputError("onnx is not installed: pip install 'crcore[onnx]'")
    import warnings

    import torch

    from crcore import results

    side = 4 * model.config.multiple
    free = {2: "height", 3: "width"}
    told = [torch.zeros(1, len(CENSUS_EDGES_PX) - 1)] if model.config.census else []
    with results.atomic(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.network.to(memory_format=torch.contiguous_format),
            (torch.zeros(1, 1, side, side), *told),
            str(part),
            input_names=["image", "census"][: 1 + len(told)],
            output_names=["logit"],
            dynamic_axes={"image": free, "logit": free},
            dynamo=False,
        )
    model.network.to(memory_format=torch.channels_last)
