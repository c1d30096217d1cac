import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from crcore.errors import InputError
from crcore.networks import NetworkConfig
from crcore.release import labelled_files, train_model
from crcore.sampling import StampSource, epoch_indices
from crcore.training import Recipe, read_recipe, train


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
from crcore.training import Recipe, train
recipe = Recipe(network=NetworkConfig(width=8), stamp_px=32, batch=2, epochs=40, samples_per_epoch=4, alpha_epochs=2)
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
    for key, tensor in a["weights"].items():
        assert tensor.equal(b["weights"][key]), key


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


def test_stamps_match_their_labels_after_turns_and_mirrors(tiny_dataset):
    source = StampSource(labelled_files(tiny_dataset, "train"), 48, "counts")
    stamps = source.draw(np.zeros(200, dtype=int), np.random.default_rng(0))
    rays = (stamps.target > 0) & (stamps.use > 0)
    assert rays.sum() > 100
    assert np.median((stamps.image - stamps.median)[rays]) > 5 * np.median(np.abs(stamps.image - stamps.median))


def test_an_epoch_visits_sequences_evenly():
    counts = np.bincount(epoch_indices(5, 12, np.random.default_rng(0)), minlength=5)
    assert counts.sum() == 12
    assert set(counts) == {2, 3}


def test_a_stamp_larger_than_the_frames_is_refused(tiny_dataset):
    with pytest.raises(InputError, match="smaller than the stamp"):
        StampSource(labelled_files(tiny_dataset, "train"), 512, "noise")


def test_an_unknown_recipe_key_names_the_nearest(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stamp: 64\n")
    with pytest.raises(InputError, match="unknown key 'stamp'.*'stamp_px'"):
        read_recipe(path)


def test_a_foreign_checkpoint_is_refused(tiny_dataset, tiny_recipe, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="is no checkpoint"):
        run(tiny_recipe, tiny_dataset, tmp_path)


def test_a_trained_model_is_a_folder_that_loads(tiny_dataset, tiny_recipe, tmp_path):
    from crcore import zoo

    made = train_model(tiny_recipe, tiny_dataset, tmp_path / "mine", command="crcore train ...")
    loaded = zoo.load(tmp_path / "mine")
    assert weights(loaded.network).equal(weights(made.network))
    assert loaded.threshold == made.threshold
    assert "crcore train ..." in (tmp_path / "mine" / "card.md").read_text()
