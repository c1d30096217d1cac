import dataclasses

import pytest
import torch

from crcore.errors import InputError
from crcore.networks import NetworkConfig
from crcore.optimizers import MuonAndAdam, make_optimizer
from crcore.recipe import Recipe
from crcore.release import labelled_files
from crcore.training import fresh_network, train

RECIPE = Recipe(
    network=NetworkConfig("compact", width=8, depth=1, fine=4),
    optimizer="muon", use_ignore=True, source_weight=1.0, loss="bce", schedule="cosine", head_lr_factor=2.0,
    stamp_px=32, batch=2, epochs=3, samples_per_epoch=4, lr=0.003,
)  # fmt: skip


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_stepped_as_the_matrix_that_it_is(layout):
    rng = torch.Generator().manual_seed(1)
    start, gradient = (torch.randn(6, 4, 3, 3, generator=rng) for _ in range(2))
    kernel = torch.nn.Parameter(start.clone().to(memory_format=layout))
    bias = torch.nn.Parameter(torch.zeros(6))
    matrix = torch.nn.Parameter(start.clone().flatten(1))
    mine = MuonAndAdam([kernel], [bias], lr=0.1)
    its = torch.optim.Muon([matrix], lr=0.1, weight_decay=1.0, adjust_lr_fn="match_rms_adamw")
    for factor in (1.0, -0.3):
        kernel.grad, matrix.grad, bias.grad = factor * gradient, factor * gradient.flatten(1), torch.ones(6)
        mine.step()
        its.step()
    # orthogonalised in bfloat16, whose digits depend on the order of sums
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach(), atol=2e-3, rtol=0)
    assert (kernel.detach() - start).norm() > 0.1
    torch.testing.assert_close(bias.detach(), torch.full((6,), -0.2))  # Adam's step is the rate
    mine.zero_grad()
    assert kernel.grad is None
    assert bias.grad is None


def test_what_computes_the_loss_has_gradients():
    kernel, bias = torch.nn.Parameter(torch.ones(2, 2, 3, 3)), torch.nn.Parameter(torch.ones(2))
    optimizer = MuonAndAdam([kernel], [bias], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = kernel.square().sum() + bias.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 38.0
    assert closure().item() < 38.0


def test_each_parameter_belongs_to_one_of_both():
    network = fresh_network(RECIPE, 0.01)
    optimizer = make_optimizer(network, RECIPE)
    groups = optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.003, 0.003, 0.006]
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(p.numel() for p in network.parameters())
    answers = [network.coarse.weight, network.leave.weight]
    adams = {id(p) for group in groups[1:] for p in group["params"]}
    assert all(id(p) in adams for p in answers)
    assert len(groups[0]["params"]) == sum(p.ndim == 4 for p in network.parameters()) - len(answers)


def test_a_run_with_muon_goes_on_to_the_same_weights(tiny_dataset, tmp_path):
    files = [labelled_files(tiny_dataset, split) for split in ("train", "valid")]
    whole, log = train(RECIPE, *files, tmp_path / "whole")
    halted, halt = tmp_path / "halted", iter([None, KeyboardInterrupt])

    def say(line):
        if next(halt) is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, *files, halted, say=say)
    resumed, again = train(RECIPE, *files, halted)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert log == again
    assert not torch.equal(whole.enter.conv1.weight, fresh_network(RECIPE, 0.01).enter.conv1.weight)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(InputError, match="optimizer 'sgd' is unknown: use one of adam, muon"):
        dataclasses.replace(RECIPE, optimizer="sgd")
