"""Models by name. A model is a folder: weights, configuration, thresholds and a card.

``model.safetensors`` holds numbers only, so that loading a stranger's model runs none
of their code; ``config.json`` the architecture and input; ``thresholds.json`` the
threshold found on validation data and the operating curve; ``card.md`` what it was trained on and how it does.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from crcore import results
from crcore.architecture import NetworkConfig
from crcore.config import from_mapping
from crcore.errors import InputError
from crcore.preprocess import PREPARATIONS

__all__ = ["DEFAULT_MODEL", "Model", "fingerprint", "load", "load_official", "names", "save"]

DEFAULT_MODEL = "generic"

_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Model:
    """A trained network with what it needs to be used.

    Attributes
    ----------
    name : str
    network : torch.nn.Module or None
        In evaluation mode; gives logits. None where it was loaded without PyTorch.
    config : crcore.networks.NetworkConfig
    input : str
        Input preparation, see `crcore.preprocess.prepare`.
    threshold : float
        Probability above which a pixel is called a cosmic ray.
    share : float or None
        Share of ray pixels in the data on which it was calibrated.
    curve : tuple
        `crcore.calibration.operating_curve` on those data.
    folder : pathlib.Path or None
        Where it is from.
    """

    name: str
    network: object
    config: NetworkConfig
    input: str = "noise"
    threshold: float = 0.5
    share: float | None = None
    curve: tuple = ()
    folder: Path | None = None


def names():
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in _WEIGHTS.glob("*/model.safetensors"))


def load(name, *, network=True):
    """Load a model by name, or from its folder.

    Parameters
    ----------
    name : str or path-like
    network : bool, optional
        False leaves the network out, and PyTorch with it: for ONNX.

    Raises
    ------
    InputError
        When there is no such model, or its files do not belong together.
    """
    folder = Path(name) if (Path(name) / "model.safetensors").exists() else _WEIGHTS / str(name)
    if not (folder / "model.safetensors").exists():
        raise InputError(f"model {str(name)!r} is unknown: use {', '.join(names())} or a folder with model.safetensors")
    try:
        settings = results.read_json(folder / "config.json")
        measured = results.read_json(folder / "thresholds.json")
        model = Model(
            folder.resolve().name,
            None,
            from_mapping(NetworkConfig, settings["network"], str(folder / "config.json")),
            settings["input"],
            float(measured["default"]),
            measured.get("share"),
            tuple(tuple(float(v) for v in point) for point in measured.get("curve", ())),
            folder,
        )
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: is no whole model ({str(error).splitlines()[0]})") from None
    if model.input not in PREPARATIONS:
        raise InputError(f"{folder / 'config.json'}: input {model.input!r} is unknown")
    return dataclasses.replace(model, network=_network(folder, model.config)) if network else model


def _network(folder, config):
    """The network of a model's folder, with its weights."""
    import safetensors.torch
    import torch

    from crcore.networks import build

    try:
        network = build(config)
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        if weights.keys() != _numbers(network).keys():
            raise ValueError("its weights are of another architecture")
        near = weights.get("near.weight")
        if near is not None and near.shape[1] == 2:  # made before the fine layer saw the highest answer around
            weights["near.weight"] = torch.cat([near, torch.zeros_like(near[:, :1])], dim=1)
        network.load_state_dict(weights, strict=False)  # modules that are shared stand in it once
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"{folder}: is no whole model ({str(error).splitlines()[0]})") from None
    return network.eval().to(memory_format=torch.channels_last)


def fingerprint(model):
    """SHA-256 of a model's weights on disk; an empty text for a model that is only in memory."""
    if model.folder is None:
        return ""
    return hashlib.sha256((model.folder / "model.safetensors").read_bytes()).hexdigest()


def _numbers(network):
    """Parameters and running statistics by name, those of a shared module once."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


def load_official(name):
    """Load the authors' own released weights into our classes.

    Parameters
    ----------
    name : str
        ``"ground_imaging"``, ``"NRES"`` or ``"HST_ACS_WFC"`` of Cosmic-CoNN; ``"deepCR ACS-WFC"``,
        ``"deepCR WFC3-UVIS"`` or ``"deepCR decam"``. The packages must be installed (``crcore[rivals]``).

    Returns
    -------
    Model
        With the authors' threshold of 0.5. The released code subtracts the median of each tile of
        1024 pixels; ours that of the frame.

    Raises
    ------
    InputError
        When there is no such model, or its package is missing.
    """
    from crcore.official import official_parts

    network, config, preparation = official_parts(name)
    return Model(f"{name} (official)", network, config, preparation)


def save(folder, model, *, card, recipe=None):
    """Write a model as a folder, each file whole or not at all; a ``model.onnx`` of earlier weights goes.

    Parameters
    ----------
    folder : path-like
        Its name is the model's.
    model : Model
    card : str
        Markdown for people: data, seconds, scores, limits, command.
    recipe : crcore.recipe.Recipe, optional
        Saved as the effective configuration.
    """
    import safetensors.torch

    folder = Path(folder)
    (folder / "model.onnx").unlink(missing_ok=True)  # of the weights that are replaced here
    with results.atomic(folder / "model.safetensors") as part:
        numbers = {name: tensor.detach().contiguous() for name, tensor in _numbers(model.network).items()}
        safetensors.torch.save_file(numbers, str(part))
    settings = {"network": dataclasses.asdict(model.config), "input": model.input}
    if recipe is not None:
        settings["recipe"] = dataclasses.asdict(recipe)
    results.write_json(folder / "config.json", settings)
    measured = {"default": model.threshold, "share": model.share, "curve": [list(point) for point in model.curve]}
    results.write_json(folder / "thresholds.json", measured)
    with results.atomic(folder / "card.md") as part:
        part.write_text(card)
