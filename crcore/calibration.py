"""Probabilities that mean what they say: calibration, the rate of rays, and the confidence of one position.

A network learns how likely a ray is *in its training data*, where rays are many times more frequent than in most
exposures. Three steps make its answer a frequency: scaling on validation data (Platt 1999), a shift to the share of ray
pixels that is expected of an exposure, and a check by the reliability diagram. Section 4.4 of the paper reads the
confidence of one position off the precision-recall curve; `precision_at` does.
"""

import itertools

import numpy as np
from scipy import special

from crcore.errors import InputError

__all__ = [
    "RAYS_PER_CM2_S",
    "calibrate",
    "expected_calibration_error",
    "expected_share",
    "operating_curve",
    "precision_at",
    "reliability",
    "shift_prior",
]

#: rays per second and square centimetre at sea level: one muon a minute (Particle Data Group 2024, section 30.3.3)
RAYS_PER_CM2_S = 1 / 60

#: probabilities at which a model's operating curve is kept, evenly spaced in log odds
_POINTS = special.expit(np.linspace(-9, 9, 61))


def calibrate(model, scores):
    """Scale a model's logits so that its probabilities are frequencies (Platt scaling).

    logit' = a logit + b with the a and b of highest likelihood on the scored pixels (Platt 1999): 1/a is the
    temperature, b the shift of the prior. Both go into the last convolution, so the order of pixels stays.

    Parameters
    ----------
    model : crcore.zoo.Model
        Changed in place.
    scores : crcore.metrics.PixelScores
        Of the model, on validation data.

    Returns
    -------
    a, b : float
    """
    from scipy import optimize  # a quarter of a second, which no detection should wait for

    prob, rays, others = scores.histogram()
    logit = special.logit(np.clip(prob, 1e-30, 1 - 1e-9))
    if not (scores.positives and scores.negatives) or np.ptp(logit) < 1e-6:
        return 1.0, 0.0

    def loss(parameters):
        z = np.exp(parameters[0]) * logit + parameters[1]
        return (rays @ np.logaddexp(0, -z) + others @ np.logaddexp(0, z)) / scores.positives

    best = optimize.minimize(
        loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000}
    )
    a, b = float(np.exp(best.x[0])), float(best.x[1])
    import torch

    with torch.no_grad():
        model.network.leave.weight.mul_(a)
        model.network.leave.bias.mul_(a).add_(b)
    return a, b


def operating_curve(scores):
    """Recall and false-positive rate at probabilities spread over all log odds, small enough to go with a model.

    Parameters
    ----------
    scores : crcore.metrics.PixelScores

    Returns
    -------
    tuple of (float, float, float)
        Probability, share of the ray pixels at or above it, share of the other pixels at or above it; increasing
        probability. Empty where a class is.
    """
    prob, rays, others = scores.histogram()
    if not (scores.positives and scores.negatives):
        return ()
    first = np.searchsorted(prob, _POINTS)
    above = [np.concatenate([np.cumsum(n[::-1])[::-1], [0]])[first] / n.sum() for n in (rays, others)]
    return tuple((float(p), float(r), float(f)) for p, r, f in zip(_POINTS, *above, strict=True))


def shift_prior(prob, share, expected):
    """Probabilities for exposures in which rays are rarer, or more frequent, than in the data of calibration.

    Bayes' rule: the odds change by the ratio of the prior odds.

    Parameters
    ----------
    prob : numpy.ndarray or float
        Probabilities in [0, 1].
    share, expected : float
        Share of ray pixels in the calibration data, and in the exposure; both between 0 and 1, exclusive.

    Returns
    -------
    numpy.ndarray
        Of the shape of ``prob``, float32 where that is.

    Raises
    ------
    InputError
        For a share that is none.

    Examples
    --------
    >>> from crcore.calibration import shift_prior
    >>> float(round(shift_prior(0.5, 0.5, 0.1), 6))
    0.1
    """
    for name, value in (("share", share), ("expected share", expected)):
        if not 0 < value < 1:
            raise InputError(f"{name} of ray pixels {value}: a number between 0 and 1 is needed")
    prob = np.asarray(prob)
    ratio = np.asarray(expected / (1 - expected) / (share / (1 - share)), dtype=np.result_type(prob, np.float32))
    odds_up = prob * ratio
    return odds_up / (odds_up + (1 - prob))


def expected_share(exposure_s, pixel_um, *, rate_per_cm2_s=RAYS_PER_CM2_S, pixels_per_ray=5.0):
    """Share of the pixels that rays are expected to touch.

    Parameters
    ----------
    exposure_s : float
        Exposure time, seconds.
    pixel_um : float
        Side of a (binned) pixel, micrometres.
    rate_per_cm2_s : float, optional
        Rays per second and square centimetre.
    pixels_per_ray : float, optional
        Mean size of a ray in these pixels.

    Raises
    ------
    InputError
        Where one of them is not positive.
    """
    given = {"exposure_s": exposure_s, "pixel_um": pixel_um, "rate": rate_per_cm2_s, "pixels_per_ray": pixels_per_ray}
    for name, value in given.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} = {value}: a positive number is needed")
    touched = exposure_s * (pixel_um * 1e-4) ** 2 * rate_per_cm2_s * pixels_per_ray
    return float(-np.expm1(-touched))  # rays fall on each other: never above one


def reliability(scores, *, above=0.01, bins=10):
    """What share of the pixels with a probability really are rays: the reliability diagram.

    Nearly all pixels have probabilities near zero, and would make any detector look calibrated: those at or
    below ``above`` do not count.

    Parameters
    ----------
    scores : crcore.metrics.PixelScores
    above : float, optional
    bins : int, optional
        Equal steps of probability from ``above`` to 1.

    Returns
    -------
    list of dict
        ``low``, ``high``, ``pixels``; and where there are pixels ``prob`` (mean), ``frequency``, ``error`` (its
        standard error), else NaN.
    """
    prob, rays, others = scores.histogram()
    edges = np.linspace(above, 1, bins + 1)
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (prob > low) & (prob <= high)
        n = int(rays[inside].sum() + others[inside].sum())
        mean = frequency = error = float("nan")
        if n:
            mean = float(((rays + others) * prob)[inside].sum() / n)
            frequency = float(rays[inside].sum() / n)
            error = float(np.sqrt(frequency * (1 - frequency) / n))
        rows.append({"low": float(low), "high": float(high), "pixels": n, "prob": mean, "frequency": frequency,
                     "error": error})  # fmt: skip
    return rows


def expected_calibration_error(scores, *, above=0.01, bins=10):
    """Mean distance between probability and frequency, weighted by pixels; NaN without pixels above ``above``."""
    rows = [row for row in reliability(scores, above=above, bins=bins) if row["pixels"]]
    total = sum(row["pixels"] for row in rows)
    if not total:
        return float("nan")
    return sum(row["pixels"] * abs(row["prob"] - row["frequency"]) for row in rows) / total


def precision_at(frame, x, y, *, model=None, detection=None, expected=1e-4):
    """How far a detection at one position can be trusted: the precision of all that scores at least as high.

    Section 4.4 asks so whether the peak of a supernova's progenitor is a ray: where pixels that score at least as high
    are hardly ever rays, it is none. Read off the operating curve that comes with a model, at the share of ray pixels
    that is expected of the exposure.

    Parameters
    ----------
    frame : array-like, path, `astropy.nddata.CCDData` or `crcore.frame.Frame`
        What `crcore.detect` takes.
    x, y : int
        Column and row of the pixel, counted from 0.
    model : str, pathlib.Path or crcore.zoo.Model, optional
        The default of `crcore.detect`.
    detection : crcore.detection.Detection, optional
        Of this frame by this model, where it is there already.
    expected : float, optional
        Share of ray pixels in the exposure (see `expected_share`).

    Returns
    -------
    dict
        ``prob`` there; ``precision``, ``recall`` and ``false_positive_rate`` of a threshold at it.

    Raises
    ------
    InputError
        For a position outside, one that was not evaluated, or a model without a curve.
    """
    from crcore import zoo
    from crcore.detection import DEFAULT_MODEL, detect

    model = zoo.load(model or DEFAULT_MODEL) if not isinstance(model, zoo.Model) else model
    if not model.curve:
        raise InputError(f"model {model.name!r}: comes without an operating curve: train it again with this version")
    if not 0 < expected < 1:
        raise InputError(f"expected share of ray pixels {expected}: a number between 0 and 1 is needed")
    found = detect(frame, model=model) if detection is None else detection
    height, width = found.prob.shape
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"x = {x}, y = {y}: outside the image of {height} rows and {width} columns")
    if found.not_evaluated[int(y), int(x)]:
        raise InputError(f"x = {x}, y = {y}: was not evaluated (bad, saturated or no data)")
    prob = float(found.prob[int(y), int(x)])
    if found.expected is not None:  # the curve is that of probabilities as the model gives them
        prob = float(shift_prior(prob, found.expected, model.share))
    points, recall, false = np.array(model.curve).T
    at = special.logit(np.clip(prob, points[0], points[-1]))
    recall, false = (float(np.interp(at, special.logit(points), values)) for values in (recall, false))
    right, wrong = recall * expected, false * (1 - expected)
    precision = right / (right + wrong) if right + wrong > 0 else 1.0
    return {"prob": prob, "precision": precision, "recall": recall, "false_positive_rate": false}
