import pytest
import torch

from crcore.errors import InputError
from crcore.networks import CosmicConnUNet, DeepCRUNet, NetworkConfig, build


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_cosmic_conn_has_the_released_networks_size():
    # 466,593 numbers are in the released ground_imaging weights.
    assert parameters(CosmicConnUNet()) == 466_593


def test_deepcr_has_the_released_networks_size():
    released = pytest.importorskip("deepCR.unet_batchnorm")
    assert parameters(DeepCRUNet()) == parameters(released.UNet2SigmoidBatchNorm(1, 1, 32))


def test_a_block_shares_its_normalisation_in_cosmic_conn_only():
    cosmic, deep = CosmicConnUNet(width=8), DeepCRUNet(width=8)
    assert cosmic.enter.norm1 is cosmic.enter.norm2
    assert deep.enter.norm1 is not deep.enter.norm2


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(width=8),
        NetworkConfig(width=8, norm="batch"),
        NetworkConfig(width=8, norm="instance", depth=3),
        NetworkConfig("deepcr", width=4),
    ],
)
def test_output_has_the_size_of_the_input(config):
    assert build(config)(torch.zeros(2, 1, 32, 48)).shape == (2, 1, 32, 48)


def test_a_pixel_reaches_as_far_as_stated():
    network = CosmicConnUNet(width=8, norm="batch").eval()
    image = torch.zeros(1, 1, 96, 96)
    with torch.inference_mode():
        still = network(image)
        image[0, 0, 48, 48] = 1e3
        changed = (network(image) != still)[0, 0].nonzero()
    distance = (changed - 48).abs().max().item()
    assert 4 < distance <= network.reach_px


def test_unknown_parts_are_refused():
    for config in (NetworkConfig("resnet"), NetworkConfig(norm="layer"), NetworkConfig(width=12)):
        with pytest.raises(InputError):
            build(config)
