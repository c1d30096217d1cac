import numpy as np
import pytest

from crcore import released_tools
from crcore.frame import Frame
from crcore.metrics import PixelScores


def test_a_rate_at_the_first_vertex_is_never_below_the_interpolated_one():
    scores, rng = PixelScores(), np.random.default_rng(1)
    truth = rng.random(20_000) < 0.05
    scores.add(np.round(np.clip(0.3 * truth + rng.random(20_000) * 0.7, 0, 1), 1), truth)
    for fpr in (1e-4, 1e-3, 1e-2):
        assert released_tools.first_vertex(scores, fpr) >= scores.tpr_at_fpr(fpr)
    assert released_tools.first_vertex(scores, 1e-4) > scores.tpr_at_fpr(1e-4)


def test_what_the_released_package_does_is_shown():
    pytest.importorskip("cosmic_conn")
    image = np.random.default_rng(1).normal(300, 18, (120, 130)).astype(np.float32)
    frame = Frame(image, read_noise=5.0)
    assert released_tools.unlooked(frame).startswith(f"{111 * 125 - 96 * 112} of")
    assert "pixels change side" in released_tools.side_changes(frame, 64)
    assert released_tools.printed_snippet().startswith("TypeError")
