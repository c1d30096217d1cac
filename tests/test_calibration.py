import numpy as np
import pytest
from scipy import special

from crcore import InputError, zoo
from crcore.calibration import (
    calibrate,
    expected_calibration_error,
    expected_share,
    operating_curve,
    precision_at,
    reliability,
    shift_prior,
)
from crcore.detection import Detection, NetworkDetector
from crcore.metrics import PixelScores
from crcore.networks import NetworkConfig, build


@pytest.fixture
def model():
    config = NetworkConfig(width=8)
    return zoo.Model("tiny", build(config).eval(), config)


def scored(prob, truth):
    scores = PixelScores()
    scores.add(prob, truth)
    return scores


def drawn(rng, n=200_000, temperature=1.0):
    """Probabilities that are frequencies, then made too sure (or unsure) by a temperature."""
    logit = rng.normal(-2, 2, n)
    truth = rng.random(n) < special.expit(logit)
    return special.expit(logit / temperature).astype(np.float32), truth


def test_honest_probabilities_lie_on_the_diagonal():
    rows = reliability(scored(*drawn(np.random.default_rng(1))), above=0.01)
    assert sum(row["pixels"] for row in rows) > 100_000
    for row in rows:
        assert row["prob"] == pytest.approx(row["frequency"], abs=4 * row["error"] + 2e-3)


def test_the_calibration_error_sees_overconfidence():
    rng = np.random.default_rng(2)
    honest = expected_calibration_error(scored(*drawn(rng)))
    sure = expected_calibration_error(scored(*drawn(rng, temperature=0.4)))
    assert honest < 0.01
    assert sure > 0.05


def test_pixels_that_nobody_doubts_do_not_make_a_detector_look_calibrated():
    rng = np.random.default_rng(3)
    prob, truth = drawn(rng, temperature=0.4)
    many = np.concatenate([prob, np.full(10**6, 1e-4, np.float32)])
    with_sky = scored(many, np.concatenate([truth, np.zeros(10**6, bool)]))
    assert expected_calibration_error(with_sky) == pytest.approx(expected_calibration_error(scored(prob, truth)))


def test_nothing_above_the_limit_has_no_calibration_error():
    assert np.isnan(expected_calibration_error(scored(np.full(9, 1e-3), np.arange(9) == 0)))


def test_calibration_finds_the_temperature(model):
    prob, truth = drawn(np.random.default_rng(4), temperature=0.5)
    before = model.network.leave.weight.detach().clone()
    a, b = calibrate(model, scored(prob, truth))
    assert a == pytest.approx(0.5, rel=0.03)
    assert b == pytest.approx(0, abs=0.05)
    assert model.network.leave.weight.detach().numpy() == pytest.approx(a * before.numpy())


def test_a_shifted_prior_is_bayes_rule():
    # 1 of 100 pixels in training, 1 of 10,000 in the exposure: odds of 1:1 become odds of 99:9999.
    assert shift_prior(0.5, 0.01, 0.0001) == pytest.approx(99 / (99 + 9999))
    prob = np.array([0, 0.2, 1], dtype=np.float32)
    assert shift_prior(prob, 0.01, 0.01) == pytest.approx(prob)
    assert shift_prior(prob, 0.01, 0.3).dtype == np.float32


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match="between 0 and 1"):
        shift_prior(0.5, 0.01, share)


def test_the_expected_share_follows_time_and_area():
    one = expected_share(100, 10, rate_per_cm2_s=0.1, pixels_per_ray=4)
    assert one == pytest.approx(100 * 1e-6 * 0.1 * 4, rel=1e-4)
    assert expected_share(200, 20, rate_per_cm2_s=0.1, pixels_per_ray=4) == pytest.approx(8 * one, rel=1e-3)
    assert expected_share(1e9, 100) <= 1
    with pytest.raises(InputError, match="exposure_s"):
        expected_share(0, 10)


def test_the_operating_curve_falls_from_all_to_none():
    curve = np.array(operating_curve(scored(*drawn(np.random.default_rng(5)))))
    assert (np.diff(curve[:, 0]) > 0).all()
    assert (np.diff(curve[:, 1:], axis=0) <= 0).all()
    middle = curve[len(curve) // 2]
    prob, truth = drawn(np.random.default_rng(5))
    assert middle[0] == pytest.approx(0.5)
    assert middle[1] == pytest.approx((prob >= 0.5)[truth].mean(), abs=1e-3)
    assert middle[2] == pytest.approx((prob >= 0.5)[~truth].mean(), abs=1e-3)
    assert operating_curve(PixelScores()) == ()


def test_the_confidence_of_a_position_is_the_precision_of_its_score(model):
    curve = ((0.1, 0.99, 0.01), (0.5, 0.9, 0.001), (0.9, 0.5, 0.0))
    model = zoo.Model(**{**vars(model), "curve": curve})
    prob = np.array([[0.5, 0.9, 0.01]], dtype=np.float32)
    found = Detection(prob, np.array([[False, False, True]]), 0.5, "tiny")
    at = precision_at(None, 0, 0, model=model, detection=found, expected=0.01)
    assert at["precision"] == pytest.approx(0.9 * 0.01 / (0.9 * 0.01 + 0.001 * 0.99))
    assert precision_at(None, 1, 0, model=model, detection=found)["precision"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(InputError, match="not evaluated"):
        precision_at(None, 2, 0, model=model, detection=found)
    with pytest.raises(InputError, match="outside"):
        precision_at(None, 3, 0, model=model, detection=found)


def test_a_model_without_a_curve_says_so(model):
    with pytest.raises(InputError, match="operating curve"):
        precision_at(np.zeros((8, 8)), 0, 0, model=model)


def test_share_and_curve_come_back_from_disk(model, tmp_path):
    model = zoo.Model(**{**vars(model), "share": 0.002, "curve": ((0.1, 0.9, 0.01), (0.5, 0.5, 0.001))})
    zoo.save(tmp_path / "tiny", model, card="# tiny\n")
    again = zoo.load(tmp_path / "tiny")
    assert (again.share, again.curve) == (model.share, model.curve)
    assert NetworkDetector(again)(_frame()).prob.shape == (16, 16)


def _frame():
    from crcore import Frame

    return Frame(np.random.default_rng(0).normal(100, 10, (16, 16)))


def test_shifted_probabilities_are_read_off_the_same_curve():
    from crcore import detect, zoo

    image = np.random.default_rng(3).normal(200, 10, (64, 64)).astype(np.float32)
    image[20, 15:19] += 120
    model = zoo.load("generic")
    plain, shifted = detect(image, model=model), detect(image, model=model, expected=1e-4)
    a, b = (precision_at(image, 16, 20, model=model, detection=d, expected=1e-3) for d in (plain, shifted))
    assert b["precision"] == pytest.approx(a["precision"], rel=1e-3)
    with pytest.raises(InputError, match="expected"):
        precision_at(image, 16, 20, model=model, detection=plain, expected=2)
