"""The losses of section 3.1, on logits: binary cross entropy, the median-weighted loss, Dice.

And two that the paper did not try: focal and Tversky.
"""

import torch
import torch.nn.functional as functional

__all__ = [
    "LOSSES",
    "bce_loss",
    "dice_loss",
    "focal_loss",
    "loss_parts",
    "median_weight",
    "median_weight_steps",
    "median_weighted_loss",
    "tversky_loss",
]


def bce_loss(logits, target):
    """Mean binary cross entropy, equation 1.

    Parameters
    ----------
    logits, target : torch.Tensor, shape (B, 1, H, W)
        Network output before the sigmoid; 1 where a cosmic ray is.
    """
    return functional.binary_cross_entropy_with_logits(logits, target)


def median_weight(median, alpha):
    """The median-weighted mask M that tells sources from background (section 3.1, Fig 4d).

    Sky subtraction; clip between one and five robust standard deviations; 5 x 5
    Gaussian smoothing with sigma 2; scale to [0, 1]; clamp from below at ``alpha``.

    Parameters
    ----------
    median : torch.Tensor, shape (B, 1, H, W)
        Cosmic-ray-free median frames.
    alpha : float
        Lower bound: the weight of the background.

    Returns
    -------
    torch.Tensor
        Weights in [alpha, 1], (B, 1, H, W).
    """
    return median_weight_steps(median, alpha)["weight"]


def median_weight_steps(median, alpha):
    """The steps of `median_weight` by name, as Fig 4 shows them; all (B, 1, H, W)."""
    flat = median.flatten(1)
    level = flat - flat.median(dim=1).values[:, None]
    sigma = 1.4826 * level.abs().median(dim=1).values[:, None].clamp_min(1e-6)
    clipped = torch.minimum(torch.maximum(level, sigma), 5 * sigma).view_as(median)
    axis = torch.arange(-2.0, 3.0)
    line = torch.exp(-(axis**2) / (2 * 2.0**2))
    kernel = (line[:, None] * line[None, :] / line.sum() ** 2).to(median)[None, None]
    smooth = functional.conv2d(functional.pad(clipped, (2, 2, 2, 2), mode="replicate"), kernel)
    low = smooth.amin(dim=(1, 2, 3), keepdim=True)
    span = (smooth.amax(dim=(1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
    return {
        "sky subtracted": level.view_as(median),
        "clipped": clipped,
        "smoothed": smooth,
        "weight": ((smooth - low) / span).clamp_min(alpha),
    }


def loss_parts(logits, target, weight=None):
    """The two terms of equations 1 and 2, averaged over all pixels.

    Returns
    -------
    cr, background : torch.Tensor
        Scalars; their ratio is the paper's effective loss ratio (1:6300 and so on).
    """
    cr = -(target * functional.logsigmoid(logits))
    background = -((1 - target) * functional.logsigmoid(-logits))
    if weight is not None:
        background = weight * background
    return cr.mean(), background.mean()


def median_weighted_loss(logits, target, median, alpha):
    """The median-weighted loss L_M, equation 2; equals `bce_loss` for ``alpha`` of 1.

    Parameters
    ----------
    logits, target, median : torch.Tensor, shape (B, 1, H, W)
        Network output, labels, and median frames.
    alpha : float
        Lower bound of the mask; grows from 0 to 1 during training.
    """
    if alpha >= 1:
        return bce_loss(logits, target)
    cr, background = loss_parts(logits, target, median_weight(median, alpha))
    return cr + background


def dice_loss(logits, target, smooth=1.0):
    """One minus the Dice overlap of probabilities and labels (Sudre et al. 2017)."""
    prob = torch.sigmoid(logits)
    overlap = (prob * target).sum()
    return 1 - (2 * overlap + smooth) / (prob.sum() + target.sum() + smooth)


def focal_loss(logits, target, gamma=2.0):
    """Binary cross entropy in which a pixel counts by (1 - p)^gamma of its own class's probability p.

    What is told apart already hardly counts (Lin et al. 2017, arXiv:1708.02002). The paper did not try it.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-entropy)) ** gamma * entropy).mean()


def tversky_loss(logits, target, miss=0.7, smooth=1.0):
    """One minus the Tversky index: Dice, in which misses and false alarms weigh ``miss`` and 1 - ``miss``.

    Salehi et al. 2017, arXiv:1706.05721. The paper did not try it.
    """
    prob = torch.sigmoid(logits)
    found = (prob * target).sum()
    missed, false = (target * (1 - prob)).sum(), (prob * (1 - target)).sum()
    return 1 - (found + smooth) / (found + miss * missed + (1 - miss) * false + smooth)


#: losses by the name a recipe gives; each takes (logits, target, median, alpha)
LOSSES = {
    "median_bce": median_weighted_loss,
    "bce": lambda logits, target, median, alpha: bce_loss(logits, target),
    "dice": lambda logits, target, median, alpha: dice_loss(logits, target),
    "focal": lambda logits, target, median, alpha: focal_loss(logits, target),
    "tversky": lambda logits, target, median, alpha: tversky_loss(logits, target),
}
