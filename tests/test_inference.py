import subprocess
import sys

import numpy as np
import pytest
import torch

from crcore import Frame, InputError, zoo
from crcore.architecture import NetworkConfig
from crcore.detection import NetworkDetector
from crcore.inference import LOCAL_TILE_PX, export_onnx, runner, tile_for
from crcore.networks import build


def model(norm="none", census=False, **settings):
    """A network that has learnt nothing, but whose answers vary."""
    config = NetworkConfig("compact" if census else "cosmic-conn", width=8, norm=norm, census=census)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build(config).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return zoo.Model("tiny", network, config, **settings)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    image = rng.normal(300, 18, (301, 203)).astype(np.float32)
    for _ in range(30):
        y, x = rng.integers(0, 290), rng.integers(0, 190)
        image[y, x : x + 9] += rng.uniform(100, 5000)
    return Frame(image)


@pytest.mark.parametrize("census", [False, True])
@pytest.mark.parametrize("tile", [64, 100, 256])
def test_tiles_do_not_show_without_group_normalisation(frame, tile, census):
    whole, tiled = (NetworkDetector(model(census=census), tile_px=side) for side in (4096, tile))
    whole._runner.half = tiled._runner.half = False  # bfloat16 rounds sums, whose order a tile's size may change
    whole, tiled = whole(frame), tiled(frame)
    assert np.ptp(whole.prob) > 0.5
    assert np.abs(tiled.prob - whole.prob).max() < 1e-3
    assert tiled.tile_px is None


def test_the_census_of_the_whole_frame_is_heard_in_every_tile(frame):
    told = model(census=True)
    deaf = NetworkDetector(told)(frame)
    for module in told.network.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.constant_(module.weight, 0.5)
    whole, tiled = (NetworkDetector(told, tile_px=tile) for tile in (4096, 64))
    whole._runner.half = tiled._runner.half = False
    whole, tiled = whole(frame), tiled(frame)
    assert np.abs(whole.prob - deaf.prob).max() > 0.01
    assert np.abs(tiled.prob - whole.prob).max() < 1e-3


def test_tiles_are_told_where_they_show(frame):
    tiled = NetworkDetector(model("group"), tile_px=64)(frame)
    whole = NetworkDetector(model("group"))(frame)
    assert tiled.tile_px == 64
    assert whole.tile_px is None
    assert np.abs(tiled.prob - whole.prob).max() > 1e-3


def test_the_answer_far_from_an_edge_does_not_depend_on_the_frames_sides(frame):
    # sky and noise are the same where the level is given, so only the network is compared
    detector = NetworkDetector(model())
    image = np.arcsinh((frame.data - 300) / 18)

    def prob(part):
        from crcore.tiling import map_tiles

        return map_tiles(detector._runner, part, tile_px=128, margin_px=detector.model.config.reach_px, multiple=4)

    whole, odd = prob(image), prob(image[:263, :187])
    inner = np.s_[: 263 - 32, : 187 - 32]
    assert np.abs(whole[inner] - odd[inner]).max() < 1e-3


def test_bfloat16_agrees_with_float32(frame):
    detector = NetworkDetector(model())
    if not detector._runner.half:
        pytest.skip("this processor does not compute in bfloat16")
    half = detector(frame).prob
    detector._runner.half = False
    assert np.abs(half - detector(frame).prob).max() < 0.05


def test_electrons_are_never_rounded_to_bfloat16():
    assert not runner(model(input="counts")).half


def test_small_memory_means_tiles_for_group_normalisation_only():
    assert tile_for(model("group"), (4096, 4096), 10**12) is None
    assert tile_for(model("group"), (4096, 4096), 10**8) == 1024
    assert tile_for(model("none"), (4096, 4096), 10**12) == LOCAL_TILE_PX


@pytest.mark.parametrize("device", ["abacus", "cuda"])
def test_a_device_that_is_not_there_is_named(device):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError, match=device):
        runner(model(), device)


@pytest.mark.parametrize("census", [False, True])
def test_onnx_gives_the_same_answer(frame, tmp_path, census):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    tiny = model(census=census)
    zoo.save(tmp_path / "tiny", tiny, card="# tiny\n")
    export_onnx(tiny, tmp_path / "tiny" / "model.onnx")
    with_torch = NetworkDetector(tmp_path / "tiny")
    with_torch._runner.half = False
    without = NetworkDetector(tmp_path / "tiny", device="onnx")
    assert np.abs(with_torch(frame).prob - without(frame).prob).max() < 1e-3


def test_new_weights_take_the_old_onnx_away(tmp_path):
    tiny = model()
    zoo.save(tmp_path / "tiny", tiny, card="# tiny\n")
    (tmp_path / "tiny" / "model.onnx").write_bytes(b"of these weights")
    zoo.save(tmp_path / "tiny", tiny, card="# tiny, trained again\n")
    with pytest.raises(InputError, match="has no model.onnx"):
        NetworkDetector(tmp_path / "tiny", device="onnx")


def test_onnx_does_not_import_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    tiny = model()
    zoo.save(tmp_path / "tiny", tiny, card="# tiny\n")
    export_onnx(tiny, tmp_path / "tiny" / "model.onnx")
    code = (
        "import sys; import numpy as np; from crcore import detect\n"
        f"found = detect(np.ones((40, 50)), model={str(tmp_path / 'tiny')!r}, device='onnx')\n"
        "assert found.prob.shape == (40, 50)\nassert 'torch' not in sys.modules, 'torch is there'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_without_onnx_says_how_to_get_it():
    with pytest.raises(InputError, match="crcore export"):
        runner(model(), "onnx")
