"""Parity: the released weights in our classes give the released networks' outputs."""

import warnings

import numpy as np
import pytest
import torch

from crcore import official
from crcore.errors import InputError
from crcore.networks import NetworkConfig
from crcore.preprocess import prepare
from crcore.rivals import ReleasedCosmicConn, ReleasedDeepCR
from crcore.zoo import load_official


def image(how, shape=(96, 128)):
    rng = np.random.default_rng(5)
    electrons = rng.normal(200, 15, shape)
    electrons[40, 30:60] += 1500
    electrons[60:64, 80:84] += 9000
    return prepare(electrons, how)


def both(name, released):
    model = load_official(name)
    x = torch.from_numpy(image(model.input))[None, None].double()  # in float32 the order of sums shows: 1e-5 to 1e-4
    with torch.inference_mode():
        return torch.sigmoid(model.network.double()(x)).numpy(), released.double()(x).numpy()


@pytest.mark.parametrize("name", ["ground_imaging", "NRES", "HST_ACS_WFC"])
def test_cosmic_conn_in_our_class_gives_the_released_output(name):
    pytest.importorskip("cosmic_conn")
    ours, theirs = both(name, ReleasedCosmicConn(name)._model.network)
    assert theirs.max() > 0.9
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("mask", ["ACS-WFC", "WFC3-UVIS", "decam"])
def test_deepcr_in_our_class_gives_the_released_output(mask):
    pytest.importorskip("deepCR")
    ours, theirs = both(f"deepCR {mask}", ReleasedDeepCR(mask)._model.maskNet)
    assert theirs.max() > 0.5
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_architecture_is_read_off_the_weights():
    pytest.importorskip("cosmic_conn")
    assert load_official("HST_ACS_WFC").config == NetworkConfig(norm="batch")
    assert load_official("ground_imaging").config == NetworkConfig()


def test_an_unknown_model_and_a_missing_package_are_named(monkeypatch):
    with pytest.raises(InputError, match="'ground' is unknown: use one of ground_imaging"):
        load_official("ground")
    monkeypatch.setattr(official.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"cosmic-conn is not installed: pip install"):
        load_official("ground_imaging")


def test_weights_of_another_architecture_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "trained_models"
    folder.mkdir()
    weights = {"inc.conv.conv.0.weight": torch.zeros(32, 1, 3, 3), "outc.conv.weight": torch.zeros(1, 32, 1, 1)}
    torch.save(weights, folder / "a_ground_imaging.pth")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(official.importlib.util, "find_spec", lambda name: spec)
    with warnings.catch_warnings(), pytest.raises(InputError, match="another architecture"):
        load_official("ground_imaging")
