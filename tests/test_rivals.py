import sys
import warnings

import numpy as np
import pytest

from crcore.errors import InputError
from crcore.frame import Frame
from crcore.rivals import (
    AstroScrappy,
    DfCosmic,
    LaCosmic,
    ReleasedCosmicConn,
    ReleasedDeepCR,
    default_rivals,
    paper_objlim,
)


@pytest.fixture(scope="module")
def frame():
    image = np.random.default_rng(0).normal(200, 15, (100, 117)).astype(np.float32)
    image[40, 30:44] += 3000
    return Frame(image, read_noise=5.0, saturation=6e4)


@pytest.mark.parametrize("make", [AstroScrappy, LaCosmic, DfCosmic, ReleasedCosmicConn, ReleasedDeepCR])
def test_every_rival_answers_like_a_detector(make, frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's code
        found = make()(frame)
    assert found.prob.shape == found.not_evaluated.shape == frame.shape
    assert 0 <= found.prob.min() <= found.prob.max() <= 1
    assert found.mask[40, 32:42].all()
    assert found.mask.mean() < 0.05


def test_edges_that_released_cosmic_conn_never_sees_are_marked(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ReleasedCosmicConn()(frame)
    assert found.not_evaluated[96:].all()
    assert found.not_evaluated[:, 112:].all()
    assert not found.not_evaluated[:96, :112].any()
    assert (found.prob[96:] == 0).all()


def test_score_of_astroscrappy_counts_settings_that_flag(frame):
    sweep = AstroScrappy(sigclips=(3.0, 6.0))(frame)
    single = [AstroScrappy(sigclips=(s,))(frame).mask for s in (3.0, 6.0)]
    assert np.array_equal(sweep.prob, (single[0].astype(np.float32) + single[1]) / 2)


def test_objlim_is_the_papers():
    assert [paper_objlim(c) for c in ("0m4a", "0.4 m", "1m0a", "2m0a")] == [0.5, 0.5, 2.0, 2.0]


def test_a_missing_rival_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepCR", None)
    with pytest.raises(InputError, match="pip install"):
        ReleasedDeepCR()


def test_a_missing_rival_is_named_and_the_others_are_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "lacosmic", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detectors, missing = default_rivals()
    assert set(missing) == {"lacosmic"}
    assert "Astro-SCRAPPY" in detectors
