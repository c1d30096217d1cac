"""The authors' released weights in our classes: Cosmic-CoNN's three models and deepCR's masks.

Only numbers are read, from the packages as they are installed beside this one (``cosmic-conn`` is
GPL-3, ``deepCR`` BSD-3): none of their code runs, and none of it is here. The outputs are those of
the released networks (``benchmarks/training.py parity``: 1e-6 in float64; in float32 the order of sums shows, up
to 3e-5), so that their behaviour can be studied, tiled
exactly and fine-tuned.
"""

import importlib.util
import re
from pathlib import Path

import torch

from crcore.errors import InputError
from crcore.networks import NetworkConfig, build

__all__ = ["OFFICIAL", "official_parts"]

#: name -> package that ships it, file pattern in it, input preparation (`crcore.preprocess.prepare`)
OFFICIAL = {
    "ground_imaging": ("cosmic_conn", "trained_models/*ground_imaging*.pth", "counts"),
    "NRES": ("cosmic_conn", "trained_models/*NRES*.pth", "counts"),
    "HST_ACS_WFC": ("cosmic_conn", "trained_models/*HST_ACS_WFC*.pth", "counts"),
    "deepCR ACS-WFC": ("learned_models", "mask/ACS-WFC.pth", "raw"),
    "deepCR WFC3-UVIS": ("learned_models", "mask/WFC3-UVIS.pth", "standard"),
    "deepCR decam": ("learned_models", "mask/decam.pth", "raw"),
}

_PIP_NAMES = {"cosmic_conn": "cosmic-conn", "learned_models": "deepCR"}


def official_parts(name):
    """A released network, rebuilt.

    Parameters
    ----------
    name : str
        One of `OFFICIAL`.

    Returns
    -------
    network : torch.nn.Module
        Ours, in evaluation mode, with the released weights; gives logits.
    config : crcore.networks.NetworkConfig
    input : str
        Input preparation.

    Raises
    ------
    InputError
        When the name is unknown, the package is not installed, or its weights are of another architecture.
    """
    if name not in OFFICIAL:
        raise InputError(f"official model {name!r} is unknown: use one of {', '.join(OFFICIAL)}")
    package, pattern, preparation = OFFICIAL[name]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise InputError(f"{_PIP_NAMES[package]} is not installed: pip install 'crcore[rivals]'")
    found = sorted(Path(spec.submodule_search_locations[0]).glob(pattern))
    if not found:
        raise InputError(f"{_PIP_NAMES[package]}: ships no {pattern}: install the version of requirements.txt")
    released = torch.load(found[-1], map_location="cpu", weights_only=True)
    weights, config = _renamed(released, deepcr=package == "learned_models")
    network = build(config)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{found[-1]}: is of another architecture ({str(error).splitlines()[0]})") from None
    return network.eval().to(memory_format=torch.channels_last), config, preparation


def _renamed(released, *, deepcr):
    """Released weights under our names, and the architecture that they are of."""
    released = _plain({key.removeprefix("module."): value for key, value in released.items()})
    parts = list(dict.fromkeys(key.split(".")[0] for key in released))
    ups = [part for part in parts if part.startswith("up")]  # in the order in which they are called
    ours = {"inc": "enter", "outc": "leave"}
    ours |= {part: f"down.{int(part[4:]) - 1}" for part in parts if part.startswith("down")}
    ours |= {part: f"up.{k}" for k, part in enumerate(ups)}
    weights = {}
    for key, value in released.items():
        part, *middle, field = key.split(".")
        place = ours[part]
        if part in ups and middle[0] != "conv":  # the transposed convolution
            place = place.replace("up", "widen")
        elif part != "outc":
            number = int(middle[-1])  # in a block: convolution, normalisation, ReLU, and again; or without the second
            second = number >= 3 if _normalised(released) else number >= 2
            kind = "norm" if _normalised(released) and number in (1, 4) else "conv"
            place += f".{kind}{2 if second else 1}"
        weights[f"{place}.{field}"] = value
    width, depth = released["inc.conv.conv.0.weight"].shape[0], sum(part.startswith("down") for part in parts)
    running = any(key.endswith("running_mean") for key in released)
    norm = "batch" if running else "group" if _normalised(released) else "none"
    return weights, NetworkConfig("deepcr" if deepcr else "cosmic-conn", width=width, depth=depth, norm=norm)


def _plain(released):
    """Weight normalisation (a length and a direction for each filter) multiplied out."""
    plain = dict(released)
    for key in [key for key in released if key.endswith(".weight_g")]:
        direction = plain.pop(key.replace("weight_g", "weight_v"))
        length = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        plain[key.removesuffix("_g")] = plain.pop(key) * direction / length
    return plain


def _normalised(released):
    return any(re.search(r"\.conv\.4\.weight$", key) for key in released)
