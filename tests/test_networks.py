import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from crcore import zoo
from crcore.errors import InputError
from crcore.networks import CosmicConnUNet, DeepCRUNet, GroupNorm, NetworkConfig, build, layers, mean_of_views
from crcore.recipe import Recipe
from crcore.training import fresh_network


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


CONFIGS = [
    NetworkConfig(width=8),
    NetworkConfig(width=8, norm="batch"),
    NetworkConfig(width=8, norm="instance", depth=3),
    NetworkConfig(width=8, norm="none"),
    NetworkConfig("deepcr", width=4),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_output_has_the_size_of_the_input(config):
    assert build(config)(torch.zeros(2, 1, 32, 48)).shape == (2, 1, 32, 48)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_network_is_the_same_after_saving_and_loading(config, tmp_path):
    network = build(config)
    network(torch.randn(2, 1, 32, 32))  # running statistics move
    zoo.save(tmp_path / "a", zoo.Model("a", network.eval(), config), card="# a\n")
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(network(image), zoo.load(tmp_path / "a").network(image), atol=1e-5)


def test_weights_of_another_architecture_are_refused(tmp_path):
    zoo.save(tmp_path / "a", zoo.Model("a", build(CONFIGS[0]), CONFIGS[1]), card="# a\n")
    with pytest.raises(InputError, match="is no whole model"):
        zoo.load(tmp_path / "a")


def test_layers_are_those_of_the_drawing():
    rows = layers(CosmicConnUNet(), 1024)
    assert [(r["name"], r["channels"], r["size_px"]) for r in rows] == [
        ("enter", 32, 1024),
        ("down 1", 64, 512),
        ("down 2", 128, 256),
        ("up 2", 64, 512),
        ("up 1", 32, 1024),
        ("leave", 1, 1024),
    ]
    assert sum(r["parameters"] for r in rows) == parameters(CosmicConnUNet())


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


def test_group_normalisation_has_the_gradient_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = GroupNorm(4, 8).double(), torch.nn.GroupNorm(4, 8).double()
    with torch.no_grad():
        ours.weight.normal_(generator=generator)
        ours.bias.normal_(generator=generator)
    theirs.load_state_dict(ours.state_dict())
    image = 100 + torch.randn(3, 8, 5, 7, dtype=torch.double, generator=generator)
    factor = torch.randn(3, 8, 5, 7, dtype=torch.double, generator=generator)
    gradients = []
    for norm in (ours, theirs):
        x = image.clone().requires_grad_()
        (norm(x) * factor).sum().backward()
        gradients.append((x.grad, norm.weight.grad, norm.bias.grad))
    for mine, its in zip(*gradients, strict=True):
        assert torch.allclose(mine, its, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("larger", [{"depth": 2}, {"fine": 4}, {"depth": 2, "fine": 4}, {"fine": 6, "was": 4}])
def test_a_larger_network_begins_with_what_the_smaller_says(tmp_path, larger):
    small = NetworkConfig("compact", width=4, depth=1, norm="none", fine=larger.pop("was", 0))
    torch.manual_seed(3)
    zoo.save(tmp_path / "small", zoo.Model("small", build(small).eval(), small, "noise"), card="small")
    recipe = Recipe(network=dataclasses.replace(small, **larger), init=str(tmp_path / "small"), stamp_px=64)
    grown, image = fresh_network(recipe, 0.01), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grown(image), zoo.load(tmp_path / "small").network(image))
    grown(image).square().mean().backward()
    assert sum(bool(p.grad.any()) for p in grown.parameters()) > len(list(build(small).parameters())) / 2
    smaller = dataclasses.replace(recipe, network=dataclasses.replace(small, width=8))
    with pytest.raises(InputError, match="its network is"):
        fresh_network(smaller, 0.01)


def test_a_fine_layer_of_before_is_still_read(tmp_path):
    config = NetworkConfig("compact", width=4, depth=1, norm="none", fine=4)
    network = build(config).eval()
    with torch.no_grad():
        network.near.weight[:, 2] = 0
    zoo.save(tmp_path / "old", zoo.Model("old", network, config, "noise"), card="old")
    stored = load_file(tmp_path / "old" / "model.safetensors")
    save_file(
        stored | {"near.weight": stored["near.weight"][:, :2].contiguous()}, tmp_path / "old" / "model.safetensors"
    )
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(zoo.load(tmp_path / "old").network(image), network(image))


def test_the_mean_of_all_views_turns_with_the_image():
    network, image = build(NetworkConfig("compact", width=4, depth=1, norm="none")).eval(), torch.randn(2, 1, 32, 32)
    seen = mean_of_views([network], image, torch.zeros(2, 10), range(8))
    turned = mean_of_views([network], torch.rot90(image, 1, (2, 3)).flip(3), torch.zeros(2, 10), range(8))
    torch.testing.assert_close(turned, torch.rot90(seen, 1, (2, 3)).flip(3), rtol=0, atol=1e-5)
    with torch.no_grad():
        one = torch.sigmoid(network(image))
    torch.testing.assert_close(mean_of_views([network], image, torch.zeros(2, 10), [0]), one)
    assert not torch.allclose(seen, one, atol=1e-3)
    other = build(NetworkConfig("compact", width=8, depth=1, norm="none")).eval()
    with torch.no_grad():
        both = torch.sigmoid((network(image) + other(image)) / 2)
    torch.testing.assert_close(mean_of_views([network, other], image, torch.zeros(2, 10), [0]), both)
