"""Ten million pixels through the metrics: seconds, memory beyond the pixels, and the distance to scikit-learn.

python benchmarks/metrics.py
"""

import time
import tracemalloc

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from crcore.metrics import PixelScores


def judge(prob, truth, frames):
    """All that Table 2 needs, a frame at a time, as they come."""
    scores = PixelScores()
    for part in zip(np.array_split(prob, frames), np.array_split(truth, frames), strict=True):
        scores.add(*part)
    return {
        "average precision": scores.average_precision(),
        "TPR at 0.01% FPR": scores.tpr_at_fpr(1e-4),
        "TPR at 0.1% FPR": scores.tpr_at_fpr(1e-3),
        "precision at 95% recall": scores.precision_at_recall(0.95),
    }


def main():
    rng = np.random.default_rng(1)
    n, frames = 10_000_000, 10
    truth = rng.random(n) < 1e-3
    logit = rng.normal(-9, 2, n) + 11 * truth
    prob = (1 / (1 + np.exp(-logit))).astype(np.float32)
    del logit
    begun = time.perf_counter()
    ours = judge(prob, truth, frames)
    seconds = time.perf_counter() - begun
    tracemalloc.start()
    judge(prob, truth, frames)  # once more: tracing takes time
    memory = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    fpr, tpr, _ = roc_curve(truth, prob, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(truth, prob)
    theirs = {
        "average precision": average_precision_score(truth, prob),
        "TPR at 0.01% FPR": np.interp(1e-4, fpr, tpr),
        "TPR at 0.1% FPR": np.interp(1e-3, fpr, tpr),
        "precision at 95% recall": np.interp(0.95, recall[::-1], precision[::-1]),
    }
    print(f"{n / 1e6:.0f} million pixels: {seconds:.2f} s, {memory:.0f} MB beyond the pixels\n")
    print("| | ours | scikit-learn | difference |\n| --- | --- | --- | --- |")
    for name, value in ours.items():
        print(f"| {name} | {value:.6f} | {theirs[name]:.6f} | {abs(value - theirs[name]):.1e} |")


if __name__ == "__main__":
    main()
