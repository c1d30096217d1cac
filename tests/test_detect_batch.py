import gzip
import os
import signal
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crcore import detect_batch as module
from crcore.cli import main
from crcore.detect_batch import Settings, detect_batch, detect_file


@pytest.fixture
def night(tmp_path):
    """Six files, of which three are good."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "night"
    folder.mkdir()
    for i in range(3):
        image = rng.normal(300, 18, (70, 90)).astype(np.float32)
        for k in range(10):
            image[30 + k, 20 + 2 * k : 23 + 2 * k] += 2000
        hdu = fits.PrimaryHDU(image)
        hdu.header.update({"EXPTIME": 100.0, "PIXSIZE": 15.0})
        hdu.writeto(folder / f"good{i}.fits")
    whole = (folder / "good0.fits").read_bytes()
    (folder / "truncated.fits").write_bytes(whole[:6000])
    (folder / "text.fits").write_text("this is no image")
    (folder / "empty.fits").write_bytes(b"")
    return folder


def test_a_batch_survives_bad_files_and_accounts_for_all(night, tmp_path, capsys):
    assert main(["detect", str(night), "-o", str(tmp_path / "out")]) == 1
    rows = Table.read(tmp_path / "out" / "crcore_detect.ecsv")
    assert list(rows["status"]) == ["failed", "done", "done", "done", "failed", "failed"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.fits")) == [f"good{i}_cr.fits" for i in range(3)]
    errors = [line for line in capsys.readouterr().err.splitlines() if "failed: " in line]
    for name in ("truncated", "text", "empty"):
        assert sum(f"{name}.fits" in line for line in errors) == 1
    assert not any("Traceback" in line for line in errors)
    assert rows["rays"][1] >= 1
    assert np.isfinite(rows["seconds"][1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: fits.PrimaryHDU(np.zeros((2, 30, 40))).writeto(p), "no two-dimensional image"),
        (lambda p: fits.PrimaryHDU().writeto(p), "no two-dimensional image"),
        (lambda p: fits.PrimaryHDU(np.full((30, 40), np.nan)).writeto(p), "every pixel"),
        (lambda p: fits.PrimaryHDU(np.ones((30, 40)), fits.Header({"GAIN": -2.0})).writeto(p), "GAIN = -2.0"),
    ],
)
def test_what_cannot_be_looked_at_is_named_in_one_line(tmp_path, capsys, make, message):
    make(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert "in.fits" in lines[0]
    assert message in lines[0]
    assert list((tmp_path / "out").glob("*.fits")) == []


@pytest.mark.parametrize("value", [0.0, 7.0, -5.0])
def test_an_image_that_is_one_value_everywhere_is_named(tmp_path, value, capsys):
    fits.PrimaryHDU(np.full((30, 40), value)).writeto(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"every pixel is {value:g}" in error
    assert "in.fits" in error
    assert not list((tmp_path / "out").glob("*_cr.fits"))


def test_a_copy_that_is_there_is_kept_unless_told(night, tmp_path, capsys):
    arguments = ["detect", str(night / "good0.fits"), "-o", str(tmp_path)]
    assert main(arguments) == 0
    before = (tmp_path / "good0_cr.fits").stat().st_mtime_ns
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "good0_cr.fits").stat().st_mtime_ns == before
    assert main([*arguments, "--overwrite"]) == 0


def test_everything_that_can_be_asked_for_is_written(night, tmp_path):
    options = ["--prob", "--catalog", "--repair", "--dq", "hst", "--dilate", "1", "-t", "0.3"]
    assert main(["detect", str(night / "good0.fits"), "-o", str(tmp_path), *options]) == 0
    with fits.open(tmp_path / "good0_cr.fits") as hdus:
        assert [h.name for h in hdus[1:]] == ["DQ", "CRMASK", "CRPROB", "CRCLEAN", "CRVAR"]
        assert hdus["CRMASK"].header["CRTHRESH"] == 0.3
    table = Table.read(tmp_path / "good0_cr.ecsv")
    assert len(table) >= 1


def test_all_chips_are_looked_at_unless_one_is_named(tmp_path):
    rng = np.random.default_rng(1)
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.ImageHDU(rng.normal(100, 10, (40, 50)).astype("f4"), name="SCI", ver=v) for v in (1, 2)]
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    for number, (options, wanted) in enumerate([([], [1, 2]), (["-e", "all"], [1, 2]), (["-e", "2"], [2])]):
        out = tmp_path / str(number)
        assert main(["detect", str(tmp_path / "in.fits"), "-o", str(out), *options]) == 0
        with fits.open(out / "in_cr.fits") as made:
            assert [h.header["CREXT"] for h in made if h.name == "CRMASK"] == wanted


def test_gains_of_amplifiers_stand_side_by_side(night, tmp_path):
    image = fits.getdata(night / "good0.fits")
    image[:, 45:] /= 4
    fits.PrimaryHDU(image).writeto(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path), "--gain", "1,4", "--repair"]) == 0
    clean = fits.getdata(tmp_path / "in_cr.fits", "CRCLEAN")
    assert np.median(clean[:, 45:]) == pytest.approx(np.median(clean[:, :45]), rel=0.02)


def test_a_rarer_ray_is_less_likely(night, tmp_path, model_with_share):
    rows = []
    for number, rate in enumerate(([], ["--rate", "1e-7"])):
        out = tmp_path / str(number)
        options = ["-m", str(model_with_share), "--prob", *rate]
        assert main(["detect", str(night / "good0.fits"), "-o", str(out), *options]) == 0
        rows.append(fits.getdata(out / "good0_cr.fits", "CRPROB"))
    assert (rows[1] <= rows[0]).all()
    assert rows[1].sum() < 0.9 * rows[0].sum()


@pytest.fixture
def model_with_share(tmp_path):
    from crcore import zoo

    model = zoo.load("ground_imaging")
    zoo.save(tmp_path / "shared", zoo.Model(**{**vars(model), "share": 0.002}), card="# x\n")
    return tmp_path / "shared"


def test_two_processes_give_what_one_gives(night, tmp_path):
    for workers in ("1", "2"):
        assert main(["detect", str(night), "-o", str(tmp_path / workers), "--workers", workers]) == 1
    for i in range(3):
        one, two = (fits.getdata(tmp_path / w / f"good{i}_cr.fits", "CRMASK") for w in ("1", "2"))
        assert np.array_equal(one, two)


def die_once(path, target):
    flag = os.path.join(os.path.dirname(target), "killed")
    if path.endswith("good1.fits") and not os.path.exists(flag):
        with open(flag, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)


def dies_before(path, target, settings):
    die_once(path, target)
    return detect_file(path, target, settings)


def dies_after(path, target, settings):
    row = detect_file(path, target, settings)
    die_once(path, target)
    return row


@pytest.mark.parametrize("job", [dies_before, dies_after])
def test_a_killed_worker_costs_no_file(night, tmp_path, monkeypatch, job):
    monkeypatch.setattr(module, "detect_file", job)
    out = tmp_path / "out"
    out.mkdir()
    paths = sorted(night.glob("good*.fits"))
    rows = detect_batch(paths, out, [f"{p.stem}_cr.fits" for p in paths], Settings(), workers=2, say=lambda line: None)
    assert [row["status"] for row in rows] == ["done"] * 3
    assert (out / "killed").exists()
    assert not list(out.glob(".part*"))


def image(seed=1, shape=(64, 72)):
    data = np.random.default_rng(seed).normal(200, 10, shape).astype(np.float32)
    data[30, 20:26] += 2000
    return data


def test_masks_belong_to_the_image_of_their_version(tmp_path):
    dq = np.zeros((64, 72), np.int16)
    dq[5, 6] = 1
    names = [("SCI", 1, image()), ("SCI", 2, image(2)), ("DQ", 1, dq), ("DQ", 2, np.zeros_like(dq))]
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(data, name=name, ver=ver) for name, ver, data in names)]
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out"), "--dq", "hst"]) == 0
    with fits.open(tmp_path / "out" / "in_cr.fits") as made:
        assert [h.name for h in made].count("DQ") == 2
        assert made["CRMASK", 1].data[5, 6] == 2
        assert made["CRMASK", 2].data[5, 6] == 0
        for version in (1, 2):
            np.testing.assert_array_equal((made["DQ", version].data & 4096) > 0, made["CRMASK", version].data == 1)


@pytest.mark.parametrize(("ext", "looked"), [("all", [1, 2]), ("CHIP2", [2]), ("2", [2]), ("CHIP1,1", [1]), ("", [1])])
def test_extensions_are_those_that_were_asked_for(tmp_path, ext, looked):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image(), name="CHIP1"), fits.ImageHDU(image(2), name="CHIP2")]
    fits.HDUList([*hdus, fits.ImageHDU(image(3), name="VAR")]).writeto(tmp_path / "in.fits")
    options = ["-e", ext] if ext else []
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out"), *options]) == 0
    with fits.open(tmp_path / "out" / "in_cr.fits") as made:
        assert [h.header["CREXT"] for h in made if h.name == "CRMASK"] == looked


def test_images_that_were_not_asked_for_are_named(tmp_path, capsys):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image(1)), fits.ImageHDU(image(2))]).writeto(tmp_path / "in.fits")
    arguments = ["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out"), "--overwrite"]
    assert main(arguments) == 0
    assert "not looked at: extension 2: -e all" in capsys.readouterr().out
    assert main([*arguments, "-e", "all"]) == 0
    assert "not looked at" not in capsys.readouterr().out
    assert [row["extensions"] for row in Table.read(tmp_path / "out" / "crcore_detect.ecsv")] == [2]


@pytest.mark.parametrize(("gain", "unit"), [({}, "adu"), ({"GAIN": 2.0}, "electron")])
def test_numbers_are_electrons_only_where_a_gain_is_known(night, tmp_path, capsys, gain, unit):
    with fits.open(night / "good0.fits", mode="update") as hdus:
        hdus[0].header.update(gain)
    assert main(["detect", str(night / "good0.fits"), "-o", str(tmp_path), "--repair", "--catalog"]) == 0
    assert ("no GAIN" in capsys.readouterr().out) == (unit == "adu")
    with fits.open(tmp_path / "good0_cr.fits") as hdus:
        assert [hdus[name].header["BUNIT"] for name in ("CRCLEAN", "CRVAR")] == [unit, f"{unit}2"]
    assert Table.read(tmp_path / "good0_cr.ecsv")["charge"].unit == unit


def test_a_catalogue_of_several_units_says_which(tmp_path):
    calibrated = fits.ImageHDU(image(2), fits.Header({"GAIN": 1.5}), name="SCI", ver=2)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image(1), name="SCI", ver=1), calibrated]).writeto(
        tmp_path / "in.fits"
    )
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out"), "--catalog"]) == 0
    table = Table.read(tmp_path / "out" / "in_cr.ecsv")
    assert table["charge"].unit is None
    assert {(row["ext"], row["unit"]) for row in table} == {(1, "adu"), (2, "electron")}


def test_a_dead_chip_does_not_hide_the_others(tmp_path, capsys):
    chips = [fits.ImageHDU(image(), name="SCI", ver=1), fits.ImageHDU(image() * np.nan, name="SCI", ver=2)]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out")]) == 0
    assert "extension 2: every pixel is bad" in capsys.readouterr().out
    with fits.open(tmp_path / "out" / "in_cr.fits") as made:
        assert made["CRMASK", 1].header["CRNPIX"] > 0
        assert (made["CRMASK", 2].data == 2).all()


def test_a_mask_of_another_shape_is_named(tmp_path, capsys):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image(), name="SCI"), fits.ImageHDU(np.zeros((9, 9), int), name="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "out")]) == 1
    assert "shape (9, 9)" in capsys.readouterr().err


def test_changed_data_and_broken_compression_are_named(tmp_path, capsys):
    path = tmp_path / "in.fits"
    fits.PrimaryHDU(image()).writeto(path, checksum=True)
    content = bytearray(path.read_bytes())
    content[4000] ^= 255
    path.write_bytes(content)
    squeezed = bytearray(gzip.compress(bytes(content)))
    squeezed[-6] ^= 255  # its own check
    (tmp_path / "other.fits.gz").write_bytes(squeezed)
    for file in ("in.fits", "other.fits.gz"):
        assert main(["detect", str(tmp_path / file), "-o", str(tmp_path / "out")]) == 1
        assert file in capsys.readouterr().err


def test_a_second_pass_replaces_the_masks_of_the_first(tmp_path):
    fits.PrimaryHDU(image()).writeto(tmp_path / "in.fits")
    assert main(["detect", str(tmp_path / "in.fits"), "-o", str(tmp_path / "a"), "--prob"]) == 0
    assert main(["detect", str(tmp_path / "a" / "in_cr.fits"), "-o", str(tmp_path / "b"), "-t", "0.9"]) == 0
    with fits.open(tmp_path / "b" / "in_cr_cr.fits") as made:
        assert [h.name for h in made if h.name.startswith("CR")] == ["CRMASK"]
        assert made["CRMASK"].header["CRTHRESH"] == 0.9
