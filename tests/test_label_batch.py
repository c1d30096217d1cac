import numpy as np
import pytest
from astropy.io import fits
from conftest import RAY, READ_NOISE, SHAPE, SMALL, exposure, exposures, sky_header, with_ray

from crcore import label_batch as module
from crcore import results
from crcore.dataset import read_sequence, sha256
from crcore.errors import InputError
from crcore.label_batch import MANIFEST, label_batch
from crcore.label_files import label_files
from crcore.release import labelled_files
from crcore.review import decide


def run(folder, molecule, n=3, *, seed=0, night="20190326", spoil=None, **cards):
    """Write one run of visits with a ray in each; ``spoil(images)`` changes them first."""
    images = exposures(n, seed=seed)
    for k, image in enumerate(images):
        image[60 + k, 70:76] += 1500.0
    if spoil:
        spoil(images)
    cards = {"DAY-OBS": night, "SITEID": "cpt"} | cards
    names = [f"{night}-{molecule}-{k}.fits" for k in range(n)]
    return [
        exposure(folder, m, molecule, k + 1, data=i, **cards)
        for k, (m, i) in enumerate(zip(names, images, strict=True))
    ]


def quiet(*args, **options):
    lines = []
    rows = label_batch(*args, SMALL, say=lines.append, **options)
    assert all("\n" not in line for line in lines)
    return rows, lines


def files(rows):
    return [r for r in rows if r["file"]]


def hashes(rows):
    return {r["file"]: r["sha256"] for r in files(rows)}


def spoil_shape(images):
    images[1] = images[1][:-10]


def spoil_values(images):
    images[2][:] = np.nan


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A folder with two good runs (of 3 and 7 visits), five broken ones and odd files; labelled."""
    folder = tmp_path_factory.mktemp("night")
    source = folder / "in"
    run(source, 1)
    run(source, 2, 7, seed=1)
    run(source, 3, spoil=spoil_shape)
    run(source, 4, spoil=spoil_values)
    run(source, 5, RDNOISE=None)
    run(source, 6, GAIN=None)
    cut = run(source, 7)
    run(source, 8, 2)
    run(source, 9, OBSTYPE="BIAS")
    cut[1].write_bytes(cut[1].read_bytes()[:-60_000])
    (source / "text.fits").write_text("no image\n" * 400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "contact_sheet", fast_sheet)
        rows, lines = quiet(source, folder / "out")
    return source, folder / "out", rows, lines


def fast_sheet(path, sequence, **options):
    """In place of the real one, which has tests of its own and takes a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"png")


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch):
    monkeypatch.setattr(module, "contact_sheet", fast_sheet)


def test_every_input_file_is_accounted_for_once(night):
    source, _, rows, _ = night
    told = "|".join(r["frames"] for r in rows).split("|")
    assert sorted(told) == sorted(p.name for p in source.iterdir())


def test_manifest_on_disk_is_what_is_returned(night):
    _, output, rows, _ = night
    disk = results.read_rows(output / "manifest.csv")
    assert list(disk[0]) == list(MANIFEST)
    assert [str(r["file"]) for r in disk] == [r["file"] for r in rows]
    assert [r["left_out"] for r in disk] == [r["left_out"] for r in rows]


def test_good_runs_are_labelled_and_cut_into_threes(night):
    _, output, rows, _ = night
    good = files(rows)
    assert [r["file"].split("/")[1] for r in good] == [
        "20190326-1-0-01_3frms_masks.fits",
        "20190326-2-0-01_3frms_masks.fits",
        "20190326-2-0-02_3frms_masks.fits",
    ]
    for row in good:
        sequence = read_sequence(output / row["file"])
        assert sequence.names == tuple(row["frames"].split("|"))
        assert sequence.cr.sum() == row["cr_pixels"] >= 18
        assert row["sha256"] == sha256(output / row["file"])
        assert row["pixels"] == (sequence.ignore & 3 == 0).sum()
        assert row["sources"] == len(sequence.catalog) == 4
        assert (row["data"], row["site"], row["camera"], row["filter"]) == ("real", "cpt", "fa16", "rp")
        assert (row["night"], row["exposure_s"], row["review"]) == ("20190326", 300.0, "")
        assert (output / row["sheet"]).exists()
    assert [p.name for p in labelled_files(output)] == [r["file"].split("/")[1] for r in good]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ("20190326-3-0.fits|20190326-3-1.fits|20190326-3-2.fits", "20190326-3-1.fits: has (118, 144) pixels"),
        ("20190326-4-0.fits|20190326-4-1.fits|20190326-4-2.fits", "20190326-4-2.fits: every pixel is bad"),
        ("20190326-5-0.fits|20190326-5-1.fits|20190326-5-2.fits", "20190326-5-0.fits: no RDNOISE"),
        ("20190326-6-0.fits|20190326-6-1.fits|20190326-6-2.fits", "20190326-6-0.fits: no GAIN"),
        ("20190326-7-1.fits", "cannot be read"),
        ("20190326-2-6.fits", "left over after cutting into threes"),
        ("20190326-8-1.fits", "one of 2 consecutive visits"),
        ("20190326-9-0.fits", "is a calibration (BIAS)"),
        ("text.fits", "cannot be read"),
    ],
)
def test_what_could_not_be_labelled_is_explained(night, frames, reason):
    row = next(r for r in night[2] if r["frames"] == frames)
    assert reason in row["left_out"]
    assert row["file"] == ""
    if "|" in frames or "text" in frames:
        assert any(reason in line for line in night[3])


def test_index_of_sheets_is_written(night):
    page = (night[1] / "contact_sheets" / "index.html").read_text()
    assert page.count("<img") == 3


def test_second_call_keeps_what_was_done_with_its_decisions(night, monkeypatch):
    source, output, rows, _ = night
    decide(output, ["20190326-2-0-02"], "rejected", "trail at the top")
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*_masks.fits")}

    def never(*args):
        raise AssertionError("labelled again")

    monkeypatch.setattr(module, "write_sequence", never)
    again, lines = quiet(source, output)
    assert hashes(again) == hashes(rows)
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*_masks.fits")} == before
    assert any("2 of 6 runs" in line and "are kept" in line for line in lines)
    assert [(r["review"], r["reason"]) for r in files(again)] == [("", ""), ("", ""), ("rejected", "trail at the top")]
    told = "|".join(r["frames"] for r in again).split("|")
    assert sorted(told) == sorted(p.name for p in source.iterdir())


def test_labelling_the_same_frames_anew_makes_the_same_bytes_and_keeps_decisions(tmp_path):
    run(tmp_path / "in", 1)
    first, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    decide(tmp_path / "out", ["-1-0"], "accepted", "fine")
    (tmp_path / "out" / first[0]["file"]).unlink()
    again, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    assert hashes(again) == hashes(first)
    assert (again[0]["review"], again[0]["reason"]) == ("accepted", "fine")


def test_changed_frames_are_labelled_anew_and_lose_the_decision(tmp_path):
    run(tmp_path / "in", 1)
    first, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    decide(tmp_path / "out", ["-1-0"], "accepted")
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    run(tmp_path / "in", 1, seed=5)
    again, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    assert hashes(again) != hashes(first)
    assert again[0]["review"] == ""


def test_other_settings_label_anew(tmp_path):
    run(tmp_path / "in", 1)
    quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    rows, lines = quiet(tmp_path / "in", tmp_path / "out", sheets=False, read_noise=30.0)
    assert not any("are kept" in line for line in lines)
    assert read_sequence(tmp_path / "out" / rows[0]["file"]).headers[0]["RDNOISE"] == 30.0


def test_gain_and_read_noise_can_be_given_where_headers_have_none(tmp_path):
    run(tmp_path / "in", 1, GAIN=None, RDNOISE=None)
    rows, _ = quiet(tmp_path / "in", tmp_path / "out", gain=1.0, read_noise=READ_NOISE, sheets=False)
    assert len(files(rows)) == 1
    assert rows[0]["sheet"] == ""
    assert not (tmp_path / "out" / "contact_sheets").exists()


def test_list_of_files_is_labelled(tmp_path):
    paths = run(tmp_path / "in", 1) + run(tmp_path / "in", 2)
    rows, _ = quiet(paths[:3], tmp_path / "out", sheets=False)
    assert [r["run"] for r in rows] == ["20190326-1-0"]


def test_bad_visit_of_a_run_is_left_out_and_named(tmp_path):
    def spoil(images):
        images[1] += 800.0

    run(tmp_path / "in", 1, 4, spoil=spoil)
    rows, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    assert files(rows)[0]["frames"] == "20190326-1-0.fits|20190326-1-2.fits|20190326-1-3.fits"
    assert [(r["frames"], "unstable sky" in r["left_out"]) for r in rows if not r["file"]] == [
        ("20190326-1-1.fits", True)
    ]


def test_reference_travels_with_its_frame(tmp_path):
    paths = run(tmp_path / "in", 1)
    truth = np.zeros(SHAPE, np.uint8)
    truth[60, 70:76] = 1
    (tmp_path / "truth").mkdir()
    fits.PrimaryHDU(truth).writeto(tmp_path / "truth" / f"lco-{paths[0].name}")
    rows, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False, reference=tmp_path)
    sequence = read_sequence(tmp_path / "out" / rows[0]["file"])
    np.testing.assert_array_equal(sequence.truth[0], truth)
    assert (sequence.truth[1:] == 2).all()


def test_runs_of_one_name_in_two_folders_do_not_overwrite_each_other(tmp_path):
    run(tmp_path / "in" / "a", 1)
    run(tmp_path / "in" / "b", 1, seed=3, INSTRUME="fa99")
    rows, _ = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    assert len(set(hashes(rows))) == len(list((tmp_path / "out" / "masked_fits").iterdir())) == 2


def test_folder_without_a_run_is_reported(tmp_path):
    run(tmp_path / "in", 1, 2)
    with pytest.raises(InputError, match="no three consecutive exposures"):
        quiet(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_processes_write_the_same_files_as_one(tmp_path):
    for molecule in (1, 2, 3):
        run(tmp_path / "in", molecule, seed=molecule)
    run(tmp_path / "in", 4, RDNOISE=None)
    alone, _ = quiet(tmp_path / "in", tmp_path / "one", sheets=False)
    shared, lines = quiet(tmp_path / "in", tmp_path / "two", sheets=False, workers=2)
    assert len(hashes(alone)) == 3
    assert hashes(shared) == hashes(alone)
    assert any("failed: 20190326-4-0.fits: no RDNOISE" in line for line in lines)
    columns = [c for c in MANIFEST if c != "seconds"]
    assert [[r[c] for c in columns] for r in shared] == [[r[c] for c in columns] for r in alone]


def written(folder, images, **cards):
    folder.mkdir()
    paths = []
    for k, image in enumerate(images):
        header = sky_header(GAIN=1.0, RDNOISE=READ_NOISE)
        header.update(cards)
        paths.append(folder / f"{folder.name}-{k}.fits")
        fits.PrimaryHDU(image.astype("f4"), header=header).writeto(paths[-1])
    return paths


@pytest.mark.filterwarnings("ignore:.*truncated:astropy.utils.exceptions.AstropyUserWarning")
def test_one_broken_sequence_does_not_hide_the_others(tmp_path):
    good, broken = written(tmp_path / "good", with_ray(exposures())), written(tmp_path / "broken", exposures())
    broken[1].write_bytes(broken[1].read_bytes()[:30_000])
    results = list(label_files([broken, good], SMALL))
    assert [paths for paths, _ in results] == [broken, good]
    assert isinstance(results[0][1], InputError)
    assert "broken-1.fits" in str(results[0][1])
    assert results[1][1].cr[1][RAY].all()


def test_frame_without_a_reference_is_undecided_everywhere(tmp_path):
    paths = written(tmp_path / "good", exposures())
    known = {paths[1]: np.ones(SHAPE, np.uint8)}
    ((_, sequence),) = label_files([paths], SMALL, reference=known.get)
    assert [np.unique(t).tolist() for t in sequence.truth] == [[2], [1], [2]]
    ((_, blind),) = label_files([paths], SMALL, reference=lambda path: None)
    assert blind.truth is None


def test_other_input_adds_to_the_manifest_and_keeps_decisions(tmp_path):
    run(tmp_path / "one", 1)
    run(tmp_path / "two", 2)
    quiet(tmp_path / "one", tmp_path / "out", sheets=False)
    decide(tmp_path / "out", ["-1-0"], "rejected", "007")
    both, _ = quiet(tmp_path / "two", tmp_path / "out", sheets=False)
    assert len(files(both)) == 2
    again, _ = quiet(tmp_path / "one", tmp_path / "out", sheets=False)
    rejected = [r for r in files(again) if r["review"] == "rejected"]
    assert [r["reason"] for r in rejected] == ["007"]
    assert len(files(again)) == 2


def test_a_manifest_of_somebody_else_is_not_touched(tmp_path):
    run(tmp_path / "in", 1)
    (tmp_path / "in" / "manifest.csv").write_text("mine,alone\n1,2\n")
    with pytest.raises(InputError, match=r"manifest\.csv: is no manifest"):
        quiet(tmp_path / "in", tmp_path / "in", sheets=False)
    assert (tmp_path / "in" / "manifest.csv").read_text() == "mine,alone\n1,2\n"


def test_an_interrupted_batch_goes_on_where_it_was(tmp_path, monkeypatch):
    for number in (1, 2, 3):
        run(tmp_path / "in", number)
    real, calls = module.label_run, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "label_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    monkeypatch.setattr(module, "label_run", real)
    rows, lines = quiet(tmp_path / "in", tmp_path / "out", sheets=False)
    assert len(files(rows)) == 3
    assert any("2 of 3 runs" in line for line in lines)


def mosaic(folder, spoil=None):
    """Three exposures of two chips, with a ray of another length on each; ``spoil(chip)`` changes the second."""
    for k in range(3):
        hdus = [fits.PrimaryHDU()]
        for chip in (1, 2):
            image = exposures(3, seed=chip)[k]
            image[60 + k, 70 : 70 + 4 * chip] += 1500.0
            header = sky_header(MOLUID=1, MOLFRNUM=k + 1, INSTRUME="m", EXPTIME=300.0, RDNOISE=READ_NOISE, GAIN=1.0)
            hdus.append(fits.ImageHDU(image.astype("f4"), header, name="SCI", ver=chip))
        if spoil:
            spoil(hdus[2])
        fits.HDUList(hdus).writeto(folder / f"m{k}.fits")


def test_each_chip_of_a_mosaic_is_labelled(tmp_path):
    mosaic(tmp_path)
    rows, _ = quiet(tmp_path, tmp_path / "out")
    assert [r["file"] for r in rows] == [f"masked_fits/m0-chip{k}-01_3frms_masks.fits" for k in (1, 2)]
    one, two = (read_sequence(tmp_path / "out" / r["file"]).cr for r in rows)
    assert one[0, 60, 70:74].all()
    assert not one[0, 60, 74:].any()
    assert two[0, 60, 70:78].all()


def test_chip_that_cannot_be_labelled_is_named_and_the_other_stands(tmp_path):
    mosaic(tmp_path, spoil=lambda hdu: hdu.data.fill(7.0))
    rows, lines = quiet(tmp_path, tmp_path / "out")
    assert [r["status"] for r in rows] == ["labelled", "failed"]
    assert "chip 2 (extension 2): " in rows[1]["left_out"]
    again, lines = quiet(tmp_path, tmp_path / "out")
    assert [r["status"] for r in again] == ["labelled", "failed"]
    assert "labelled before" in lines[0]


def test_splits_do_not_depend_on_which_run_is_done_first(tmp_path, monkeypatch):
    for k in range(6):
        run(tmp_path / "in", k, seed=k)

    def backwards(function, jobs, **options):
        yield from reversed([(i, function(*job)) for i, job in enumerate(jobs)])

    forth, _ = quiet(tmp_path / "in", tmp_path / "a")
    monkeypatch.setattr(module, "run_jobs", backwards)
    back, _ = quiet(tmp_path / "in", tmp_path / "b")
    assert {r["split"] for r in forth} == {"train", "valid", "test"}
    assert [(r["file"], r["split"]) for r in forth] == [(r["file"], r["split"]) for r in back]
