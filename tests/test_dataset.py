import dataclasses
import hashlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crcore import figures, tables
from crcore.dataset import (
    find_reference,
    open_cached,
    read_sequence,
    sha256,
    summarise,
    summarise_files,
    survey,
    write_frame,
    write_sequence,
)
from crcore.errors import InputError
from crcore.frame import Frame
from crcore.labelled import NO_DATA, UNDECIDED, Sequence
from crcore.preprocess import peak_census, prepare

N, SHAPE = 3, (224, 240)
NOISE = 10.0


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


def test_the_chance_of_a_label_comes_back(tmp_path):
    sequence = made(3, (32, 40))
    assert sequence.chance is None
    chance = np.random.default_rng(1).integers(0, 256, sequence.cr.shape).astype(np.uint8)
    write_sequence(tmp_path / "a.fits", dataclasses.replace(sequence, chance=chance))
    np.testing.assert_array_equal(read_sequence(tmp_path / "a.fits").chance, chance)
    write_sequence(tmp_path / "b.fits", dataclasses.replace(sequence, truth=None, chance=chance))
    again = read_sequence(tmp_path / "b.fits")
    assert again.truth is None
    np.testing.assert_array_equal(again.chance, chance)


def test_threes_take_their_chances_with_them():
    sequence = made(7, (32, 40))
    chance = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 32, 40), np.uint8)
    parts = dataclasses.replace(sequence, chance=chance).threes()
    assert [part.chance[:, 0, 0].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5]]


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


def test_bytes_of_a_sequence_do_not_depend_on_the_clock(tmp_path, monkeypatch):
    sequence = made(3, (32, 40))
    sequence.data[1, -1] = 300.0  # a row without data is constant, and constant tiles are compressed in another way
    for name, now in (("a.fits", 1.6e9), ("b.fits", 1.7e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_sequence(tmp_path / name, sequence)
    assert sha256(tmp_path / "a.fits") == sha256(tmp_path / "b.fits")


def test_cache_holds_the_arrays_of_the_file(tmp_path):
    path = tmp_path / "masked_fits" / "a.fits"
    write_sequence(path, made(3, (32, 40)))
    arrays, sequence = open_cached(path, "noise"), read_sequence(path)
    assert sorted(arrays) == ["census", "chance", "cr", "ignore", "inputs", "median"]
    np.testing.assert_array_equal(arrays.pop("census")[1], peak_census(arrays["inputs"][1]))
    for name, array in arrays.items():
        if name == "ignore":  # what the labels lost to sources is told apart from what is none
            np.testing.assert_array_equal(array & ~np.uint8(UNDECIDED), sequence.ignore)
        elif name == "chance":
            np.testing.assert_array_equal(array, 255 * sequence.cr)
        elif name != "inputs":
            np.testing.assert_array_equal(array, getattr(sequence, name))
        assert isinstance(array, np.memmap)
    assert (arrays["inputs"].dtype, arrays["median"].dtype) == (np.float16, np.float32)
    bad = (sequence.ignore[1] & NO_DATA) > 0
    expected = prepare(sequence.data[1], "noise", bad=bad)
    np.testing.assert_allclose(arrays["inputs"][1], expected, rtol=1e-3, atol=1e-3)
    counts = open_cached(path, "counts")["inputs"]
    np.testing.assert_array_equal(counts[1], prepare(sequence.data[1], "counts", bad=bad))


def test_cache_is_kept_while_the_file_is_the_same(tmp_path):
    path = tmp_path / "masked_fits" / "a.fits"
    write_sequence(path, made(3, (32, 40)))
    open_cached(path, "noise")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy")}
    open_cached(path, "noise")
    assert len(before) == 6
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npy")} == before


def test_cache_is_refreshed_when_the_file_changes(tmp_path):
    path = tmp_path / "masked_fits" / "a.fits"
    sequence = made(3, (32, 40))
    write_sequence(path, sequence)
    assert not np.array_equal(open_cached(path, "noise")["cr"], 1 - sequence.cr)
    write_sequence(path, Sequence(**{**vars(sequence), "cr": 1 - sequence.cr}))
    np.testing.assert_array_equal(open_cached(path, "noise")["cr"], 1 - sequence.cr)


def test_checksum_is_that_of_the_bytes(written):
    assert sha256(written[0]) == hashlib.sha256(written[0].read_bytes()).hexdigest()


def test_files_are_summed_up_by_camera_and_filter(tmp_path):
    sequence = made(3, (32, 40))
    for name, camera in (("a", "fa16"), ("b", "fa16"), ("c", "fa02")):
        for i, header in enumerate(sequence.headers):
            header.update({"INSTRUME": camera, "FILTER": "rp", "EXPTIME": 100.0 if name == "b" else 120.0 + i})
        write_sequence(tmp_path / f"{name}.fits", sequence)
    rows = survey(sorted(tmp_path.glob("*.fits")))
    assert [row["exposures"] for row in rows] == [3, 3, 3]
    assert {(row["class"], row["shape"], row["scale_arcsec"]) for row in rows} == {("1 m", (32, 40), None)}
    rows[0]["scale_arcsec"], rows[1]["scale_arcsec"] = 1.14, 1.16  # filters differ a little
    (line,) = tables.imagers(rows).rows
    assert line == ("1 m", "fa02, fa16", "40 × 32", "1.15", "1′ × 1′", "1", "9")
    months = figures.samples_by_month([r | {"date": "2017-08-16"} for r in rows]).axes[0]
    assert "1 m (9)" in [text.get_text() for text in months.get_legend().get_texts()]
    other, both = summarise_files(rows, "observed")
    assert (other["camera"], both["camera"], both["data"]) == ("fa02 rp", "fa16 rp", "observed")
    assert (other["exposures"], both["exposures"]) == (3, 6)
    assert (other["seconds"], both["seconds"]) == ("120 to 120", "100 to 120")
    assert both["cr_pixels"] == 2 * other["cr_pixels"] == 2 * sequence.cr.sum()
    assert both["pixels"] == 2 * (sequence.ignore == 0).sum()


def test_simulated_rows_are_summed_up_by_class():
    rows = [
        {"class": c, "exposure_s": e, "pixels": 10, "cr_pixels": n}
        for c, e, n in (("1 m", 100.0, 1), ("1 m", 300.0, 2), ("2 m", 50.0, 4))
    ]
    one, two = summarise(rows)
    assert (one["camera"], one["exposures"], one["seconds"], one["cr_pixels"]) == ("LCO 1 m", 6, "100 to 300", 3)
    assert (two["camera"], two["exposures"], two["pixels"]) == ("LCO 2 m", 3, 10)
