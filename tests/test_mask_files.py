import hashlib
from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from crcore import Frame, InputError
from crcore.detection import NetworkDetector
from crcore.mask_files import Products, write_catalog, write_detection


@pytest.fixture(scope="module")
def sky():
    image = np.random.default_rng(0).normal(500, 25, (100, 90)).astype(np.float32)
    for i in range(12):
        image[60 + i, 40 + 2 * i : 43 + 2 * i] += 1500
    return image


@pytest.fixture(scope="module")
def detector():
    return NetworkDetector("ground_imaging")


def test_a_copy_gets_the_masks_and_the_original_is_untouched(sky, tmp_path, detector):
    source = tmp_path / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sky, name="SCI"), fits.ImageHDU(sky * 0, name="VAR")]).writeto(
        source
    )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    frame = Frame.read(source)
    found = detector(frame)
    write_detection(source, tmp_path / "out" / "in_cr.fits", found, Products(prob=True), sha="ab" * 32)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == digest
    with fits.open(tmp_path / "out" / "in_cr.fits") as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "VAR", "CRMASK", "CRPROB"]
        assert np.array_equal(hdus["SCI"].data, sky)
        assert np.array_equal(hdus["CRMASK"].data & 1, found.mask)
        assert np.array_equal(hdus["CRPROB"].data, found.prob)
        header = hdus["CRMASK"].header
        assert header["CRMODEL"] == "ground_imaging"
        assert header["CRNPIX"] == found.mask.sum()
        assert header["CRNOBJ"] == found.n_rays
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["in_cr.fits"]


def test_what_was_trimmed_is_marked_as_not_evaluated(tmp_path, detector):
    source = files("ccdproc") / "tests" / "data" / "a8280271.fits"
    frame = Frame.read(source)
    write_detection(source, tmp_path / "cr.fits", detector(frame))
    mask = fits.getdata(tmp_path / "cr.fits", "CRMASK")
    assert mask.shape == (520, 536)
    assert (mask[:, :16] == 2).all()
    assert (mask[:, 528:] == 2).all()
    assert (mask[:, 16:528] & 2 == 0).all()


def test_an_input_is_never_overwritten(sky, tmp_path, detector):
    source = tmp_path / "in.fits"
    fits.PrimaryHDU(sky).writeto(source)
    frame = Frame.read(source)
    with pytest.raises(InputError, match="is the input itself"):
        write_detection(source, source, detector(frame))


def test_a_compressed_image_is_copied_bit_for_bit(sky, tmp_path, detector):
    source = tmp_path / "in.fits.fz"
    hdu = fits.CompImageHDU(sky, name="SCI", compression_type="RICE_1", quantize_level=16)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(source)
    frame = Frame.read(source)
    write_detection(source, tmp_path / "out.fits", detector(frame))
    assert np.array_equal(fits.getdata(tmp_path / "out.fits", "SCI"), fits.getdata(source, "SCI"))
    assert fits.getdata(tmp_path / "out.fits", "CRMASK").shape == sky.shape


def mosaic(path, sky):
    """Two chips, each with variance and DQ, as Gemini writes them."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header["TELESCOP"] = "Gemini-North"
    for version in (1, 2):
        image = sky if version == 1 else sky[::-1]
        dq = np.zeros(sky.shape, dtype=np.int16)
        dq[0, 0], dq[50, 50] = 1, 8
        for name, data in (("SCI", image), ("VAR", image * 0 + 1), ("DQ", dq)):
            hdus.append(fits.ImageHDU(data, name=name, ver=version))
    fits.HDUList(hdus).writeto(path)
    return {index: Frame.read(path, ext=index) for index in (1, 4)}


def test_every_chip_has_its_mask(sky, tmp_path, detector):
    frames = mosaic(tmp_path / "in.fits", sky)
    found = {index: detector(frame) for index, frame in frames.items()}
    write_detection(tmp_path / "in.fits", tmp_path / "out.fits", found)
    with fits.open(tmp_path / "out.fits") as hdus:
        assert [(h.name, h.ver) for h in hdus[7:]] == [("CRMASK", 1), ("CRMASK", 2)]
        for version, index in ((1, 1), (2, 4)):
            assert hdus["CRMASK", version].header["CREXT"] == index
            assert np.array_equal(hdus["CRMASK", version].data & 1, found[index].mask)


def test_the_observatorys_bit_is_set_and_the_others_stay(sky, tmp_path, detector):
    frames = mosaic(tmp_path / "in.fits", sky)
    found = {index: detector(frame) for index, frame in frames.items()}
    write_detection(tmp_path / "in.fits", tmp_path / "out.fits", found, Products(dq="gemini"))
    with fits.open(tmp_path / "in.fits") as before, fits.open(tmp_path / "out.fits") as after:
        for index in (1, 4):
            old, new = before[index + 2].data, after[index + 2].data
            assert np.array_equal(new & ~8, old & ~8)
            assert np.array_equal((new & 8) > 0, found[index].mask | (old == 8))
            assert new.dtype == old.dtype
            assert np.array_equal(before[index].data, after[index].data)
    # what has been marked as a ray is not taken for bad when the copy is read again
    assert not Frame.read(tmp_path / "out.fits", ext=1).bad[found[1].mask].any()


def test_a_bit_that_does_not_fit_makes_the_mask_wider(sky, tmp_path, detector):
    path = tmp_path / "in.fits"
    bpm = fits.CompImageHDU(np.ones(sky.shape, dtype=np.uint8), name="BPM")
    bpm.data[:, :80] = 0
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sky, name="SCI"), bpm]).writeto(path)
    found = detector(Frame.read(path))
    write_detection(path, tmp_path / "out.fits", found, Products(dq="hst"))
    with fits.open(tmp_path / "out.fits") as hdus:
        assert np.array_equal(hdus["BPM"].data == 4096, found.mask)
        assert (hdus["BPM"].data[:, 80:] == 1).all()


def test_a_file_without_a_mask_gets_one(sky, tmp_path, detector):
    fits.PrimaryHDU(sky).writeto(tmp_path / "in.fits")
    found = detector(Frame.read(tmp_path / "in.fits"))
    write_detection(tmp_path / "in.fits", tmp_path / "out.fits", found, Products(dq="lco"))
    assert np.array_equal(fits.getdata(tmp_path / "out.fits", "DQ") == 8, found.mask)


def test_the_header_says_who_what_and_where_nothing_was_said(sky, tmp_path, detector):
    image = sky.copy()
    image[10:20, 30:70] = np.nan
    fits.PrimaryHDU(image).writeto(tmp_path / "in.fits")
    found = detector(Frame.read(tmp_path / "in.fits"))
    write_detection(tmp_path / "in.fits", tmp_path / "out.fits", found, Products(dilate=1), sha="ab" * 32)
    with fits.open(tmp_path / "out.fits", checksum=True) as hdus:  # wrong checksums warn, and warnings are errors
        header = hdus["CRMASK"].header
        assert header["CRSHA"] == "ab" * 8
        assert header["CRDILATE"] == 1
        assert header["CRNOEVAL"] == 400
        assert header["CRFRAC"] == pytest.approx(found.dilated(1).mean())
        assert "not evaluated: columns 30-69, rows 10-19: 400 pixels" in list(header["HISTORY"])
    with fits.open(tmp_path / "out.fits", disable_image_compression=True) as hdus:
        assert all("CHECKSUM" in hdu.header for hdu in hdus)


def test_scaled_integers_stay_as_they_are_on_disk(tmp_path, detector):
    counts = np.random.default_rng(1).integers(30_000, 40_000, (40, 50)).astype(np.uint16)
    fits.PrimaryHDU(counts).writeto(tmp_path / "in.fits")
    write_detection(tmp_path / "in.fits", tmp_path / "out.fits", detector(Frame.read(tmp_path / "in.fits")))
    with fits.open(tmp_path / "out.fits") as hdus:
        assert hdus[0].header["BITPIX"] == 16
        assert hdus[0].data.dtype == np.uint16
        assert np.array_equal(hdus[0].data, counts)


def test_repair_is_attached_and_said(sky, tmp_path, detector):
    fits.PrimaryHDU(sky).writeto(tmp_path / "in.fits")
    found = detector(Frame.read(tmp_path / "in.fits"))
    write_detection(tmp_path / "in.fits", tmp_path / "out.fits", found, Products(repair="median"))
    with fits.open(tmp_path / "out.fits") as hdus:
        clean, mask = hdus["CRCLEAN"].data, hdus["CRMASK"].data
        assert np.array_equal(mask & 4 > 0, found.mask)
        assert np.array_equal(mask & 1 > 0, found.mask)
        assert np.array_equal(clean[~found.mask], sky[~found.mask])
        assert np.abs(clean[found.mask] - 500).max() < 100
        assert hdus["CRVAR"].data[found.mask].min() > np.median(hdus["CRVAR"].data)


def test_a_folder_that_cannot_be_written_is_one_line(sky, tmp_path, detector):
    fits.PrimaryHDU(sky).writeto(tmp_path / "in.fits")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written") as caught:
        write_detection(tmp_path / "in.fits", tmp_path / "file" / "out.fits", detector(Frame(sky)))
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_nothing_behind(sky, tmp_path, detector, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    fits.PrimaryHDU(sky).writeto(tmp_path / "in.fits")
    monkeypatch.setattr(fits.HDUList, "writeto", full)
    with pytest.raises(InputError, match="No space left"):
        write_detection(tmp_path / "in.fits", tmp_path / "out" / "a.fits", detector(Frame(sky)))
    assert list((tmp_path / "out").iterdir()) == []


def test_the_catalogue_lists_every_ray_with_its_extension(sky, tmp_path, detector):
    frames = mosaic(tmp_path / "in.fits", sky)
    found = {index: detector(frame) for index, frame in frames.items()}
    write_catalog(tmp_path / "rays.ecsv", found)
    table = Table.read(tmp_path / "rays.ecsv")
    assert len(table) == sum(d.n_rays for d in found.values())
    assert set(table["ext"]) == {1, 4}
    assert table["charge"].unit == "adu"  # no GAIN in these headers
