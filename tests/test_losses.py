import numpy as np
import pytest
import torch
from scipy import ndimage

from crcore import losses


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 1, 24, 24))
    target = (rng.random((2, 1, 24, 24)) < 0.05).astype(float)
    median = rng.normal(0, 5, (2, 1, 24, 24))
    median[:, :, 8:14, 8:14] += 200
    return logits, target, median


def tensors(*arrays):
    return tuple(torch.tensor(a, dtype=torch.float32) for a in arrays)


def numpy_weight(median, alpha):
    """Section 3.1 step by step in float64."""
    weights = np.empty_like(median)
    axis = np.arange(-2, 3)
    kernel = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 8)
    kernel /= kernel.sum()
    for i, image in enumerate(median[:, 0]):
        # torch's median is the lower of the two middle values
        ordered = np.sort(image.ravel())
        level = image - ordered[(ordered.size - 1) // 2]
        spread = np.sort(np.abs(level).ravel())
        sigma = 1.4826 * spread[(spread.size - 1) // 2]
        smooth = ndimage.correlate(np.clip(level, sigma, 5 * sigma), kernel, mode="nearest")
        weights[i, 0] = np.maximum((smooth - smooth.min()) / (smooth.max() - smooth.min()), alpha)
    return weights


def test_cross_entropy_is_equation_1(data):
    logits, target, _ = data
    p = 1 / (1 + np.exp(-logits))
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    assert losses.bce_loss(*tensors(logits, target)).item() == pytest.approx(expected, rel=1e-5)


def test_weight_follows_the_papers_steps(data):
    median = data[2]
    for alpha in (0.0, 0.1, 0.7):
        assert losses.median_weight(*tensors(median), alpha).numpy() == pytest.approx(
            numpy_weight(median, alpha), abs=1e-5
        )


def test_median_weighted_loss_is_equation_2(data):
    logits, target, median = data
    p, m = 1 / (1 + np.exp(-logits)), numpy_weight(median, 0.2)
    expected = -(target * np.log(p) + m * (1 - target) * np.log(1 - p)).mean()
    assert losses.median_weighted_loss(*tensors(logits, target, median), 0.2).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_median_weighted_loss_ends_as_cross_entropy(data):
    logits, target, median = tensors(*data)
    assert losses.median_weighted_loss(logits, target, median, 1.0).equal(losses.bce_loss(logits, target))


def test_weight_keeps_sources_and_lowers_the_sky(data):
    weight = losses.median_weight(*tensors(data[2]), 0.0)
    assert weight[:, :, 10:12, 10:12].min() > 0.95
    assert weight[:, :, :4, :4].mean() < 0.2


def test_dice_loss_of_a_perfect_and_of_an_empty_prediction():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 2:6] = 1
    assert losses.dice_loss((target - 0.5) * 100, target).item() == pytest.approx(0, abs=1e-6)
    assert losses.dice_loss(torch.full_like(target, -100), target).item() == pytest.approx(1 - 1 / 17, abs=1e-6)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[[200.0, -200.0]]]], requires_grad=True)
    target = torch.tensor([[[[0.0, 1.0]]]])
    loss = losses.median_weighted_loss(logits, target, torch.zeros(1, 1, 1, 2), 0.5)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_focal_loss_is_its_formula(data):
    logits, target, _ = data
    p = 1 / (1 + np.exp(-logits))
    own = np.where(target > 0, p, 1 - p)
    expected = (-((1 - own) ** 2) * np.log(own)).mean()
    assert losses.focal_loss(*tensors(logits, target)).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_without_focus_is_cross_entropy(data):
    logits, target, _ = tensors(*data)
    assert losses.focal_loss(logits, target, gamma=0.0).item() == pytest.approx(
        losses.bce_loss(logits, target).item(), rel=1e-6
    )


def test_tversky_loss_is_its_formula(data):
    logits, target, _ = data
    p = 1 / (1 + np.exp(-logits))
    found = (p * target).sum()
    expected = 1 - (found + 1) / (found + 0.7 * (target * (1 - p)).sum() + 0.3 * (p * (1 - target)).sum() + 1)
    assert losses.tversky_loss(*tensors(logits, target)).item() == pytest.approx(expected, rel=1e-4)


def test_tversky_loss_of_even_weights_is_dice(data):
    logits, target, _ = tensors(*data)
    assert losses.tversky_loss(logits, target, miss=0.5, smooth=0.0).item() == pytest.approx(
        losses.dice_loss(logits, target, smooth=0.0).item(), rel=1e-5
    )


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_every_loss_falls_as_the_prediction_improves(data, name):
    _, target, median = tensors(*data)
    good, bad = (losses.LOSSES[name](scale * (target - 0.5), target, median, 0.5) for scale in (8.0, 2.0))
    assert good < bad


def test_steps_of_the_weight_are_what_the_paper_lists(data):
    steps = losses.median_weight_steps(*tensors(data[2]), 0.2)
    assert list(steps) == ["sky subtracted", "clipped", "smoothed", "weight"]
    sigma = 1.4826 * steps["sky subtracted"][0].abs().median()
    assert steps["clipped"][0].min().item() == pytest.approx(sigma.item(), rel=1e-5)
    assert steps["clipped"][0].max().item() == pytest.approx(5 * sigma.item(), rel=1e-5)
    assert steps["weight"].min() == pytest.approx(0.2)
