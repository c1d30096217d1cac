import numpy as np
import pytest
from sklearn import metrics as reference

from crcore.metrics import PixelScores, bootstrap, bootstrap_difference


def scored(prob, truth):
    scores = PixelScores()
    scores.add(prob, truth)
    return scores


@pytest.fixture
def sample():
    rng = np.random.default_rng(1)
    truth = rng.random(200_000) < 0.01
    logit = rng.normal(-6, 2, truth.size) + 9 * truth
    return (1 / (1 + np.exp(-logit))).astype(np.float32), truth


def test_average_precision_agrees_with_scikit_learn(sample):
    assert scored(*sample).average_precision() == pytest.approx(
        reference.average_precision_score(sample[1], sample[0]), abs=1e-4
    )


def test_area_under_roc_agrees_with_scikit_learn(sample):
    fpr, tpr = scored(*sample).roc()
    assert np.trapezoid(tpr, fpr) == pytest.approx(reference.roc_auc_score(sample[1], sample[0]), abs=1e-4)


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
def test_tpr_is_interpolated_on_scikit_learns_roc(sample, rate):
    fpr, tpr, _ = reference.roc_curve(sample[1], sample[0], drop_intermediate=False)
    assert scored(*sample).tpr_at_fpr(rate) == pytest.approx(np.interp(rate, fpr, tpr), abs=2e-3)


def test_precision_at_recall_of_a_small_case():
    # By falling probability: ray, other, ray, ray, other. Two rays of three are found with one false alarm.
    scores = scored(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 1, 0], dtype=bool))
    assert scores.precision_at_recall(2 / 3) == pytest.approx(2 / 3)
    assert scores.precision_at_recall(1.0) == pytest.approx(3 / 4)


def test_tied_scores_count_together():
    scores = scored(np.full(10, 0.5), np.arange(10) < 2)
    assert scores.average_precision() == pytest.approx(0.2)
    assert scores.tpr_at_fpr(0.5) == pytest.approx(0.5)


def test_scores_near_one_are_told_apart():
    prob = np.array([1 - 1e-6, 1 - 1e-5, 1 - 1e-4], dtype=np.float32)
    assert scored(prob, np.array([True, False, False])).average_precision() == 1.0


def test_mask_at_a_threshold():
    at = scored(np.array([0.9, 0.6, 0.4, 0.1]), np.array([True, False, True, False])).at_threshold(0.5)
    assert at == {"recall": 0.5, "precision": 0.5, "dice": 0.5}


def test_frames_add_up(sample):
    prob, truth = sample
    parts = PixelScores()
    for half in (slice(None, 100_000), slice(100_000, None)):
        parts.merge(scored(prob[half], truth[half]))
    assert parts.average_precision() == scored(prob, truth).average_precision()


def test_pixels_out_of_use_do_not_count():
    scores = PixelScores()
    scores.add(np.array([0.9, 0.1]), np.array([False, True]), np.array([False, True]))
    assert (scores.positives, scores.negatives) == (1, 0)


def test_no_rays_give_no_number():
    scores = scored(np.array([0.1, 0.2]), np.array([False, False]))
    assert np.isnan([scores.tpr_at_fpr(1e-4), scores.precision_at_recall(0.95), scores.average_precision()]).all()


def test_precision_is_scaled_to_a_common_prevalence():
    # 10 rays in 100 other pixels, one false alarm: at one ray in 1,000 others there would be ten.
    prob = np.concatenate([np.full(10, 0.9), [0.95], np.zeros(99)])
    scores = scored(prob, np.arange(110) < 10)
    assert scores.precision_at_recall(1.0) == pytest.approx(10 / 11)
    assert scores.precision_at_recall(1.0, prevalence=1e-2) == pytest.approx(10 / 20)


def made_frames(rng, n, pixels=4000):
    """Frames of different difficulty, and their probabilities."""
    frames, raw = [], []
    for _ in range(n):
        truth = rng.random(pixels) < 0.03
        prob = np.clip(rng.normal(0.2, 0.1, pixels) + truth * rng.normal(rng.uniform(0.1, 0.5), 0.1, pixels), 0, 1)
        frames.append(PixelScores())
        frames[-1].add(prob, truth)
        raw.append((prob, truth))
    return frames, raw


def test_bootstrap_by_frame_agrees_with_scikit_learn_on_drawn_frames():
    frames, raw = made_frames(np.random.default_rng(3), 12)
    low, high = bootstrap(frames, {"ap": PixelScores.average_precision}, np.random.default_rng(4), n=200)["ap"]
    rng, values = np.random.default_rng(4), []
    for _ in range(200):
        chosen = rng.integers(0, 12, 12)
        prob, truth = (np.concatenate([raw[k][i] for k in chosen]) for i in (0, 1))
        values.append(reference.average_precision_score(truth, prob))
    np.testing.assert_allclose([low, high], np.percentile(values, [2.5, 97.5]), atol=0.01)


def test_intervals_are_wider_for_frames_that_differ_and_for_fewer_frames():
    many, _ = made_frames(np.random.default_rng(5), 40)
    few = many[:6]
    width = {}
    for name, frames in (("many", many), ("few", few)):
        low, high = bootstrap(frames, {"ap": PixelScores.average_precision}, np.random.default_rng(6))["ap"]
        width[name] = high - low
    assert width["few"] > 1.5 * width["many"] > 0


def test_frames_without_rays_have_no_interval():
    empty = PixelScores()
    empty.add(np.zeros(10), np.zeros(10, bool))
    limits = bootstrap([empty], {"ap": PixelScores.average_precision}, np.random.default_rng(1), n=5)["ap"]
    assert np.isnan(limits).all()


def test_pairs_of_frames_show_a_difference_that_two_intervals_hide():
    rng = np.random.default_rng(7)
    frames, raw = made_frames(rng, 12)
    worse = []
    for prob, truth in raw:
        worse.append(PixelScores())
        worse[-1].add(np.clip(prob + rng.normal(0, 0.05, prob.size), 0, 1), truth)
    ap = PixelScores.average_precision
    low, high = bootstrap_difference(frames, worse, ap, np.random.default_rng(1), n=200)
    assert 0 < low < high
    its, others = (bootstrap(f, {"ap": ap}, np.random.default_rng(1))["ap"] for f in (frames, worse))
    assert its[0] < others[1]  # alone they overlap
    assert bootstrap_difference(frames, frames, ap, np.random.default_rng(1), n=20) == (0, 0)
    with pytest.raises(ValueError, match="12 frames of one detector, 11 of the other"):
        bootstrap_difference(frames, worse[1:], ap, rng)
