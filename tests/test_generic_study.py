"""What notebook 11 counts."""

import numpy as np
import pytest

from crcore import figures_generic, generic_study
from crcore.detection import NetworkDetector
from crcore.generic_study import RAY_BINS, GenericStudyConfig
from crcore.simulate.datasets import SimulationConfig


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    simulation = SimulationConfig(
        seed=3, shape=(192, 192), visits=1, labels="truth", rate_factor=30.0, sequences={"random": [0, 0, 2]}
    )
    sets = generic_study.unseen_cameras(tmp_path_factory.mktemp("cameras"), GenericStudyConfig(simulation))
    binned = []
    detectors = {"generic": NetworkDetector("generic")}
    rows, _ = generic_study.score_by_kind(detectors, sets, np.random.default_rng(1), binned=binned)
    return rows, binned


def test_every_ray_and_detection_is_in_one_bin(scored):
    (row,), binned = scored
    mine = [r for r in binned if r["by"] == "distance_px"]
    rays, found, detections, right = (sum(r[k] for r in mine) for k in ("rays", "found", "detections", "right"))
    assert rays > 20
    assert found / rays == pytest.approx(row["completeness"])
    assert right / detections == pytest.approx(row["purity"])
    sources = next(r for r in mine if r["low"] == 0)
    for by in ("length_px", "charge_e"):
        assert sum(r["rays"] for r in binned if r["by"] == by) == rays - sources["rays"]


def test_bright_pixels_of_rays_are_found_and_faint_ones_less_often(scored):
    pixels = {r["low"]: r for r in scored[1] if r["by"] == "sigma"}
    assert pixels[2.5]["rays"] > 20
    assert pixels[30.0]["found"] / pixels[30.0]["rays"] > 0.9 > pixels[2.5]["found"] / pixels[2.5]["rays"]


def test_the_figure_names_every_bin(scored):
    figure = figures_generic.rays_by_kind(scored[1], least=1)
    assert len(figure.axes) == 2 * len(RAY_BINS)
    for axis, edges in zip(figure.axes, [*RAY_BINS.values()] * 2, strict=True):
        assert len(axis.get_xticks()) == len(edges)


def test_seconds_are_those_of_one_frame():
    rows = [{"set": s, "detector": d} for s in ("a", "b") for d in ("fast", "untimed")]
    (row,) = generic_study.with_seconds(rows, "b", {"nres 4096": {"fast": 9.0}, "sinistro 1000": {"fast": 0.5}})
    assert row == {"set": "b", "detector": "fast", "seconds_per_mpixel": 0.5}
