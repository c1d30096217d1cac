"""One training loop, visible from top to bottom, that resumes where it was killed.

Adam (or Muon), learning rate divided by ten where validation stands still, α of the
median-weighted loss from 0 to 1, and for batch normalisation the two phases of deepCR:
statistics are learnt first and frozen then (section 3.3, appendix C). Lightning Fabric
spreads it over devices and leaves the loop in sight.
"""

import dataclasses
import hashlib
import logging
import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel

from crcore import results, zoo
from crcore.errors import InputError
from crcore.losses import LOSSES
from crcore.memory import keep_memory
from crcore.networks import build, grow, mean_of_views
from crcore.optimizers import make_optimizer
from crcore.sampling import StampSource, ahead, epoch_indices

#: the modules that decide what training gives: a checkpoint made by other code is not resumed
_CODE = (
    "dataset", "labeling", "labelled", "losses", "networks", "optimizers", "preprocess", "recipe", "sampling",
    "sources", "training",
)  # fmt: skip

#: share of the labels in what a network that has a teacher is trained towards
_LABELS = 0.3

__all__ = ["fresh_network", "train", "training_seconds"]


def train(recipe, train_paths, valid_paths, folder, *, resume=None, devices=1, say=None, progress=None):
    """Train a network; go on where an earlier, killed call with the same inputs stopped.

    Parameters
    ----------
    recipe : crcore.recipe.Recipe
        What to do.
    train_paths, valid_paths : sequence of path-like
        Labelled sequences.
    folder : path-like
        Gets ``checkpoint.pt`` (for resuming), and ``log.csv``.
    resume : bool, optional
        None resumes a checkpoint of the same recipe, data and code, and else starts anew. True refuses one
        that does not fit; False refuses to overwrite any.
    devices : int, optional
        Processes (without a GPU) or GPUs that share each mini-batch; the loss is that of one. Started
        from a script, since each process runs it. Not for what sees a whole batch at once: batch
        normalisation, Dice, Tversky.
    say : callable, optional
        Called with one line of progress after each validation.
    progress : callable, optional
        ``progress(total=, initial=, unit=)`` makes a bar, as ``tqdm`` does; it counts stamps.

    Returns
    -------
    network : torch.nn.Module
        With the weights of the best validation (Dice), the last, or the mean of those after the last epochs.
    log : list of dict
        One row a validation: epoch, stamps and megapixels seen, learning rate, α, training loss, validation
        loss, Dice.

    Raises
    ------
    InputError
        For data that stamps cannot be drawn from, a checkpoint that does not fit, a loss that is no number; for a
        teacher that is unknown, of another input, or too deep for the stamps.
    """
    folder = Path(folder)
    keep_memory()
    names = ("use_ignore", "source_weight", "source_ray_weight", "hot_weight", "soft_labels")
    weights = {name: getattr(recipe, name) for name in names}
    source = StampSource(train_paths, recipe.stamp_px, recipe.input, **weights)
    valid = source
    if valid_paths:
        valid = StampSource(valid_paths, recipe.network.multiple, recipe.input, **weights)
    samples = recipe.samples_per_epoch or max(len(source) // 16, 1)
    fabric = _fabric(recipe, samples, devices)
    network = fresh_network(recipe, source.cr_share).to(fabric.device)  # before Muon looks at its kernels as matrices
    optimizer = make_optimizer(network, recipe)
    schedule = _schedule(optimizer, recipe)
    state = {"epoch": 0, "log": [], "best": -np.inf, "best_weights": None, "seconds": 0.0}
    mean = AveragedModel(network)
    teachers = _teachers(recipe)
    key = _key(recipe, [*train_paths, *valid_paths], network, teachers)
    saved = _load(folder / "checkpoint.pt", key, resume)
    model, optimizer = fabric.setup(network, optimizer)
    teachers = [teacher.to(fabric.device) for teacher in teachers]
    if saved is not None:
        network.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        mean.load_state_dict(saved["mean"])
        state = saved["state"]
    bar = None
    if progress and fabric.is_global_zero:
        bar = progress(total=recipe.epochs * samples, initial=state["epoch"] * samples, unit="stamp")
    begun = time.monotonic() - state["seconds"]
    for epoch in range(state["epoch"], recipe.epochs):
        alpha = min(epoch / recipe.alpha_epochs, 1.0) if recipe.alpha_epochs else 1.0
        # Frozen statistics are used but no longer updated: deepCR's second phase.
        model.train(not recipe.freeze_epoch or epoch < recipe.freeze_epoch)
        losses = []
        for start, stamps in _batches(source, recipe, samples, epoch, fabric):
            taught = None
            if teachers:
                rng = np.random.default_rng([recipe.seed, epoch, start, 0, 8])  # a stream apart from the stamps'
                with fabric.autocast():
                    taught = mean_of_views(teachers, stamps[0], stamps[4], rng.permutation(8)[: recipe.views])
            losses.append(_step(fabric, model, optimizer, stamps, recipe, alpha, folder, taught))
            if bar is not None:
                bar.update(min(recipe.batch, samples - start))
        lr = optimizer.param_groups[0]["lr"]
        if recipe.schedule != "plateau":
            schedule.step()
        if epoch >= recipe.epochs - recipe.average_epochs:
            mean.update_parameters(network)
        state["epoch"] = epoch + 1
        if state["epoch"] % recipe.validate_every == 0 or state["epoch"] == recipe.epochs:
            row = {"epoch": epoch + 1, "stamps": (epoch + 1) * samples, "lr": lr, "alpha": alpha}
            row |= {"mpixel": row["stamps"] * recipe.stamp_px**2 / 1e6, "train_loss": float(np.mean(losses))}
            judged = mean.module if mean.n_averaged else network
            row |= _validate(fabric, judged, valid, recipe)
            if recipe.schedule == "plateau":
                schedule.step(row["valid_loss"])
            state["log"].append(row)
            if row["dice"] > state["best"] or (recipe.keep == "last" and np.isfinite(row["dice"])):
                state["best"] = row["dice"]
                state["best_weights"] = {k: v.cpu().clone() for k, v in judged.state_dict().items()}
            state["seconds"] = time.monotonic() - begun
            if fabric.is_global_zero:
                _save(folder / "checkpoint.pt", key, network, mean, optimizer, schedule, state)
                results.write_rows(folder / "log.csv", state["log"])
            if say and fabric.is_global_zero:
                say(_line(row, recipe, state["seconds"]))
    if bar is not None:
        bar.close()
    if state["best_weights"] is None:
        raise InputError(f"{folder}: no validation gave a number: lower lr or check the validation data")
    network.load_state_dict(state["best_weights"])
    network.to("cpu").eval()
    return network, state["log"]


def training_seconds(folder):
    """Seconds that the run in ``folder`` has trained, those before it was killed included."""
    return torch.load(Path(folder) / "checkpoint.pt", weights_only=True, map_location="cpu")["state"]["seconds"]


def _line(row, recipe, seconds):
    left = seconds / row["epoch"] * (recipe.epochs - row["epoch"])
    return (
        f"epoch {row['epoch']}/{recipe.epochs}  loss {row['train_loss']:.2e}  Dice {row['dice']:.3f}  "
        f"{row['mpixel'] / max(seconds, 1e-9):.2f} Mpixel/s  {left:.0f} s left"
    )


def _fabric(recipe, samples, devices):
    """Where and how precisely to compute; starts the other processes where there are several."""
    from lightning_fabric import Fabric  # takes a second, which no other command should wait for
    from lightning_fabric.plugins import MixedPrecision

    class FullInput(MixedPrecision):
        """An image keeps its digits: in bfloat16 a bright star's light would be known to three sigma."""

        def convert_input(self, data):
            return data

    if devices > 1 and (recipe.network.norm == "batch" or recipe.loss in ("dice", "tversky")):
        raise InputError(
            f"{devices} devices: batch normalisation and the losses dice and tversky see a whole batch at once: use one"
        )
    if recipe.batch % devices or samples % devices:
        raise InputError(f"{devices} devices: must divide the batch of {recipe.batch} and the {samples} of an epoch")
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda":
        hardware = torch.cuda.is_bf16_supported()
    else:
        hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            **({"plugins": FullInput("bf16-mixed", accelerator)} if recipe.bf16 and hardware else {}),
        )
        fabric.launch()
    return fabric


def fresh_network(recipe, cr_share):
    """Give the network of a recipe before its first step.

    Parameters
    ----------
    recipe : crcore.recipe.Recipe
    cr_share : float
        Prior probability of a ray, for ``prior_bias``.

    Returns
    -------
    torch.nn.Module
        With weights by Kaiming's rule and biases of zero, or those of ``recipe.init``.

    Raises
    ------
    InputError
        When ``recipe.init`` is unknown, or of another architecture or input.
    """
    if recipe.init:
        return _initial(recipe)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = build(recipe.network).to(memory_format=torch.channels_last)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.zeros_(module.bias)
            elif isinstance(module, torch.nn.Linear):  # what the census says is heard little by little
                torch.nn.init.zeros_(module.weight)
        if recipe.network.architecture == "compact":  # without normalisation, levels below begin silent
            for layer in network.widen:
                torch.nn.init.zeros_(layer.weight)
        torch.nn.init.xavier_normal_(network.leave.weight, gain=0.1)
        if recipe.network.fine:  # begin with the first answer, and learn what to add
            torch.nn.init.constant_(network.leave.weight[:, :1], 1.0)
            torch.nn.init.xavier_normal_(network.coarse.weight, gain=0.1)
    if recipe.prior_bias:
        torch.nn.init.constant_(network.leave.bias, float(np.log(cr_share / (1 - cr_share))))
    return network


def _initial(recipe):
    """The model that is to be fine-tuned."""
    official = recipe.init.startswith("official:")
    model = zoo.load_official(recipe.init.removeprefix("official:")) if official else zoo.load(recipe.init)
    mine, its = recipe.network, model.config
    larger = mine.depth - its.depth in (0, 1) and mine.fine >= its.fine and mine.architecture == "compact"
    grown = larger and dataclasses.replace(mine, depth=its.depth, fine=its.fine) == its
    for what, old, new in (("network", its, its if grown else mine), ("input", model.input, recipe.input)):
        if old != new:
            raise InputError(f"init: {recipe.init}: its {what} is {old}, the recipe's {new}: give the recipe its own")
    network = grow(model.network, its, mine, recipe.seed) if grown else model.network
    return network.train()


def _teachers(recipe):
    """The networks that teach."""
    models = [zoo.load(name.strip()) for name in recipe.teacher.split(",") if name.strip()]
    for model in models:
        if model.input != recipe.input:
            raise InputError(f"teacher: {model.name}: its input is {model.input!r}, the recipe's {recipe.input!r}")
        if recipe.stamp_px % model.config.multiple:
            raise InputError(f"teacher: {model.name}: stamp_px must be a multiple of {model.config.multiple} for it")
    return [model.network for model in models]


def _schedule(optimizer, recipe):
    if recipe.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    if recipe.schedule == "cosine":
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
        )
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=recipe.patience, min_lr=1e-6)


def _batches(source, recipe, samples, epoch, fabric):
    """Yield the mini-batches of an epoch: the number of the first stamp, and the part for this process.

    Each stamp has a random stream of its own, so that it is the same in a resumed run, and whichever
    process draws it.
    """
    order = epoch_indices(len(source), samples, np.random.default_rng([recipe.seed, epoch]))
    jobs, starts = [], range(0, samples, recipe.batch)
    for start in starts:
        mine = range(start, min(start + recipe.batch, samples))[fabric.global_rank :: fabric.world_size]
        jobs.append((order[mine], [np.random.default_rng([recipe.seed, epoch, k]) for k in mine]))
    for start, stamps in zip(starts, ahead(source.draw, jobs), strict=True):
        yield start, _tensors(stamps, fabric.device)


def _tensors(stamps, device):
    return tuple(
        torch.from_numpy(a).to(device) for a in (stamps.image, stamps.target, stamps.median, stamps.use, stamps.census)
    )


def _step(fabric, model, optimizer, batch, recipe, alpha, folder, taught=None):
    """One update; returns the loss."""
    image, target, median, use, census = batch
    logits = model(image.contiguous(memory_format=torch.channels_last), census).float()
    # A pixel that is certainly not a ray costs nothing: those without weight leave the loss.
    logits = torch.where(use > 0, logits, torch.full_like(logits, -30.0))
    if recipe.source_weight:
        if taught is not None:
            target = _LABELS * target + (1 - _LABELS) * taught
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, weight=use)
    else:
        loss = LOSSES[recipe.loss](logits, target, median, alpha)
    if not torch.isfinite(loss):
        path = folder / "nan_batch.npz"
        with results.atomic(path) as part:
            arrays = (tensor.cpu().numpy() for tensor in batch)
            np.savez_compressed(part, **dict(zip(("image", "target", "median", "use", "census"), arrays, strict=True)))
        raise InputError(f"the loss is {loss.item()}: the batch is saved in {path}; lower lr or check the data")
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    optimizer.step()
    return fabric.all_reduce(loss.detach(), reduce_op="mean").item()


def _validate(fabric, network, valid, recipe):
    """Loss and Dice over the trusted pixels of all validation exposures."""
    was_training = network.training
    network.eval()
    overlap = total = loss = 0.0
    pixels = 0
    side = recipe.validate_px // network.multiple * network.multiple
    with torch.inference_mode(), fabric.autocast():
        for stamps in ahead(valid.whole, [(index, index % 3, side) for index in range(len(valid))]):
            image, target, _, use, census = _tensors(stamps, fabric.device)
            h, w = (n // network.multiple * network.multiple for n in image.shape[-2:])
            image, target, use = (t[..., :h, :w] for t in (image, target, use))
            logits = network(image.contiguous(memory_format=torch.channels_last), census).float()
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


def _key(recipe, paths, network, teachers):
    """What a checkpoint must agree in to be resumed, part by part."""
    data = hashlib.sha256()
    for path in paths:
        data.update(Path(path).read_bytes())
    for given in [network] * bool(recipe.init) + teachers:
        for tensor in given.state_dict().values():
            data.update(tensor.cpu().numpy().tobytes())
    settings = dataclasses.asdict(recipe)
    network = settings.pop("network")
    return {
        "architecture": repr(network),
        "recipe": repr(settings),
        "data": data.hexdigest(),
        "code": results.code_hash(*_CODE),
        "torch": str(torch.__version__),
    }


def _save(checkpoint, key, network, mean, optimizer, schedule, state):
    content = {
        "key": key,
        "weights": network.state_dict(),
        "mean": mean.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "state": state,
    }
    with results.atomic(checkpoint) as part:
        torch.save(content, part)


def _load(checkpoint, key, resume):
    """The checkpoint to go on from, or None."""
    if not checkpoint.exists():
        return None
    try:
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        found = saved["key"] if isinstance(saved["key"], dict) else {}  # an earlier version wrote text
    except Exception as error:  # a foreign file: nothing in it may run, and it is not ours to resume
        raise InputError(f"{checkpoint}: is no checkpoint of crcore ({type(error).__name__}): move it away") from None
    other = [part for part in key if found.get(part) != key[part]]
    if resume is False:
        what = f"another {', '.join(other)}: move it away" if other else "this run: add --resume to go on"
        raise InputError(f"{checkpoint}: is there already, at epoch {saved['state']['epoch']} of {what}")
    if other and resume:
        raise InputError(f"{checkpoint}: is of another {', '.join(other)}: it cannot go on here; move it away")
    return None if other else saved
