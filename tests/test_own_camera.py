"""From a folder of frames to a report."""

import numpy as np
import pytest
from astropy.io import fits

from crcore import own_camera, results
from crcore.cli import main
from crcore.labeling import KINDS
from crcore.own_camera import PARTED
from crcore.results import read_rows


def frames(folder, n, *, repeated=False, shape=(128, 128)):
    rng = np.random.default_rng(3)
    folder.mkdir()
    for k in range(n):
        image = rng.normal(300, 18, shape).astype(np.float32)
        image[rng.integers(10, 110), 20:29] += 2000
        header = fits.Header({"GAIN": 1.0, "RDNOISE": 8.0, "EXPTIME": 300.0, "INSTRUME": "mine", "FILTER": "r"})
        header["OBJECT"] = "field" if repeated else f"field {k}"
        header["DATE-OBS"] = (
            f"2026-01-{1 + k // 3:02d}T{1 + 6 * (k % 3 if not repeated else 0):02d}:{6 * (k % 3):02d}:00"
        )
        fits.PrimaryHDU(image, header).writeto(folder / f"f{k:02d}.fits")
    (folder / "broken.fits").write_text("no image")
    return folder


def test_single_frames_get_rays_and_a_report(tmp_path, capsys):
    source, out = frames(tmp_path / "mine", 5), tmp_path / "out"
    assert main(["camera", str(source), "-o", str(out), "--epochs", "1"]) == 0
    rows = {r["detector"]: r for r in read_rows(out / "scores.csv")}
    assert {"generic", "generic, fine-tuned"} <= set(rows)
    assert all(row["data"] == "real" for row in rows.values())
    assert 0.3 < float(rows["generic"]["average_precision"]) <= 1
    report = (out / "report.md").read_text()
    assert "rays were put into 5 single frames" in report
    assert "| generic, fine-tuned |" in report
    assert (out / "discrepancy.png").stat().st_size > 5000
    assert "broken.fits" in "".join(capsys.readouterr())
    assert (out / "model" / "own_camera" / "card.md").exists()


def test_too_few_frames_are_refused(tmp_path, capsys):
    assert main(["camera", str(frames(tmp_path / "mine", 2)), "-o", str(tmp_path / "out")]) == 2
    assert "4 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--epochs", "0"), ("--read-noise", "-5"), ("--gain", "nan")])
def test_wrong_use(tmp_path, capsys, option, value):
    assert main(["camera", str(tmp_path), "-o", str(tmp_path / "out"), option, value]) == 2
    assert option in capsys.readouterr().err


def test_calibrations_and_products_are_no_frames(tmp_path, capsys):
    source = frames(tmp_path / "mine", 3)
    image = fits.getdata(source / "f00.fits")
    for name, header, more in (
        ("bias", {"OBSTYPE": "BIAS"}, []),
        ("f00_cr", {}, [fits.ImageHDU(image, name="CRMASK")]),
    ):
        hdus = [fits.PrimaryHDU(image, fits.Header({"GAIN": 1.0, "RDNOISE": 8.0, "EXPTIME": 300.0, **header})), *more]
        fits.HDUList(hdus).writeto(source / f"{name}.fits")
    assert main(["camera", str(source), "-o", str(tmp_path / "out")]) == 2
    told = "".join(capsys.readouterr())
    assert "3 frames can be read: 4 are needed" in told
    assert [told.count(f"{name}.fits: ") for name in ("bias", "f00_cr")] == [1, 1]


def test_what_a_review_has_rejected_is_not_trained_on(tmp_path, monkeypatch):
    rows = [{"file": f"masked_fits/{k}.fits", "review": "rejected" if k == 1 else ""} for k in range(5)]
    rows.append({"file": "", "review": ""})
    for row in rows[:5]:
        with results.atomic(tmp_path / "labelled" / row["file"]) as part:
            part.write_text("masks")
    monkeypatch.setattr(own_camera, "label_batch", lambda *args, **options: rows)
    how = own_camera._labelled(tmp_path, tmp_path, KINDS["imaging"], 100.0, {}, print)
    assert how.startswith("4 sequences")
    assert sorted(p.name for p in (tmp_path / PARTED).rglob("*.fits")) == ["0.fits", "2.fits", "3.fits", "4.fits"]


def test_a_second_call_parts_anew_and_leaves_other_files_alone(tmp_path):
    source, out = frames(tmp_path / "mine", 5), tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "data" / "mine.txt").write_text("not yours")
    for _ in range(2):
        assert main(["camera", str(source), "-o", str(out), "--epochs", "1"]) == 0
        (out / PARTED / "train" / "masked_fits" / "old.fits").write_text("of an earlier call")
    assert main(["camera", str(source), "-o", str(out), "--epochs", "1"]) == 0
    assert not list(out.rglob("old.fits"))
    assert (out / "data" / "mine.txt").exists()
