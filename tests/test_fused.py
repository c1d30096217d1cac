import platform

import pytest
import torch

from crcore.architecture import NetworkConfig
from crcore.fused import FusedCompact
from crcore.networks import build

in_bfloat16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported(),
    reason="this processor does not compute in bfloat16",
)
on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available(),
    reason="this processor runs the network as it is",
)
SETTINGS = [{}, {"fine": 8}, {"fine": 3, "depth": 1}, {"width": 16, "depth": 3, "fine": 8}]


def network(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        made = build(NetworkConfig("compact", **{"width": 8, "norm": "none", **settings})).eval()
        for module in made.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.normal_(module.bias, std=0.3)
    return made.to(memory_format=torch.channels_last)


def images(height=96, width=80):
    noise = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(1))
    noise[..., 30:40, 20:60] += 9.0  # as bright as an image in units of the noise becomes
    return noise


@on_x86
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(96, 80), (16, 16), (240, 32)])
def test_the_answer_in_single_precision_is_that_of_the_network(settings, shape):
    whole, x = network(**settings), images(*shape)
    assert FusedCompact.suits(whole)
    with torch.inference_mode():
        exact, found = whole(x), FusedCompact(whole, torch.float32)(x)
    assert found.shape == exact.shape
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


@in_bfloat16
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_answer_is_that_of_the_network_and_no_less_precise_in_bfloat16(settings):
    whole, x = network(**settings), images()
    assert FusedCompact.suits(whole)
    with torch.inference_mode():
        exact, found = whole(x), FusedCompact(whole)(x)
        with torch.autocast("cpu", torch.bfloat16):
            features = whole.features(x)
        rounded = whole.logits(features.float())
    assert found.shape == exact.shape
    assert found.dtype == torch.float32
    wrong, allowed = ((y - exact).square().mean().sqrt() / exact.std() for y in (found, rounded))
    assert wrong < 1.3 * allowed < 0.02


@in_bfloat16
def test_what_is_faint_is_seen_on_what_is_bright():
    """In bfloat16 alone 9 and 9.02 are one number."""
    whole = network(fine=0, width=8)
    x = torch.full((1, 1, 64, 64), 9.0)
    more = x.clone()
    more[..., 32, 32] += 0.02
    layers = whole.enter.conv1.weight
    with torch.inference_mode():
        apart = (whole(more) - whole(x)).abs().max()
        found = FusedCompact(whole)
        seen = (found(more) - found(x)).abs().max()
    assert layers.dtype == torch.float32
    assert apart > 0
    assert seen > 0.3 * apart


def test_networks_of_another_kind_run_as_they_are():
    assert not FusedCompact.suits(build(NetworkConfig("cosmic-conn", width=8)))
    assert not FusedCompact.suits(build(NetworkConfig("compact", width=8, norm="none", census=True)))
