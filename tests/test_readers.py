"""Files built to the letter of each layout become the same sequences."""

import numpy as np
import pytest
from astropy.io import fits

from crcore import fetched, readers
from crcore.dataset import read_sequence, write_sequence
from crcore.errors import InputError
from crcore.labelled import NO_DATA, SOURCE


def image(seed=1, shape=(64, 80)):
    return np.random.default_rng(seed).normal(200, 12, shape).astype(np.float32)


def masks(shape=(64, 80)):
    ray, bad = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    ray[20, 10:16], bad[40, :] = True, True
    return ray, bad


def deepcr(path, **changes):
    ray, bad = masks((256, 256))
    stamp = {"raw": image(shape=(256, 256)), "clean": image(2, (256, 256)), "crmask": ray.astype(np.uint8),
             "badmask": bad.astype(np.uint8), "exp": 500.0, "gain": 1.0, "sky": 30.0}  # fmt: skip
    np.savez(path, **(stamp | changes))
    return path


def dragons(path, chips=1):
    primary = fits.PrimaryHDU()
    primary.header.update({"INSTRUME": "GMOS-N", "ORIGNAME": "N20190101S0001.fits", "EXPTIME": 300.0})
    hdus = [primary]
    for k in range(1, chips + 1):
        ray, bad = masks()
        dq = (8 * ray + 1 * bad).astype(np.uint16)
        dq[41, 10] = 8 | 2  # a ray on a saturated pixel is not judged
        objects = np.zeros(ray.shape, dtype=np.uint8)
        objects[20:24, 10:30] = 1
        header = fits.Header({"EXTVER": k, "BUNIT": "electron", "RDNOISE": 4.0, "GAIN": 1.0})
        for name, data in (("SCI", image(k)), ("VAR", image(k) ** 2), ("DQ", dq), ("OBJMASK", objects)):
            hdus.append(fits.ImageHDU(data, header, name=name, ver=k))
    fits.HDUList(hdus).writeto(path)
    return path


def hst(path):
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "EXPTIME": 500.0})
    hdus = [primary]
    for k in (1, 2):
        ray, bad = masks()
        dq = (8192 * ray + 4 * bad).astype(np.int16)
        dq[5, 5], dq[6, 6], dq[7, 7] = 4096, 64, 16
        header = fits.Header({"BUNIT": "ELECTRONS"})
        for name, data in (("SCI", image(k)), ("ERR", image(k) ** 0.5), ("DQ", dq)):
            hdus.append(fits.ImageHDU(data, header, name=name, ver=k))
    fits.HDUList(hdus).writeto(path)
    return path


def test_a_stamp_of_deepcr(tmp_path):
    sequence = readers.read_deepcr(deepcr(tmp_path / "a.npz"))
    ray, bad = masks((256, 256))
    np.testing.assert_array_equal(sequence.cr[0] > 0, ray)
    np.testing.assert_array_equal(sequence.ignore[0] == NO_DATA, bad)
    np.testing.assert_array_equal(sequence.data[0], image(shape=(256, 256)))
    assert sequence.headers[0]["EXPTIME"] == 500
    assert not sequence.simulated


@pytest.mark.parametrize(
    "changes", [{"crmask": np.zeros((3, 3))}, {"raw": np.array([{"a": 1}], dtype=object)}, {"raw": np.zeros(4)}]
)
def test_a_stamp_that_is_none_is_explained_and_nothing_is_unpickled(tmp_path, changes):
    with pytest.raises(InputError):
        readers.read_deepcr(deepcr(tmp_path / "a.npz", **changes))


def test_a_frame_of_dragons(tmp_path):
    (sequence,) = readers.read_labelled(dragons(tmp_path / "a.fits"))
    ray, bad = masks()
    np.testing.assert_array_equal(sequence.cr[0] > 0, ray)
    assert (sequence.ignore[0][bad] & NO_DATA).all()
    assert sequence.ignore[0][41, 10] & NO_DATA
    assert sequence.ignore[0][22, 12] == SOURCE
    assert sequence.ignore[0][20, 12] == 0  # a labelled ray on an object counts
    assert sequence.headers[0]["ORIGNAME"] == "N20190101S0001.fits"
    np.testing.assert_allclose(sequence.data[0], image(1))
    assert not sequence.frame(0).bad[20, 12]


def test_each_chip_is_a_sequence(tmp_path):
    assert len(readers.read_labelled(dragons(tmp_path / "a.fits", chips=3))) == 3
    one, two = readers.read_labelled(hst(tmp_path / "j_flc.fits"))
    assert one.names != two.names
    ray, bad = masks()
    ray[5, 5] = True
    np.testing.assert_array_equal(one.cr[0] > 0, ray)
    np.testing.assert_array_equal(one.ignore[0] > 0, bad)  # warm and stable hot pixels are no harm


def test_converted_files_are_those_of_the_published_layout(tmp_path):
    source = tmp_path / "in"
    (source / "night").mkdir(parents=True)
    deepcr(source / "a.npz")
    dragons(source / "night" / "g.fits")
    hst(source / "h_flc.fits")
    (source / "broken.fits").write_text("no image")
    fits.PrimaryHDU(image()).writeto(source / "plain.fits")
    lines = []
    written = readers.convert(source, tmp_path / "out", say=lines.append)
    assert len(written) == 4
    assert len(lines) == 2
    assert all(line.startswith("left out: ") for line in lines)
    for path in written:
        sequence = read_sequence(path)
        assert len(sequence.data) == 1
        assert sequence.cr.sum() > 0
    assert readers.convert(source, tmp_path / "out", say=lines.append) == written
    assert readers.read_labelled(written[0])[0].cr.sum() == read_sequence(written[0]).cr.sum()


def test_two_files_that_would_have_one_name_are_both_told(tmp_path):
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    deepcr(source / "stamp.1.npz")
    deepcr(source / "stamp.2.npz")
    dragons(source / "a" / "b.fits")
    dragons(source / "a-b.fits")
    lines = []
    written = readers.convert(source, tmp_path / "out", say=lines.append)
    assert len(written) == len(set(written)) == 3
    assert len(lines) == 1
    assert "rename" in lines[0]


def test_sets_that_are_there_are_judged_and_others_are_not(tmp_path):
    assert fetched.fetched_sets("07_gemini", tmp_path / "build", root=tmp_path / "sets") == []
    (tmp_path / "sets" / "gemini").mkdir(parents=True)
    dragons(tmp_path / "sets" / "gemini" / "g.fits")
    (found,) = fetched.fetched_sets("07_gemini", tmp_path / "build", root=tmp_path / "sets")
    assert (found.name, found.data, len(found.paths)) == ("Gemini GMOS, reduced by DRAGONS, real", "real", 1)
    with fits.open(dragons(tmp_path / "sets" / "gemini" / "h.fits"), mode="update") as hdus:
        hdus["SCI"].header["CCDSUM"] = "2 2"
    whole, part = sorted(
        fetched.fetched_sets("07_gemini", tmp_path / "build", root=tmp_path / "sets"), key=lambda s: -len(s.paths)
    )
    assert (whole.name, len(whole.paths)) == (found.name, 2)
    assert (part.name, len(part.paths)) == ("Gemini GMOS, reduced by DRAGONS, 2x2, real", 1)
    assert fetched.fetched_sets("08_hst", tmp_path / "build", root=tmp_path / "sets") == []


def test_sequences_that_were_fetched_and_labelled_are_taken_as_they_are(tmp_path):
    place = tmp_path / "lco-archive"
    place.mkdir()
    fits.PrimaryHDU(image()).writeto(place / "raw.fits")
    assert fetched.lco_sequences(tmp_path) == []
    (one,) = readers.read_labelled(dragons(tmp_path / "a.fits"))
    one.headers[0]["TELID"] = "0m4a"
    path = place / "labelled" / "masked_fits" / "a_3frms_masks.fits"
    write_sequence(path, one)
    assert fetched.lco_sequences(tmp_path) == [path]
    sets = fetched.fetched_sets("06_lco", tmp_path / "build", root=tmp_path)
    assert [(s.name, s.paths) for s in sets] == [
        ("New LCO sequences, 0.4 m, real", (path,)),
        ("New LCO sequences, real", (path,)),
    ]
    assert any("New LCO" in line and "judged by 06_lco" in line for line in fetched.report(tmp_path))


def test_a_folder_without_masks_is_not_called_judged(tmp_path):
    (tmp_path / "gemini").mkdir()
    fits.PrimaryHDU(image()).writeto(tmp_path / "gemini" / "raw.fits")
    assert any("no masks yet (reduce them with DRAGONS)" in line for line in fetched.report(tmp_path))
    dragons(tmp_path / "gemini" / "reduced.fits")
    assert any("judged by 07_gemini" in line for line in fetched.report(tmp_path))
