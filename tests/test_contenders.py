"""Who is compared, on which sets."""

import importlib.util

import pytest

from crcore import contenders, evaluation, judging
from crcore.dataset import read_sequence
from crcore.labeling import LabelingConfig
from crcore.release import labelled_files
from crcore.simulate.datasets import SimulationConfig


def test_a_set_for_each_kind_of_field_and_frames_to_tune_on(tmp_path):
    config = SimulationConfig(shape=(96, 96), exposure_s=(300.0, 301.0), sequences={"acs_wfc": [0, 1, 1]})
    sets, tuning = judging.simulated_sets(tmp_path, config, LabelingConfig(border_px=8), fields=("galaxies", "cluster"))
    assert [s.name for s in sets] == ["HST extragalactic, simulated", "HST globular cluster, simulated"]
    assert [read_sequence(s.paths[0]).headers[0]["FIELD"] for s in sets] == ["galaxies", "cluster"]
    assert len(tuning) == 2
    assert not set(tuning) & {path for s in sets for path in s.paths}


def test_scrappy_is_tuned_for_each_camera(tiny_dataset):
    pytest.importorskip("astroscrappy")
    paths = labelled_files(tiny_dataset, "valid")
    tuned = contenders.tuned_scrappy(paths, (2.0, 5.0), side_px=64, steps=2)
    sequence = read_sequence(paths[0])
    camera = evaluation.camera_of(sequence.headers[0])
    assert set(tuned.settings) == {camera, "other"}
    assert tuned.settings[camera]["objlim"] in contenders.OBJLIMS
    assert tuned(sequence.frame(0)).prob.shape == sequence.data[0].shape
    paper = contenders.paper_scrappy((2.0, 5.0))
    assert {c: s["objlim"] for c, s in paper.settings.items()} == {
        "LCO 0.4 m": 0.5,
        "LCO 1 m": 2.0,
        "LCO 2 m": 2.0,
        "other": 2.0,
    }


def test_a_rival_that_is_not_there_is_a_named_gap():
    pytest.importorskip("astroscrappy")
    found, missing = contenders.contenders(["generic"], "lco", sigclips=(2.0, 5.0), every=True)
    assert "generic" in found
    if importlib.util.find_spec("maximask_and_maxitrack") is None:
        assert "crcore[maximask]" in missing["MaxiMask (released)"]
    assert set(found) | set(missing) == {
        "generic", "Cosmic-CoNN (released)", "deepCR (released)", "Astro-SCRAPPY", "deepCR WFC3 (released)",
        "deepCR DECam (released)", "MaxiMask (released)", "lacosmic", "dfcosmic",
    }  # fmt: skip
