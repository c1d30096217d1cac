"""One training loop, visible from top to bottom, that resumes where it was killed.

Adam, learning rate divided by ten where the validation loss stands still, α of the
median-weighted loss from 0 to 1, and for batch normalisation the two phases of deepCR:
statistics are learnt first and frozen then (section 3.3, appendix C).
"""

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crcore import results
from crcore.config import from_mapping, read_yaml
from crcore.errors import InputError
from crcore.losses import LOSSES
from crcore.networks import NetworkConfig, build
from crcore.sampling import StampSource, epoch_indices

#: the modules that decide what training gives: a checkpoint made by other code is not resumed
_CODE = ("dataset", "losses", "networks", "preprocess", "sampling", "training")

__all__ = ["Recipe", "read_recipe", "train"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run gives, apart from its data.

    Attributes
    ----------
    network : crcore.networks.NetworkConfig
        Architecture.
    input : {"counts", "noise"}
        What the network sees, see `crcore.preprocess.prepare`.
    loss : {"median_bce", "bce", "dice"}
        Training loss.
    alpha_epochs : int
        Epochs in which α of the median-weighted loss grows from 0 to 1 (paper: 100).
    stamp_px, batch : int
        Side and number of the stamps of a mini-batch (paper: 1024, 10).
    epochs, samples_per_epoch : int
        Length of training; the paper draws N/16 samples an epoch.
    lr : float
        Adam's learning rate (paper: 0.001, 0.0001 for spectra).
    head_lr_factor : float
        The last convolution learns this many times faster. In short runs its bias, driven
        down while almost nothing is a ray, would else not come back up in time.
    patience : int
        Validations without progress before the learning rate is divided by ten.
    validate_every : int
        Epochs between validations.
    validate_px : int
        Side of the part of each validation exposure that is used.
    freeze_epoch : int
        Epoch from which batch normalisation's statistics are frozen; 0 never.
    use_ignore : bool
        Leave pixels that the labels ignore out of the loss. The paper keeps them, as
        not a ray.
    bf16 : bool
        Compute convolutions in bfloat16 where the processor has it; elsewhere it would be emulated, eight times
        slower than float32.
    seed : int
        Of weights and stamps.
    """

    network: NetworkConfig = NetworkConfig()
    input: str = "noise"
    loss: str = "median_bce"
    alpha_epochs: int = 100
    stamp_px: int = 256
    batch: int = 8
    epochs: int = 100
    samples_per_epoch: int = 64
    lr: float = 1e-3
    head_lr_factor: float = 1.0
    patience: int = 8
    validate_every: int = 1
    validate_px: int = 512
    freeze_epoch: int = 0
    use_ignore: bool = False
    bf16: bool = True
    seed: int = 1

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise InputError(f"loss {self.loss!r} is unknown: use one of {', '.join(LOSSES)}")
        for name in ("batch", "epochs", "samples_per_epoch", "validate_every", "validate_px", "stamp_px"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}: at least 1 is needed")
        if self.stamp_px % 2**self.network.depth:
            raise InputError(
                f"stamp_px = {self.stamp_px}: must be a multiple of {2**self.network.depth} for this network"
            )


def read_recipe(path):
    """Read a `Recipe` from YAML; raises `crcore.errors.InputError` for what it does not know."""
    return from_mapping(Recipe, read_yaml(path), str(path))


def train(recipe, train_paths, valid_paths, folder, *, say=None):
    """Train a network; go on where an earlier, killed call with the same inputs stopped.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    train_paths, valid_paths : sequence of path-like
        Labelled sequences.
    folder : path-like
        Gets ``checkpoint.pt`` (for resuming), and ``log.csv``. A checkpoint of another
        recipe, data or code is not used: training starts anew.
    say : callable, optional
        Called with one line of progress after each validation.

    Returns
    -------
    network : torch.nn.Module
        With the weights of the best validation.
    log : list of dict
        One row a validation: epoch, learning rate, training loss, validation loss, Dice.

    Raises
    ------
    InputError
        For data that stamps cannot be drawn from.
    """
    folder = Path(folder)
    checkpoint = folder / "checkpoint.pt"
    key = _fingerprint(recipe, [*train_paths, *valid_paths])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = build(recipe.network).to(memory_format=torch.channels_last)
        _initialise(network)
    network = network.to(device)
    head = list(network.leave.parameters())
    body = [p for name, p in network.named_parameters() if not name.startswith("leave.")]
    optimizer = torch.optim.Adam(
        [{"params": body}, {"params": head, "lr": recipe.lr * recipe.head_lr_factor}], lr=recipe.lr
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=recipe.patience, min_lr=1e-6)
    rng = np.random.default_rng(recipe.seed)
    state = {"epoch": 0, "log": [], "best": np.inf, "best_weights": None, "seconds": 0.0}
    saved = _load(checkpoint, key)
    if saved is not None:
        network.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        plateau.load_state_dict(saved["plateau"])
        rng.bit_generator.state = saved["rng"]
        state = saved["state"]
    if state["epoch"] < recipe.epochs:
        source = StampSource(train_paths, recipe.stamp_px, recipe.input)
        valid = StampSource(valid_paths, min(recipe.stamp_px, 64), recipe.input) if valid_paths else source
    begun = time.monotonic() - state["seconds"]
    for epoch in range(state["epoch"], recipe.epochs):
        alpha = min(epoch / recipe.alpha_epochs, 1.0) if recipe.alpha_epochs else 1.0
        # Frozen statistics are used but no longer updated: deepCR's second phase.
        network.train(not recipe.freeze_epoch or epoch < recipe.freeze_epoch)
        losses = []
        indices = epoch_indices(len(source), recipe.samples_per_epoch, rng)
        for start in range(0, len(indices), recipe.batch):
            batch = _tensors(source.draw(indices[start : start + recipe.batch], rng), device)
            losses.append(_step(network, optimizer, batch, recipe, alpha, folder))
        state["epoch"] = epoch + 1
        if state["epoch"] % recipe.validate_every == 0 or state["epoch"] == recipe.epochs:
            row = {
                "epoch": state["epoch"],
                "lr": optimizer.param_groups[0]["lr"],
                "alpha": alpha,
                "train_loss": float(np.mean(losses)),
                **_validate(network, valid, recipe),
            }
            plateau.step(row["valid_loss"])
            state["log"].append(row)
            if row["valid_loss"] < state["best"]:
                state["best"] = row["valid_loss"]
                state["best_weights"] = {k: v.clone() for k, v in network.state_dict().items()}
            state["seconds"] = time.monotonic() - begun
            _save(checkpoint, key, network, optimizer, plateau, rng, state)
            if say:
                left = state["seconds"] / state["epoch"] * (recipe.epochs - state["epoch"])
                say(
                    f"epoch {state['epoch']}/{recipe.epochs}  loss {row['train_loss']:.2e}  "
                    f"Dice {row['dice']:.3f}  {left:.0f} s left"
                )
    network.load_state_dict(state["best_weights"])
    network.to("cpu").eval()
    results.write_rows(folder / "log.csv", state["log"])
    return network, state["log"]


def _initialise(network):
    """Kaiming initialisation of convolutions, biases zero."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)
    torch.nn.init.xavier_normal_(network.leave.weight, gain=0.1)


def _precision(network, recipe):
    """bfloat16 where the recipe wants it and the device multiplies it in hardware; a context."""
    device = _device(network)
    if device == "cuda":
        hardware = torch.cuda.is_bf16_supported()
    else:
        hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device, torch.bfloat16, enabled=recipe.bf16 and hardware)


def _device(network):
    return network.leave.weight.device.type


def _tensors(stamps, device):
    return tuple(torch.from_numpy(a).to(device) for a in (stamps.image, stamps.target, stamps.median, stamps.use))


def _step(network, optimizer, batch, recipe, alpha, folder):
    """One update; returns the loss."""
    image, target, median, use = batch
    with _precision(network, recipe):
        logits = network(image.contiguous(memory_format=torch.channels_last)).float()
    if recipe.use_ignore:
        # A pixel that is certainly not a ray costs nothing: ignored pixels leave the loss.
        logits = torch.where(use > 0, logits, torch.full_like(logits, -30.0))
    loss = LOSSES[recipe.loss](logits, target, median, alpha)
    if not torch.isfinite(loss):
        path = folder / "nan_batch.npz"
        with results.atomic(path) as part:
            arrays = (tensor.cpu().numpy() for tensor in batch)
            np.savez_compressed(part, **dict(zip(("image", "target", "median", "use"), arrays, strict=True)))
        raise InputError(f"the loss is {loss.item()}: the batch is saved in {path}; lower lr or check the data")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def _validate(network, valid, recipe):
    """Loss and Dice over the trusted pixels of all validation exposures."""
    was_training = network.training
    network.eval()
    overlap = total = loss = 0.0
    pixels = 0
    side = recipe.validate_px // network.multiple * network.multiple
    with (
        torch.inference_mode(),
        _precision(network, recipe),
    ):
        for index in range(len(valid)):
            image, target, _, use = _tensors(valid.whole(index, index % 3, side), _device(network))
            h, w = (n // network.multiple * network.multiple for n in image.shape[-2:])
            image, target, use = (t[..., :h, :w] for t in (image, target, use))
            logits = network(image.contiguous(memory_format=torch.channels_last)).float()
            prob = torch.sigmoid(logits) * use
            target = target * use
            overlap += 2 * float((prob * target).sum())
            total += float(prob.sum() + target.sum())
            loss += float(
                torch.nn.functional.binary_cross_entropy_with_logits(logits, target, weight=use, reduction="sum")
            )
            pixels += float(use.sum())
    network.train(was_training)
    return {"valid_loss": loss / max(pixels, 1), "dice": (overlap + 1) / (total + 1)}


def _fingerprint(recipe, paths):
    """Changes when the recipe, the data or the code changes."""
    digest = hashlib.sha256(repr((dataclasses.asdict(recipe), results.code_hash(*_CODE), torch.__version__)).encode())
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _save(checkpoint, key, network, optimizer, plateau, rng, state):
    content = {
        "key": key,
        "weights": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "plateau": plateau.state_dict(),
        "rng": rng.bit_generator.state,
        "state": state,
    }
    with results.atomic(checkpoint) as part:
        torch.save(content, part)


def _load(checkpoint, key):
    if not checkpoint.exists():
        return None
    try:
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
    except Exception as error:  # a foreign file: nothing in it may run, and it is not ours to resume
        raise InputError(f"{checkpoint}: is no checkpoint of crcore ({type(error).__name__}): move it away") from None
    return saved if saved["key"] == key else None
