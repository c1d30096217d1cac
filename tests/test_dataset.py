import hashlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crcore import results
from crcore.dataset import (
    SimulationConfig,
    find_reference,
    open_cached,
    read_sequence,
    simulate_dataset,
    write_frame,
    write_sequence,
)
from crcore.errors import InputError
from crcore.frame import Frame
from crcore.labeling import LabelingConfig, Sequence

N, SHAPE = 3, (224, 240)
NOISE = 10.0
LABELING = LabelingConfig(border_px=8)
CONFIG = SimulationConfig(
    seed=7,
    shape=(72, 80),
    exposure_s=(600.0, 900.0),
    rate_factor=20.0,
    sequences={"sinistro": (1, 1, 1), "sbig6303": (1, 0, 0)},
)
SMALL = SimulationConfig(
    seed=3, shape=(40, 40), exposure_s=(100.0, 101.0), rate_factor=10.0, sequences={"sinistro": (1, 0, 0)}
)


def made(n=N, shape=SHAPE, truth=True):
    """A sequence in which every mask of every exposure is different."""
    rng = np.random.default_rng(1)
    headers = tuple(
        fits.Header(
            {
                "EXPTIME": 120.0 + i,
                "RDNOISE": 8.0,
                "SATURATE": 9e4,
                "SIMULATE": True,
                "TELID": "1m0a",
                "CAMERA": "Sinistro",
            }
        )
        for i in range(n)
    )
    ignore = rng.choice([0, 0, 0, 1, 4, 5, 8, 12], (n, *shape))
    ignore[:, 5:9, 7] |= 2
    return Sequence(
        data=(rng.normal(300.0, NOISE, (n, *shape)) + 1000.0 * np.arange(n)[:, None, None]).astype("f4"),
        cr=(rng.random((n, *shape)) < 0.01).astype("u1"),
        ignore=ignore.astype("u1"),
        headers=headers,
        names=tuple(f"exposure-{i}-e91" for i in range(n)),
        catalog=Table({"x": [1.5, 2.5], "y": [3.0, 4.0]}),
        truth=rng.choice([0, 0, 1, 2], (n, *shape)).astype("u1") if truth else None,
    )


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    sequence = made()
    path = tmp_path_factory.mktemp("data") / "masked_fits" / "field_3frms_masks.fits"
    write_sequence(path, sequence)
    return path, sequence


def test_masks_come_back_exactly(written):
    path, sequence = written
    again = read_sequence(path)
    for name in ("cr", "ignore", "truth"):
        assert getattr(again, name).dtype == np.uint8
        np.testing.assert_array_equal(getattr(again, name), getattr(sequence, name))


def test_data_come_back_within_the_compression_error(written):
    path, sequence = written
    again = read_sequence(path)
    assert again.data.dtype == np.float32
    error = again.data - sequence.data
    assert np.abs(error).max() < NOISE / 64
    assert abs(error.mean()) < NOISE / 1000  # dithered, so without a bias


def test_names_headers_and_catalogue_come_back(written):
    again = read_sequence(written[0])
    assert again.names == ("exposure-0-e91", "exposure-1-e91", "exposure-2-e91")
    assert [h["EXPTIME"] for h in again.headers] == [120.0, 121.0, 122.0]
    assert [h["RDNOISE"] for h in again.headers] == [8.0] * 3
    assert again.catalog["x"].tolist() == [1.5, 2.5]
    assert again.simulated


@pytest.mark.parametrize("n", [3, 5])
def test_any_number_of_exposures_comes_back(tmp_path, n):
    sequence = made(n, (32, 40))
    write_sequence(tmp_path / "a.fits", sequence)
    again = read_sequence(tmp_path / "a.fits")
    np.testing.assert_array_equal(again.cr, sequence.cr)
    np.testing.assert_array_equal(again.ignore, sequence.ignore)
    assert again.names == sequence.names


def test_sequence_without_truth_comes_back_without(tmp_path):
    write_sequence(tmp_path / "a.fits", made(3, (32, 40), truth=False))
    assert read_sequence(tmp_path / "a.fits").truth is None


def test_extensions_are_in_the_order_of_the_released_dataset(written):
    with fits.open(written[0]) as hdus:
        names = [h.name for h in hdus]
        assert hdus[0].header["FRMTOTAL"] == 3
    assert names == [
        "PRIMARY",
        "SCI",
        "SCI",
        "SCI",
        "VALID_MASK",
        "CAT",
        "CR",
        "CR",
        "CR",
        "IGNORE",
        "IGNORE",
        "IGNORE",
        "TRUTH",
        "TRUTH",
        "TRUTH",
    ]


def test_masks_have_extver_0_and_are_addressed_by_position(written):
    path, sequence = written
    with fits.open(path) as hdus:
        for i in range(N):
            assert hdus[3 + N + i].header["EXTVER"] == 0
            assert hdus[3 + 2 * N + i].header["EXTVER"] == 0
            np.testing.assert_array_equal(hdus[3 + N + i].data, sequence.cr[i])
            np.testing.assert_array_equal(hdus[3 + 2 * N + i].data, sequence.ignore[i])


def test_valid_mask_is_0_where_there_are_no_data(written):
    path, sequence = written
    valid = fits.getdata(path, "VALID_MASK")
    np.testing.assert_array_equal(valid == 0, (sequence.ignore[0] & 2) > 0)
    assert (valid == 0).sum() >= 4


def test_primary_header_says_that_the_sequence_is_simulated(written):
    header = fits.getheader(written[0])
    assert header["SIMULATE"] is True
    assert (header["TELID"], header["CAMERA"]) == ("1m0a", "Sinistro")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_released_loader_reads_the_file(written, capsys):
    """`LCO_Dataset` of the released package gives our exposures with the masks that belong to them."""
    loader = pytest.importorskip("cosmic_conn.dl_framework.dataloader")
    path, sequence = written
    options = SimpleNamespace(data=str(path.parents[1]), crop=32, valid_crop=0, max_train_size=0, comment="")
    found = loader.find_all_fits(options, min_exposure=100.0)
    assert found == [(str(path), path.name)]

    random.seed(1)
    dataset = loader.LCO_Dataset(options, found, validate=True)
    frames, cr, ignore, names = dataset[0]
    assert sorted(names) == [f"lco_exposure-{i}-e91" for i in range(3)]
    inner = np.s_[100:-100, 100:-100]  # the loader blanks 100 px around
    for k, name in enumerate(names):
        i = int(name.split("-")[1])
        np.testing.assert_allclose(frames[k][inner], sequence.data[i][inner], atol=NOISE / 64)
        np.testing.assert_array_equal(cr[k][inner], sequence.cr[i][inner])
        np.testing.assert_array_equal(ignore[k][inner], sequence.ignore[i][inner])


def unreadable(path):
    with pytest.raises(InputError) as caught:
        read_sequence(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message


def test_missing_sequence_is_reported(tmp_path):
    unreadable(tmp_path / "nothing.fits")


def test_text_is_no_sequence(tmp_path):
    path = tmp_path / "text.fits"
    path.write_text("no image here\n" * 300)
    unreadable(path)


def test_empty_file_is_no_sequence(tmp_path):
    path = tmp_path / "empty.fits"
    path.touch()
    unreadable(path)


def test_plain_image_is_no_sequence(tmp_path):
    fits.PrimaryHDU(np.zeros((8, 8), "f4")).writeto(tmp_path / "plain.fits")
    unreadable(tmp_path / "plain.fits")


def test_exposure_is_no_sequence(tmp_path):
    write_frame(tmp_path / "e91.fits.fz", Frame(np.ones((32, 32)), header=fits.Header({"FRMTOTAL": 3})))
    unreadable(tmp_path / "e91.fits.fz")


@pytest.mark.filterwarnings("ignore:File may have been truncated", "ignore:Error validating header")
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
def test_truncated_sequence_is_reported(tmp_path, written, kept):
    content = written[0].read_bytes()
    path = tmp_path / "short.fits"
    path.write_bytes(content[: int(kept * len(content))])
    unreadable(path)


def test_failed_write_keeps_the_old_sequence(tmp_path):
    path = tmp_path / "a.fits"
    write_sequence(path, made(3, (32, 40)))
    before = path.read_bytes()
    broken = Sequence(**{**vars(made(3, (32, 40))), "cr": np.full((3, 32, 40), "ray")})
    with pytest.raises(ValueError, match="invalid literal"):
        write_sequence(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits"]


def test_frame_is_written_like_an_e91_file(tmp_path):
    bad = np.zeros((48, 64), bool)
    bad[3, 4] = True
    data = np.random.default_rng(2).normal(300.0, NOISE, (48, 64))
    write_frame(tmp_path / "a.fits.fz", Frame(data, bad=bad, header=fits.Header({"RDNOISE": 8.0, "EXPTIME": 60.0})))
    with fits.open(tmp_path / "a.fits.fz") as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "BPM"]
    frame = Frame.read(tmp_path / "a.fits.fz")
    np.testing.assert_allclose(frame.data, data, atol=NOISE / 64)
    np.testing.assert_array_equal(frame.bad, bad)
    assert (frame.read_noise, frame.exposure_s) == (8.0, 60.0)


def test_reference_is_found_by_the_end_of_its_name_with_its_bits(tmp_path):
    (tmp_path / "truth").mkdir()
    mask = np.array([[0, 1, 2], [3, 4, 5]], dtype="i2")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask)]).writeto(tmp_path / "truth" / "mask_a.fits")
    reference = find_reference(tmp_path, "a.fits")
    assert reference.dtype == np.uint8
    np.testing.assert_array_equal(reference, [[0, 1, 2], [2, 0, 1]])


def test_frame_without_a_reference_has_none(tmp_path):
    assert find_reference(tmp_path, "a.fits") is None
    (tmp_path / "truth").mkdir()
    fits.PrimaryHDU(np.ones((2, 2), "u1")).writeto(tmp_path / "truth" / "mask_a.fits.old.fits")
    assert find_reference(tmp_path, "a.fits") is None


def test_reference_of_a_name_with_brackets_is_found(tmp_path):
    (tmp_path / "truth").mkdir()
    fits.PrimaryHDU(np.ones((2, 2), "u1")).writeto(tmp_path / "truth" / "field[0].fits")
    assert find_reference(tmp_path, "field[0].fits") is not None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    return folder, simulate_dataset(folder, CONFIG, LABELING)


def test_dataset_has_the_asked_sequences_in_each_split(dataset):
    folder, rows = dataset
    counts = {}
    for row in rows:
        counts[row["instrument"], row["split"]] = counts.get((row["instrument"], row["split"]), 0) + 1
        assert (folder / row["file"]).is_file()
        assert row["file"].startswith(f"{row['split']}/{row['instrument']}/masked_fits/")
    assert counts == {
        ("sinistro", "train"): 1,
        ("sinistro", "valid"): 1,
        ("sinistro", "test"): 1,
        ("sbig6303", "train"): 1,
    }


def test_manifest_on_disk_is_what_is_returned(dataset):
    folder, rows = dataset
    assert results.read_rows(folder / "manifest.csv") == rows


def test_manifest_tells_the_truth_about_each_file(dataset):
    folder, rows = dataset
    for row in rows:
        sequence = read_sequence(folder / row["file"])
        assert row["sha256"] == sha256(folder / row["file"])
        assert row["cr_pixels"] == sequence.cr.sum()
        assert row["pixels"] == (sequence.ignore == 0).sum()
        assert row["sources"] == len(sequence.catalog)
        assert row["exposure_s"] == sequence.headers[0]["EXPTIME"]
        assert row["filter"] == sequence.headers[0]["FILTER"]
        inside = (sequence.ignore & 3) == 0
        assert row["true_pixels"] == ((sequence.truth == 1) & inside).sum()
        assert row["data"] == "simulated"
        assert sequence.simulated


def test_exposure_times_are_whole_seconds_in_the_asked_range(dataset):
    times = [row["exposure_s"] for row in dataset[1]]
    assert all(600 <= t <= 900 and t == round(t) for t in times)
    assert len(set(times)) > 1


def test_no_field_is_in_two_sequences_let_alone_two_splits(dataset):
    folder, rows = dataset
    headers = [read_sequence(folder / row["file"]).headers[0] for row in rows]
    assert len({(h["CRVAL1"], h["CRVAL2"]) for h in headers}) == len(rows)
    assert len({h["MOLUID"] for h in headers}) == len(rows)
    assert len({row["sha256"] for row in rows}) == len(rows)
    first = [read_sequence(folder / row["file"]).data[0] for row in rows if row["instrument"] == "sinistro"]
    assert all(not np.array_equal(a, b) for k, a in enumerate(first) for b in first[:k])


def test_second_call_rewrites_no_sequence(dataset):
    folder, rows = dataset
    files = sorted(folder.rglob("masked_fits/*"))
    before = {p: p.stat().st_mtime_ns for p in files}
    assert simulate_dataset(folder, CONFIG, LABELING) == rows
    assert {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("masked_fits/*"))} == before


def test_manifest_is_the_same_file_after_a_second_call(tmp_path):
    simulate_dataset(tmp_path, SMALL, LABELING)
    before = (tmp_path / "manifest.csv").read_text()
    simulate_dataset(tmp_path, SMALL, LABELING)
    assert (tmp_path / "manifest.csv").read_text() == before


def test_killed_run_goes_on_with_what_is_missing(tmp_path):
    config = SimulationConfig(**{**vars(SMALL), "sequences": {"sinistro": (1, 1, 0)}})

    def stop_after_one(jobs):
        yield jobs[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(tmp_path, config, LABELING, progress=stop_after_one)
    early = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.fits")}
    assert len(early) == 1
    assert not (tmp_path / "manifest.csv").exists()
    rows = simulate_dataset(tmp_path, config, LABELING)
    assert [row["split"] for row in rows] == ["train", "valid"]
    assert all((tmp_path / row["file"]).exists() for row in rows)
    assert {p: p.stat().st_mtime_ns for p in early} == early


def test_same_seed_makes_the_same_bytes_in_another_folder(tmp_path):
    other = SimulationConfig(**{**vars(SMALL), "seed": SMALL.seed + 1})
    one, two, three = (
        simulate_dataset(tmp_path / name, config, LABELING)[0]["sha256"]
        for name, config in (("one", SMALL), ("two", SMALL), ("three", other))
    )
    assert one == two
    assert one != three


def test_bytes_of_a_sequence_do_not_depend_on_the_clock(tmp_path, monkeypatch):
    sequence = made(3, (32, 40))
    sequence.data[1, -1] = 300.0  # a row without data is constant, and constant tiles are compressed in another way
    for name, now in (("a.fits", 1.6e9), ("b.fits", 1.7e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_sequence(tmp_path / name, sequence)
    assert sha256(tmp_path / "a.fits") == sha256(tmp_path / "b.fits")


def test_other_settings_make_the_files_anew(tmp_path):
    first = simulate_dataset(tmp_path, SMALL, LABELING)
    second = simulate_dataset(tmp_path, SMALL, LabelingConfig(border_px=9))
    assert first[0]["key"] != second[0]["key"]
    assert second[0]["sha256"] == sha256(tmp_path / second[0]["file"]) != first[0]["sha256"]


def test_unknown_instrument_is_reported_with_those_there_are():
    with pytest.raises(InputError, match="webcam.*sbig6303, sinistro, spectral"):
        SimulationConfig(sequences={"webcam": (1, 0, 0)})


@pytest.mark.parametrize(
    "settings",
    [{"shape": (64,)}, {"shape": (64, 0)}, {"exposure_s": (100,)}, {"sequences": {"sinistro": (1, 1)}}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SimulationConfig(**settings)


def test_cache_holds_the_arrays_of_the_file(tmp_path):
    path = tmp_path / "masked_fits" / "a.fits"
    write_sequence(path, made(3, (32, 40)))
    arrays, sequence = open_cached(path), read_sequence(path)
    assert sorted(arrays) == ["cr", "data", "ignore", "median"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, getattr(sequence, name))
        assert isinstance(array, np.memmap)
    assert (arrays["data"].dtype, arrays["median"].dtype) == (np.float32, np.float32)


def test_cache_is_kept_while_the_file_is_the_same(tmp_path):
    path = tmp_path / "masked_fits" / "a.fits"
    write_sequence(path, made(3, (32, 40)))
    open_cached(path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy")}
    open_cached(path)
    assert len(before) == 4
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy")} == before


def test_cache_is_refreshed_when_the_file_changes(tmp_path):
    path = tmp_path / "masked_fits" / "a.fits"
    sequence = made(3, (32, 40))
    write_sequence(path, sequence)
    assert not np.array_equal(open_cached(path)["cr"], 1 - sequence.cr)
    write_sequence(path, Sequence(**{**vars(sequence), "cr": 1 - sequence.cr}))
    np.testing.assert_array_equal(open_cached(path)["cr"], 1 - sequence.cr)


def test_atomic_writes_the_file_and_makes_its_folder(tmp_path):
    with results.atomic(tmp_path / "new" / "a.txt") as part:
        assert part.parent == tmp_path / "new"
        part.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_atomic_gives_the_temporary_file_the_same_suffixes(tmp_path):
    with results.atomic(tmp_path / "a.b.fits.fz") as part:
        assert part.name.endswith(".fits.fz")
        part.write_text("")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_leaves_no_half_file_and_keeps_the_old_one_on_an_error(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with results.atomic(path) as part:
            part.write_text("ha")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_file_has_the_permissions_of_any_other_file(tmp_path):
    (tmp_path / "plain").touch()
    with results.atomic(tmp_path / "a") as part:
        part.write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_rows_come_back_with_their_types_and_all_digits(tmp_path):
    rows = [
        {"name": "a, b", "n": 3, "x": 0.1 + 0.2, "y": float(np.float64(1 / 3))},
        {"name": 'with "quotes"', "n": -7, "x": 1e-300, "y": np.inf},
    ]
    results.write_rows(tmp_path / "rows.csv", rows)
    again = results.read_rows(tmp_path / "rows.csv")
    assert again == rows
    assert [type(v) for v in again[0].values()] == [str, int, float, float]


def test_numpy_numbers_in_rows_keep_all_digits(tmp_path):
    results.write_rows(tmp_path / "rows.csv", [{"x": np.float64(1 / 3), "n": np.int64(5)}])
    assert results.read_rows(tmp_path / "rows.csv") == [{"x": 1 / 3, "n": 5}]


def test_text_with_an_underscore_stays_text(tmp_path):
    rows = [{"day": "2018_11"}]
    results.write_rows(tmp_path / "rows.csv", rows)
    assert results.read_rows(tmp_path / "rows.csv") == rows


def test_no_rows_come_back_as_none(tmp_path):
    results.write_rows(tmp_path / "rows.csv", [])
    assert results.read_rows(tmp_path / "rows.csv") == []


def test_rows_with_other_keys_are_refused_and_keep_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    results.write_rows(path, [{"a": 1}])
    with pytest.raises(ValueError, match="b"):
        results.write_rows(path, [{"a": 2}, {"b": 3}])
    assert results.read_rows(path) == [{"a": 1}]


def test_json_comes_back(tmp_path):
    content = {"x": [1, 2.5, None], "name": "a"}
    results.write_json(tmp_path / "a.json", content)
    assert results.read_json(tmp_path / "a.json") == content


def test_provenance_says_how_a_result_was_made():
    card = results.provenance(seed=5, seconds=1.26)
    assert (card["seed"], card["seconds"], card["code"]) == (5, 1.3, results.code_hash())
    assert card["versions"]["numpy"] == np.__version__
