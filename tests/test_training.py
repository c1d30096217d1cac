import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

from crcore import training, zoo
from crcore.errors import InputError
from crcore.networks import NetworkConfig, build
from crcore.recipe import Recipe, read_recipe
from crcore.release import labelled_files, train_model
from crcore.results import read_rows
from crcore.sampling import StampSource
from crcore.training import train
from crcore.zoo import load, load_official


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def run(recipe, dataset, folder):
    return train(recipe, labelled_files(dataset, "train"), labelled_files(dataset, "valid"), folder)


def test_same_seed_same_weights(tiny_dataset, tiny_recipe, tmp_path):
    a, log_a = run(tiny_recipe, tiny_dataset, tmp_path / "a")
    b, log_b = run(tiny_recipe, tiny_dataset, tmp_path / "b")
    assert weights(a).equal(weights(b))
    assert log_a == log_b


def test_another_seed_other_weights(tiny_dataset, tiny_recipe, tmp_path):
    a, _ = run(tiny_recipe, tiny_dataset, tmp_path / "a")
    b, _ = run(dataclasses.replace(tiny_recipe, seed=4), tiny_dataset, tmp_path / "b")
    assert not weights(a).equal(weights(b))


SCRIPT = """
import sys
from crcore.networks import NetworkConfig
from crcore.release import labelled_files
from crcore.recipe import Recipe
from crcore.training import train
recipe = Recipe(network=NetworkConfig(width=8), stamp_px=32, batch=2, epochs=40, samples_per_epoch=4, alpha_epochs=2,
                keep="last", average_epochs=38)
train(recipe, labelled_files(sys.argv[1], "train"), labelled_files(sys.argv[1], "valid"), sys.argv[2],
      say=lambda line: print(line, flush=True))
print("finished", flush=True)
"""


def test_a_killed_run_resumes_and_ends_with_the_same_weights(tiny_dataset, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tiny_dataset)]
    process = subprocess.Popen([*command, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 5/"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    resumed = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, text=True, check=True).stdout
    assert "epoch 1/" not in resumed
    assert "finished" in resumed
    subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, check=True)
    a, b = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=False) for n in ("killed", "whole"))
    for part in ("weights", "mean"):
        for key, tensor in a[part].items():
            assert tensor.equal(b[part][key]), key


def test_a_finished_run_is_not_repeated(tiny_dataset, tiny_recipe, tmp_path):
    run(tiny_recipe, tiny_dataset, tmp_path)
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    run(tiny_recipe, tiny_dataset, tmp_path)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_training_learns_to_tell_rays_from_sky(tiny_dataset, tmp_path):
    recipe = Recipe(
        network=NetworkConfig(width=8),
        stamp_px=64,
        batch=4,
        epochs=100,
        samples_per_epoch=16,
        alpha_epochs=5,
        lr=5e-3,
        validate_every=20,
        seed=2,
    )
    _, log = run(recipe, tiny_dataset, tmp_path)
    assert log[-1]["dice"] > 5 * log[0]["dice"]
    assert log[-1]["valid_loss"] < log[0]["valid_loss"]


def test_batch_statistics_freeze_in_the_second_phase(tiny_dataset, tmp_path):
    recipe = Recipe(
        network=NetworkConfig("deepcr", width=4),
        loss="bce",
        stamp_px=32,
        batch=2,
        epochs=2,
        samples_per_epoch=4,
        freeze_epoch=1,
        patience=99,
    )
    frozen, _ = run(recipe, tiny_dataset, tmp_path / "frozen")
    moving, _ = run(dataclasses.replace(recipe, freeze_epoch=0), tiny_dataset, tmp_path / "moving")
    saved = [torch.load(tmp_path / n / "checkpoint.pt", weights_only=False)["weights"] for n in ("frozen", "moving")]
    assert saved[0]["enter.norm1.num_batches_tracked"] == 2
    assert saved[1]["enter.norm1.num_batches_tracked"] == 4


def test_a_loss_that_is_no_number_stops_with_its_batch_saved(tiny_dataset, tiny_recipe, tmp_path):
    with pytest.raises(InputError, match="nan_batch"):
        run(dataclasses.replace(tiny_recipe, lr=1e30, epochs=8, bf16=False), tiny_dataset, tmp_path)
    assert np.load(tmp_path / "nan_batch.npz")["image"].shape == (2, 1, 32, 32)


def test_an_unknown_recipe_key_names_the_nearest(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stamp: 64\n")
    with pytest.raises(InputError, match="unknown key 'stamp'.*'stamp_px'"):
        read_recipe(path)


def test_a_recipe_takes_network_and_input_from_what_it_begins_with(tmp_path):
    recipes = Path(__file__).parents[1] / "config" / "recipes"
    generic = zoo.load("generic", network=False)
    recipe = read_recipe(recipes / "finetune.yaml")
    assert (recipe.init, recipe.network, recipe.input) == ("generic", generic.config, generic.input)
    path = tmp_path / "recipe.yaml"
    path.write_text("init: nobody\n")
    with pytest.raises(InputError, match="nobody"):
        read_recipe(path)


def test_a_foreign_checkpoint_is_refused(tiny_dataset, tiny_recipe, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="is no checkpoint"):
        run(tiny_recipe, tiny_dataset, tmp_path)


def test_a_trained_model_is_a_folder_that_loads(tiny_dataset, tiny_recipe, tmp_path):
    made = train_model(tiny_recipe, tiny_dataset, tmp_path / "mine", command="crcore train ...")
    loaded = zoo.load(tmp_path / "mine")
    assert weights(loaded.network).equal(weights(made.network))
    assert loaded.threshold == made.threshold
    assert "crcore train ..." in (tmp_path / "mine" / "card.md").read_text()


def test_an_epoch_of_no_stated_length_is_a_sixteenth_of_the_sequences(tiny_dataset, tmp_path):
    _, log = run(Recipe(network=NetworkConfig(width=8), stamp_px=32, epochs=1), tiny_dataset, tmp_path)
    assert log[0]["stamps"] == 1


def test_prior_bias_starts_at_the_share_of_rays(tiny_dataset, tmp_path):
    recipe = Recipe(network=NetworkConfig(width=8), stamp_px=32, epochs=1, lr=1e-12, loss="bce", batch=1)
    share = StampSource(labelled_files(tiny_dataset, "train"), 32, "noise").cr_share
    network, _ = run(dataclasses.replace(recipe, prior_bias=True), tiny_dataset, tmp_path / "a")
    assert network.leave.bias.item() == pytest.approx(np.log(share / (1 - share)), rel=1e-4)
    network, _ = run(recipe, tiny_dataset, tmp_path / "b")
    assert network.leave.bias.item() == pytest.approx(0, abs=1e-6)


def test_levels_of_a_compact_network_begin_silent_and_learn_to_speak(tiny_recipe):
    recipe = dataclasses.replace(tiny_recipe, network=NetworkConfig("compact", width=4, depth=2, fine=4), stamp_px=32)
    network = training.fresh_network(recipe, 0.01)
    image = torch.randn(1, 1, 32, 32)
    before = network(image)
    before.square().sum().backward()
    assert network.widen[-1].weight.grad.abs().max() > 0
    with torch.no_grad():
        for parameter in network.down.parameters():
            parameter.normal_()
    assert network(image).equal(before)


def test_cosine_schedule_falls_from_the_rate_to_a_hundredth(tiny_dataset, tiny_recipe, tmp_path):
    recipe = dataclasses.replace(tiny_recipe, schedule="cosine", epochs=5)
    _, log = run(recipe, tiny_dataset, tmp_path)
    rates = [row["lr"] / recipe.lr for row in log]
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert rates[0] == 1.0
    assert 0.01 < rates[-1] < 0.15  # a hundredth would be that of the epoch after the last


def test_fine_tuning_starts_from_the_model_that_init_names(tiny_dataset, tiny_recipe, tmp_path):
    first = train_model(tiny_recipe, tiny_dataset, tmp_path / "first")
    start = load(tmp_path / "first")
    tuned, _ = run(
        dataclasses.replace(tiny_recipe, init=str(tmp_path / "first"), lr=1e-9), tiny_dataset, tmp_path / "t"
    )
    assert torch.allclose(weights(tuned), weights(start.network), atol=1e-6)
    other = dataclasses.replace(tiny_recipe, init=str(tmp_path / "first"), network=NetworkConfig(width=16))
    with pytest.raises(InputError, match="its network is"):
        run(other, tiny_dataset, tmp_path / "other")
    assert first.config == tiny_recipe.network


def test_thresholds_are_found_where_labels_are_what_is_known(tiny_dataset, tiny_recipe, tmp_path):
    shutil.copytree(tiny_dataset, tmp_path / "known", ignore=shutil.ignore_patterns("cache"))
    known = labelled_files(tmp_path / "known", "valid")
    for path in known:
        fits.setval(path, "LABELS", value="truth", ext=1)
    for k, data in enumerate(([tiny_dataset], [tiny_dataset, tmp_path / "known"])):
        train_model(dataclasses.replace(tiny_recipe, epochs=1), data, tmp_path / str(k))
        card = (tmp_path / str(k) / "card.md").read_text()
        assert f" and {len(known)} validation sequences" in card  # of twice as many in the second


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 3)])
def test_the_best_or_the_last_weights_are_kept(tiny_dataset, tiny_recipe, tmp_path, monkeypatch, keep, kept):
    seen = []

    def falling(fabric, network, valid, recipe):
        seen.append(weights(network).clone())
        return {"valid_loss": 0.1, "dice": 1 / len(seen)}

    monkeypatch.setattr(training, "_validate", falling)
    recipe = dataclasses.replace(tiny_recipe, keep=keep, epochs=3, validate_every=1)
    network, _ = run(recipe, tiny_dataset, tmp_path)
    assert not torch.equal(seen[0], seen[-1])
    assert torch.equal(weights(network), seen[kept - 1])


def test_a_network_is_taught_by_a_larger_one(tiny_dataset, tiny_recipe, tmp_path):
    compact = NetworkConfig("compact", width=4, depth=1, norm="none")
    settings = {"network": compact, "input": "noise", "loss": "bce", "use_ignore": True, "source_weight": 1.0}
    plain = dataclasses.replace(tiny_recipe, **settings, epochs=2)
    larger = zoo.Model("larger", build(dataclasses.replace(compact, width=8)), dataclasses.replace(compact, width=8))
    torch.nn.init.zeros_(larger.network.leave.weight)
    torch.nn.init.constant_(larger.network.leave.bias, 2.0)  # a teacher that sees rays everywhere is heard
    zoo.save(tmp_path / "larger", larger, card="larger")
    taught = dataclasses.replace(plain, teacher=str(tmp_path / "larger"), views=2)
    files = [labelled_files(tiny_dataset, split) for split in ("train", "valid")]

    def interrupt(line):
        if line.startswith("epoch 1/"):
            raise KeyboardInterrupt

    alone, _ = run(plain, tiny_dataset, tmp_path / "alone")
    network, _ = run(taught, tiny_dataset, tmp_path / "taught")
    assert network.leave.bias.mean() > alone.leave.bias.mean()
    with pytest.raises(KeyboardInterrupt):
        train(taught, *files, tmp_path / "killed", say=interrupt)
    resumed, _ = run(taught, tiny_dataset, tmp_path / "killed")
    assert torch.equal(weights(network), weights(resumed))
    zoo.save(tmp_path / "counts", dataclasses.replace(larger, input="counts"), card="counts")
    with pytest.raises(InputError, match="counts: its input is 'counts', the recipe's 'noise'"):
        train(dataclasses.replace(taught, teacher=str(tmp_path / "counts")), *files, tmp_path / "counts-training")
    deep = dataclasses.replace(compact, depth=5)
    zoo.save(tmp_path / "deep", zoo.Model("deep", build(deep), deep), card="deep")
    with pytest.raises(InputError, match="deep: stamp_px must be a multiple of 64 for it"):
        train(dataclasses.replace(taught, teacher=str(tmp_path / "deep")), *files, tmp_path / "deep-training")


def test_the_authors_networks_can_be_fine_tuned(tiny_dataset, tmp_path):
    pytest.importorskip("cosmic_conn")
    recipe = Recipe(init="official:ground_imaging", input="counts", stamp_px=32, batch=1, epochs=1, lr=1e-9)
    tuned, _ = run(recipe, tiny_dataset, tmp_path)
    assert torch.allclose(weights(tuned), weights(load_official("ground_imaging").network), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"network": NetworkConfig(width=16)}, "another architecture"),
        ({"lr": 1.0}, "another recipe"),
        ({}, None),
    ],
)
def test_a_run_goes_on_only_from_its_own_checkpoint(tiny_dataset, tiny_recipe, tmp_path, change, what):
    files = labelled_files(tiny_dataset, "train"), labelled_files(tiny_dataset, "valid")
    train(tiny_recipe, *files, tmp_path)
    recipe = dataclasses.replace(tiny_recipe, **change)
    with pytest.raises(InputError, match=what or "this run: add --resume"):
        train(recipe, *files, tmp_path, resume=False)
    if what:
        with pytest.raises(InputError, match=what):
            train(recipe, *files, tmp_path, resume=True)
    else:
        train(recipe, *files, tmp_path, resume=True)


def test_two_processes_give_the_loss_of_one(tiny_dataset, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "network: {width: 8}\nstamp_px: 32\nbatch: 4\nepochs: 3\nsamples_per_epoch: 8\nalpha_epochs: 2\nbf16: false\n"
    )
    for devices in (1, 2):
        command = [sys.executable, "-W", "ignore", "-m", "crcore", "train", str(recipe), "-d", str(tiny_dataset)]
        command += ["-o", str(tmp_path / f"of{devices}"), "--devices", str(devices)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (read_rows(tmp_path / f"of{devices}-training" / "log.csv") for devices in (1, 2))
    for a, b in zip(one, two, strict=True):
        for column in ("train_loss", "valid_loss", "dice"):
            assert a[column] == pytest.approx(b[column], rel=1e-3), column


def test_devices_that_do_not_divide_the_batch_are_refused(tiny_dataset, tiny_recipe, tmp_path):
    files = labelled_files(tiny_dataset, "train"), labelled_files(tiny_dataset, "valid")
    with pytest.raises(InputError, match="3 devices: must divide the batch of 2"):
        train(tiny_recipe, *files, tmp_path, devices=3)


@pytest.mark.parametrize("change", [{"loss": "dice"}, {"network": NetworkConfig(width=8, norm="batch")}])
def test_what_sees_a_whole_batch_is_not_shared_between_processes(tiny_dataset, tiny_recipe, tmp_path, change):
    files = labelled_files(tiny_dataset, "train"), labelled_files(tiny_dataset, "valid")
    with pytest.raises(InputError, match="see a whole batch at once: use one"):
        train(dataclasses.replace(tiny_recipe, **change), *files, tmp_path, devices=2)


def test_a_model_that_init_names_is_part_of_what_is_resumed(tiny_dataset, tiny_recipe, tmp_path):
    files = labelled_files(tiny_dataset, "train"), labelled_files(tiny_dataset, "valid")
    recipe = dataclasses.replace(tiny_recipe, init=str(tmp_path / "first"))
    for seed in (3, 4):
        train_model(dataclasses.replace(tiny_recipe, seed=seed), tiny_dataset, tmp_path / "first")
        if seed == 3:
            train(recipe, *files, tmp_path / "tuned")
    with pytest.raises(InputError, match="of another data"):
        train(recipe, *files, tmp_path / "tuned", resume=True)


def test_the_mean_of_the_last_epochs_is_kept(tiny_dataset, tiny_recipe, tmp_path):
    recipe = dataclasses.replace(tiny_recipe, keep="last", schedule="constant")
    two, three, four = (
        weights(run(dataclasses.replace(recipe, epochs=n), tiny_dataset, tmp_path / str(n))[0]) for n in (2, 3, 4)
    )
    mean, log = run(dataclasses.replace(recipe, average_epochs=3), tiny_dataset, tmp_path / "mean")
    torch.testing.assert_close(weights(mean), (two + three + four) / 3)
    assert not torch.allclose(weights(mean), four, rtol=1e-4, atol=1e-5)
    assert len({row["lr"] for row in log}) == 1
    for wrong in (5, -1):
        with pytest.raises(InputError, match=f"average_epochs = {wrong}: at most the 4 epochs, with keep last"):
            dataclasses.replace(recipe, average_epochs=wrong)
    with pytest.raises(InputError, match="average_epochs = 3: "):
        dataclasses.replace(tiny_recipe, average_epochs=3)


def test_a_source_weight_needs_a_loss_that_takes_it():
    with pytest.raises(InputError, match="source_weight"):
        Recipe(source_weight=2.0)
    assert Recipe(source_weight=2.0, loss="bce", use_ignore=True).source_weight == 2.0
    with pytest.raises(InputError, match="source_ray_weight = 0.3: a positive number, with source_weight"):
        Recipe(source_ray_weight=0.3)
    with pytest.raises(InputError, match="hot_weight = 0.3: a positive number, with source_weight"):
        Recipe(hot_weight=0.3)
    with pytest.raises(InputError, match="views = 4: 1 to 8, with teacher"):
        Recipe(views=4)
    with pytest.raises(InputError, match="teacher = generic: with source_weight only"):
        Recipe(teacher="generic")
    with pytest.raises(InputError, match="teacher = ' , ': a model, or several parted by commas"):
        Recipe(teacher=" , ", source_weight=1.0, use_ignore=True, loss="bce")
    with pytest.raises(InputError, match="keep 'first' is unknown: use one of best, last"):
        Recipe(keep="first")


def test_training_runs_with_weighted_sources(tiny_dataset, tiny_recipe, tmp_path):
    recipe = dataclasses.replace(
        tiny_recipe, loss="bce", use_ignore=True, source_weight=2.0, epochs=2, validate_every=1
    )
    _, log = run(recipe, tiny_dataset, tmp_path / "a")
    assert np.isfinite([row["train_loss"] for row in log]).all()
