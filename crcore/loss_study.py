"""What a loss does to a network in its first few hundred images (section 3.1).

How the loss of rays compares with that of everything else, and what the network says of rays, of sources
and of the sky meanwhile: the two incorrect functions of the paper, if they happen.
"""

from dataclasses import dataclass

import numpy as np
import torch

from crcore.errors import InputError
from crcore.losses import loss_parts, median_weight
from crcore.networks import NetworkConfig
from crcore.recipe import Recipe
from crcore.sampling import StampSource, epoch_indices
from crcore.training import fresh_network

__all__ = ["STUDIED", "LossStudyConfig", "follow", "ratios", "telling_stamp"]

#: the losses that section 3.1 compares
STUDIED = ("bce", "median_bce")


@dataclass(frozen=True)
class LossStudyConfig:
    """How long to watch.

    Attributes
    ----------
    seeds : int
        Random experiments (10 in the paper).
    images : int
        Stamps that a network sees.
    ratio_at : int
        Images after which the trained loss ratio is taken (500 in the paper, of 1024 pixels).
    stamp_px, batch : int
        Side and number of the stamps of a mini-batch.
    width : int
        Channels of the network's first layer.
    lr : float
        Adam's learning rate. The paper's 0.001 moves a narrow network little in so few steps.
    input : str
        ``"counts"`` as in the paper, or ``"noise"``.
    """

    seeds: int = 10
    images: int = 1500
    ratio_at: int = 500
    stamp_px: int = 64
    batch: int = 10
    width: int = 8
    lr: float = 1e-2
    input: str = "counts"

    def __post_init__(self):
        if min(self.seeds, self.images, self.batch) < 1:
            raise InputError("loss study: seeds, images and batch must be at least 1")
        if self.ratio_at > self.images:
            raise InputError(
                f"loss study: ratio_at = {self.ratio_at} comes after the {self.images} images that are seen"
            )


def follow(paths, config, loss, seed):
    """Train a fresh network with a loss and write down, at each step, what it does.

    Parameters
    ----------
    paths : sequence of path-like
        Labelled sequences.
    config : LossStudyConfig
    loss : {"bce", "median_bce"}
        Equation 1, or equation 2 with α = 0, where the paper's training starts.
    seed : int
        Of weights and stamps; the same stamps for both losses.

    Returns
    -------
    list of dict
        One row a step: ``images`` seen before it; ``cr_loss``, ``other_loss``, the two terms of the loss; and the
        mean prediction on rays, on sources (where the mask of equation 2 exceeds one half) and on the sky.
        A kind of pixel that a batch has not got is NaN.
    """
    recipe = Recipe(network=NetworkConfig(width=config.width), input=config.input, stamp_px=config.stamp_px, seed=seed)
    source = StampSource(paths, config.stamp_px, config.input)
    network = fresh_network(recipe, source.cr_share)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    order = epoch_indices(len(source), config.images, np.random.default_rng([seed, 0]))
    rows = []
    for start in range(0, config.images, config.batch):
        mine = range(start, min(start + config.batch, config.images))
        stamps = source.draw(order[mine], [np.random.default_rng([seed, 0, k]) for k in mine])
        image, target, median = (torch.from_numpy(a) for a in (stamps.image, stamps.target, stamps.median))
        logits = network(image.contiguous(memory_format=torch.channels_last))
        weight = median_weight(median, 0.0)
        cr, other = loss_parts(logits, target, weight if loss == "median_bce" else None)
        optimizer.zero_grad(set_to_none=True)
        (cr + other).backward()
        optimizer.step()
        prob = torch.sigmoid(logits.detach())
        ray, bright = target > 0, weight > 0.5
        rows.append(
            {
                "loss": loss,
                "seed": seed,
                "images": start,
                "cr_loss": cr.item(),
                "other_loss": other.item(),
                "prob_rays": prob[ray].mean().item(),
                "prob_sources": prob[bright & ~ray].mean().item(),
                "prob_sky": prob[(weight < 0.1) & ~ray].mean().item(),
            }
        )
    return rows


def telling_stamp(paths, stamp_px, how="counts"):
    """The stamp that shows rays and sources at once: of one from each sequence, that with most of both.

    Returns
    -------
    crcore.sampling.Stamps
        Of one stamp; the product of its numbers of ray and source pixels is the largest.
    """
    source = StampSource(paths, stamp_px, how)
    best, most = None, -1.0
    for k in range(len(source)):
        stamps = source.draw([k], [np.random.default_rng([4, k])])
        bright = median_weight(torch.from_numpy(stamps.median), 0.0) > 0.5
        worth = float(stamps.target.sum()) * float(bright.sum())
        if worth > most:
            best, most = stamps, worth
    return best


def ratios(rows, at, share=0.2):
    """Loss of everything else for each unit of the rays' loss: at the start, and after ``at`` images.

    Parameters
    ----------
    rows : list of dict
        From `follow`, any losses and seeds.
    at : int
        Images seen.
    share : float, optional
        The first and the last part of these images, over which losses are added up.

    Returns
    -------
    list of dict
        One a loss: ``start``, ``end`` with ``start_low`` to ``end_high``, the 16 and 84 % of the seeds, and ``seeds``.
    """
    table = []
    for loss in dict.fromkeys(row["loss"] for row in rows):
        start, end = [], []
        for seed in sorted({row["seed"] for row in rows if row["loss"] == loss}):
            mine = [row for row in rows if (row["loss"], row["seed"]) == (loss, seed)]
            tail = [row for row in mine if (1 - share) * at <= row["images"] < at] or [mine[-1]]
            head = [row for row in mine if row["images"] < share * at]
            for values, some in ((start, head), (end, tail)):  # sums: a batch may have no ray
                values.append(sum(r["other_loss"] for r in some) / max(sum(r["cr_loss"] for r in some), 1e-30))
        found = {"loss": loss, "seeds": len(start)}
        for name, values in (("start", start), ("end", end)):
            low, high = np.percentile(values, [16, 84])
            found |= {name: float(np.mean(values)), f"{name}_low": float(low), f"{name}_high": float(high)}
        table.append(found)
    return table
