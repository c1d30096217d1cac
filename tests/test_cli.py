import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from crcore import detect
from crcore.cli import main


@pytest.fixture
def frames(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "night"
    folder.mkdir()
    for i in range(3):
        image = rng.normal(300, 18, (70, 90)).astype(np.float32)
        image[30, 20:32] += 2000
        fits.PrimaryHDU(image).writeto(folder / f"f{i}.fits")
    return folder


def test_a_folder_is_detected_file_by_file(frames, tmp_path, capsys):
    assert main(["detect", "-i", str(frames), "-m", "ground_imaging", "-o", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*_cr.fits")) == ["f0_cr.fits", "f1_cr.fits", "f2_cr.fits"]
    assert capsys.readouterr().out.count("rays") == 3


def test_plain_paths_and_patterns_do_the_same(frames, tmp_path):
    assert main(["detect", str(frames / "f0.fits"), str(frames / "*1.fits"), "-o", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*_cr.fits")) == ["f0_cr.fits", "f1_cr.fits"]


def test_a_bad_file_is_named_and_the_others_go_on(frames, tmp_path, capsys):
    (frames / "f1.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 100)
    assert main(["detect", str(frames), "-o", str(tmp_path / "out")]) == 1
    assert sorted(p.name for p in (tmp_path / "out").glob("*_cr.fits")) == ["f0_cr.fits", "f2_cr.fits"]
    error = capsys.readouterr().err
    assert "f1.fits" in error
    assert "Traceback" not in error


def test_files_of_one_name_do_not_overwrite_each_other(frames, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "f0.fits").write_bytes((frames / "f0.fits").read_bytes())
    assert main(["detect", str(frames / "f0.fits"), str(other / "f0.fits"), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*_cr.fits"))) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect"],
        ["detect", "no-such-file.fits"],
        ["detect", "no*such.fits"],
        ["detect", "FRAME", "-m", "no-such-model"],
        ["detect", "FRAME", "-t", "7"],
        ["detect", "FRAME", "--workers", "0"],
        ["detect", "FRAME", "--dilate", "-1"],
        ["detect", "FRAME", "--rate", "-1"],
        ["detect", "FRAME", "--tile", "0"],
        ["detect", "FRAME", "--device", "abacus"],
        ["label", "no-such-folder"],
        ["label", "FOLDER"],
        ["label", "no-such-file.fits"],
        ["label", "no*such.fits"],
        ["label", "FOLDER", "--workers", "0"],
        ["label", "FOLDER", "--gain", "-1"],
        ["label", "FOLDER", "--read-noise", "0"],
        ["review", "FOLDER"],
        ["review", "FOLDER", "--accept", "a"],
        ["simulate", "no-such.yaml", "-o", "x"],
        ["train", "no-such.yaml", "-d", "FOLDER", "-o", "x"],
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments, frames, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled = [{"FRAME": str(frames / "f0.fits"), "FOLDER": str(frames)}.get(a, a) for a in arguments]
    before = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert main(filled) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("left out")]
    assert 1 <= len(lines) <= 2
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == before


@pytest.mark.parametrize("options", [["-e", "NOPE"], ["-e", "7"], ["--rate"], ["--gain", "1,2,3,4,5,6,7"]])
def test_what_does_not_fit_a_file_is_one_line_and_status_1(options, frames, tmp_path, capsys):
    assert main(["detect", str(frames / "f0.fits"), "-o", str(tmp_path / "out"), *options]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "f0.fits" in lines[0]
    assert not list((tmp_path / "out").glob("*_cr.fits"))


def test_two_exposures_are_no_sequence(tmp_path, capsys):
    from crcore.dataset import write_frame
    from crcore.instruments import get_camera
    from crcore.simulate.observe import simulate_sequence

    seen = simulate_sequence(
        get_camera("sinistro"), shape=(64, 64), exposure_s=300, n_frames=2, rng=np.random.default_rng(0)
    )
    for frame in seen.frames:
        write_frame(tmp_path / "in" / f"{frame.name}.fits.fz", frame)
    assert main(["label", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    assert "three are needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of one good and one broken run, and what ``crcore label`` made of it: folders and exit status."""
    from crcore.dataset import write_frame
    from crcore.instruments import get_camera
    from crcore.simulate.observe import simulate_sequence

    folder = tmp_path_factory.mktemp("label")
    for k in (1, 2):
        seen = simulate_sequence(
            get_camera("sinistro"),
            shape=(256, 256),
            exposure_s=600,
            rate_factor=10,
            rng=np.random.default_rng(k),
            identifier=k,
            streak_share=0.0,
        )
        for i, frame in enumerate(seen.frames):
            if k == 2 and i == 1:
                frame.header.remove("RDNOISE")
            write_frame(folder / "in" / f"{frame.name}.fits.fz", frame)
    status = main(["label", str(folder / "in"), "-o", str(folder / "out")])
    return folder / "in", folder / "out", status


def test_label_writes_sequences_sheets_and_a_manifest(labelled):
    from crcore.dataset import read_sequence
    from crcore.results import read_rows

    _, output, status = labelled
    assert status == 1  # one run failed, one did not
    good, failed = sorted(read_rows(output / "manifest.csv"), key=lambda row: row["left_out"])
    sequence = read_sequence(output / good["file"])
    assert sequence.cr.sum() == good["cr_pixels"] > 0
    assert (output / good["sheet"]).stat().st_size > 20_000
    assert good["data"] == "simulated"
    assert "RDNOISE" in failed["left_out"]


def test_label_takes_files_with_other_settings(labelled, tmp_path, capsys):
    from crcore.dataset import read_sequence
    from crcore.results import read_rows

    source, _, _ = labelled
    command = ["label", *map(str, sorted(source.iterdir())), "-o", str(tmp_path), "--no-sheets", "--border", "12"]
    assert main([*command, "--read-noise", "9"]) == 0
    rows = read_rows(tmp_path / "manifest.csv")
    assert len(rows) == 2
    sequence = read_sequence(tmp_path / rows[0]["file"])
    assert sequence.headers[0]["RDNOISE"] == 9.0
    assert (sequence.ignore[0, :12] & 1).all()
    assert not (sequence.ignore[0, 12:-12, 12:-12] & 1).any()
    assert "2 sequences" in capsys.readouterr().out
    assert not (tmp_path / "contact_sheets").exists()


def test_label_of_nothing_but_broken_runs_has_status_2(labelled, tmp_path, capsys):
    source, _, _ = labelled
    broken = sorted(map(str, source.iterdir()))[3:]
    assert main(["label", *broken, "-o", str(tmp_path), "--no-sheets"]) == 2
    error = capsys.readouterr().err
    assert "failed: " in error
    assert "RDNOISE" in error


def test_label_of_spectra_has_no_border(labelled, tmp_path):
    from crcore.dataset import read_sequence
    from crcore.results import read_rows

    good = sorted(map(str, labelled[0].iterdir()))[:3]
    assert main(["label", *good, "-o", str(tmp_path), "--no-sheets", "--kind", "spectroscopy"]) == 0
    sequence = read_sequence(tmp_path / read_rows(tmp_path / "manifest.csv")[0]["file"])
    assert not (sequence.ignore & 1).any()


def test_review_records_decisions_and_says_what_is_left(labelled, capsys):
    from crcore.release import labelled_files
    from crcore.results import read_rows

    _, output, _ = labelled
    assert main(["review", str(output)]) == 0
    assert "1 sequences, 1 not reviewed" in capsys.readouterr().out
    assert main(["review", str(output), "--reject", "01_3frms", "--why", "a trail"]) == 0
    assert "rejected: masked_fits/" in capsys.readouterr().out
    assert [row["reason"] for row in read_rows(output / "manifest.csv") if row["file"]] == ["a trail"]
    assert main(["review", str(output), "--accept", "01_3frms"]) == 0
    assert "0 not reviewed" in capsys.readouterr().out
    assert len(labelled_files(output)) == 1


def test_help_does_not_load_torch():
    code = "import sys; from crcore.cli import main\ntry: main(['detect', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_two_inputs_never_share_an_output(frames, tmp_path, capsys):
    deep = tmp_path / "x" / "night", tmp_path / "y" / "night"
    for folder in deep:
        folder.mkdir(parents=True)
        (folder / "f0.fits").write_bytes((frames / "f0.fits").read_bytes())
    assert main(["detect", *(str(f / "f0.fits") for f in deep), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*_cr.fits"))) == 2
    (frames / "f0.fit").write_bytes((frames / "f0.fits").read_bytes())
    assert main(["detect", str(frames / "f0.fits"), str(frames / "f0.fit"), "-o", str(tmp_path / "out2")]) == 2
    assert "under one name" in capsys.readouterr().err


def test_a_second_pass_over_a_folder_does_not_take_its_own_results(frames, capsys):
    for _ in range(2):
        assert main(["detect", str(frames), "-o", str(frames), "--overwrite"]) == 0
    assert len(list(frames.glob("*.fits"))) == 6


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A tiny recipe that names its data, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.yaml").write_text(
        "seed: 5\nshape: [96, 96]\nexposure_s: [600, 900]\nrate_factor: 20\nlabeling: {border_px: 8}\n"
        "sequences: {sinistro: [1, 1, 0]}\n"
    )
    path = tmp_path / "tiny.yaml"
    path.write_text("network: {width: 8}\ndata: data.yaml\nstamp_px: 32\nbatch: 2\nepochs: 2\nsamples_per_epoch: 4\n")
    return path


def test_train_simulates_its_data_and_makes_a_model_that_detects(recipe, capsys):
    assert main(["train", str(recipe)]) == 0
    assert "build/release/tiny: threshold" in capsys.readouterr().out
    assert detect(np.zeros((40, 40)), model="build/release/tiny").prob.shape == (40, 40)
    assert main(["train", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert "this run: add --resume to go on" in error
    assert main(["train", str(recipe), "--resume"]) == 0


def test_train_needs_data_from_somewhere(recipe, capsys):
    recipe.write_text("stamp_px: 32\n")
    assert main(["train", str(recipe)]) == 2
    assert "names no 'data' to simulate: give a folder with --data" in capsys.readouterr().err


def test_rays_are_put_into_exposures_and_a_broken_file_is_named(frames, tmp_path, capsys):
    (frames / "f1.fits").write_bytes(b"no image")
    assert main(["inject", str(frames), "-o", str(tmp_path / "data"), "--times", "2"]) == 1
    assert len(list((tmp_path / "data" / "train").rglob("*.fits"))) == 2
    assert len(list((tmp_path / "data" / "valid").rglob("*.fits"))) == 1
    assert "f1.fits" in capsys.readouterr().err
