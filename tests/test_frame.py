import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from conftest import IMAGE, plain, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crcore.dataset import write_frame
from crcore.errors import InputError
from crcore.fits_input import find_fits
from crcore.frame import Frame

FITS_DTYPES = ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4", "u8", "i1"]


def fails(path, **options):
    """The message of the InputError that reading raises, after the checks that hold for all of them."""
    with pytest.raises(InputError) as caught:
        Frame.read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def noisy(shape, seed=0):
    return np.random.default_rng(seed).normal(300.0, 12.0, shape).astype(np.float32)


@pytest.fixture
def e91(tmp_path):
    """An e91-like file: tile-compressed SCI and BPM with the catalogue between them, keywords in SCI."""
    data = noisy((64, 80))
    mask = np.zeros((64, 80), dtype=np.uint8)
    mask[3, 7] = 1
    mask[60] = 4
    header = fits.Header({"RDNOISE": 8.5, "GAIN": 1.0, "SATURATE": 90000.0, "EXPTIME": 120.5})
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.array([1.0]))], name="CAT")
    path = tmp_path / "cpt1m010-fa16-20190101-0001-e91.fits.fz"
    sci = fits.CompImageHDU(data, header=header, name="SCI", compression_type="RICE_1", quantize_level=64)
    write(path, sci, table, fits.CompImageHDU(mask, name="BPM"))
    return path, data, mask


def test_e91_pixels_come_back_within_the_quantisation(e91):
    path, data, _ = e91
    frame = Frame.read(path)
    assert frame.data.dtype == np.float32
    np.testing.assert_allclose(frame.data, data, atol=12.0 / 64)


def test_e91_bad_pixel_mask_is_read(e91):
    path, _, mask = e91
    np.testing.assert_array_equal(Frame.read(path).bad, mask > 0)


def test_e91_numbers_come_from_the_image_extension(e91):
    frame = Frame.read(e91[0])
    assert (frame.read_noise, frame.saturation, frame.exposure_s) == (8.5, 90000.0, 120.5)
    assert frame.name == "cpt1m010-fa16-20190101-0001-e91.fits.fz"


def test_primary_cards_are_merged_but_do_not_override_the_image_extension(tmp_path):
    primary = fits.PrimaryHDU(header=fits.Header({"RDNOISE": 9.0, "SITEID": "cpt"}))
    sci = fits.ImageHDU(IMAGE.astype("f4"), header=fits.Header({"RDNOISE": 4.0}), name="SCI")
    frame = Frame.read(write(tmp_path / "a.fits", primary, sci))
    assert frame.read_noise == 4.0
    assert frame.header["SITEID"] == "cpt"


@pytest.mark.parametrize("dtype", FITS_DTYPES)
def test_every_fits_type_is_read_as_native_float32(tmp_path, dtype):
    frame = Frame.read(plain(tmp_path / "a.fits", IMAGE.astype(dtype)))
    assert frame.data.dtype == np.dtype("f4")
    assert frame.data.dtype.isnative
    np.testing.assert_array_equal(frame.data, IMAGE)


def test_largest_unsigned_value_does_not_wrap(tmp_path):
    frame = Frame.read(plain(tmp_path / "a.fits", np.array([[0, 65535]], dtype="u2")))
    np.testing.assert_array_equal(frame.data, [[0.0, 65535.0]])


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8", ">i2", ">u4", "<i8", "f2", "?"])
def test_array_of_any_byte_order_becomes_native_float32(dtype):
    frame = Frame(np.array([[0, 1], [1, 0]], dtype=dtype))
    assert frame.data.dtype.isnative
    np.testing.assert_array_equal(frame.data, np.array([[0, 1], [1, 0]], dtype="f4"))


def test_sci_is_found_when_it_is_not_first(tmp_path):
    path = write(
        tmp_path / "mef.fits", fits.ImageHDU(np.full((2, 3), 9.0), name="VAR"), fits.ImageHDU(IMAGE, name="SCI")
    )
    np.testing.assert_array_equal(Frame.read(path).data, IMAGE)


def test_first_two_dimensional_image_is_taken_without_sci(tmp_path):
    path = write(
        tmp_path / "mef.fits",
        fits.ImageHDU(np.zeros((2, 2, 2)), name="CUBE"),
        fits.ImageHDU(IMAGE, name="A"),
        fits.ImageHDU(IMAGE + 1, name="B"),
    )
    np.testing.assert_array_equal(Frame.read(path).data, IMAGE)


@pytest.mark.parametrize("ext", ["B", "b", 2])
def test_extension_is_chosen_by_name_or_number(tmp_path, ext):
    path = write(tmp_path / "mef.fits", fits.ImageHDU(IMAGE, name="SCI"), fits.ImageHDU(IMAGE + 1, name="B"))
    np.testing.assert_array_equal(Frame.read(path, ext=ext).data, IMAGE + 1)


def test_gzipped_file_is_read(tmp_path):
    whole = plain(tmp_path / "a.fits", IMAGE.astype("i2"), RDNOISE=3.0)
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(whole.read_bytes()))
    frame = Frame.read(path)
    np.testing.assert_array_equal(frame.data, IMAGE)
    assert frame.read_noise == 3.0


def test_gain_takes_data_and_saturation_to_electrons_but_not_read_noise(tmp_path):
    frame = Frame.read(plain(tmp_path / "a.fits", GAIN=2.5, RDNOISE=7.0, SATURATE=50.0))
    np.testing.assert_array_equal(frame.data, IMAGE * 2.5)
    assert (frame.saturation, frame.read_noise) == (125.0, 7.0)


def test_saturated_is_at_or_above_the_level(tmp_path):
    frame = Frame.read(plain(tmp_path / "a.fits", GAIN=2.0, SATURATE=50))
    np.testing.assert_array_equal(frame.saturated, IMAGE >= 50)


def test_nothing_is_saturated_without_a_level():
    assert not Frame(np.full((2, 2), 1e9)).saturated.any()


def test_missing_keywords_are_none(tmp_path):
    frame = Frame.read(plain(tmp_path / "a.fits"))
    assert (frame.read_noise, frame.saturation, frame.exposure_s) == (None, None, None)


def test_frame_written_and_read_again_keeps_its_electrons(tmp_path):
    frame = Frame.read(plain(tmp_path / "adu.fits", noisy((32, 32)), GAIN=2.0, RDNOISE=5.0, SATURATE=1000.0))
    write_frame(tmp_path / "again.fits.fz", frame)
    again = Frame.read(tmp_path / "again.fits.fz")
    np.testing.assert_allclose(again.data, frame.data, atol=1.0)
    assert again.saturation == frame.saturation


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_bad(tmp_path, value):
    data = IMAGE.astype("f4")
    data[1, 2] = value
    frame = Frame.read(plain(tmp_path / "a.fits", data))
    np.testing.assert_array_equal(frame.bad, [[False] * 3, [False, False, True]])


def test_not_finite_pixels_are_added_to_the_given_mask():
    frame = Frame(np.array([[np.nan, 1.0, 2.0]]), bad=np.array([[0, 4, 0]]))
    np.testing.assert_array_equal(frame.bad, [[True, True, False]])


def test_value_beyond_float32_is_bad():
    np.testing.assert_array_equal(Frame(np.array([[1e300, 1.0]])).bad, [[True, False]])


def test_ccddata_has_the_frame_in_electrons_with_its_noise():
    frame = Frame(np.array([[16.0, np.nan], [-9.0, 0.0]]), read_noise=4.0)
    ccd = frame.to_ccddata()
    assert ccd.unit == "electron"
    np.testing.assert_array_equal(ccd.mask, [[False, True], [False, False]])
    np.testing.assert_allclose(ccd.uncertainty.array[[0, 1, 1], [0, 0, 1]], [np.sqrt(32), 5.0, 4.0])


@pytest.mark.parametrize(("cards", "unit"), [({}, "adu"), ({"GAIN": 2.0}, "electron")])
def test_ccddata_is_in_electrons_only_where_a_gain_is_known(tmp_path, cards, unit):
    fits.PrimaryHDU(np.ones((8, 9), np.float32), fits.Header(cards)).writeto(tmp_path / "a.fits")
    assert Frame.read(tmp_path / "a.fits").to_ccddata().unit == unit


def test_ccddata_round_trip_is_the_same_frame(tmp_path):
    data = IMAGE.astype("f4")
    data[0, 1] = np.nan
    frame = Frame.read(plain(tmp_path / "a.fits", data, GAIN=2.0, RDNOISE=6.0, EXPTIME=60.0))
    again = Frame.from_ccddata(frame.to_ccddata())
    np.testing.assert_array_equal(again.data, frame.data)
    np.testing.assert_array_equal(again.bad, frame.bad)
    assert (again.read_noise, again.exposure_s) == (6.0, 60.0)


def test_ccddata_in_adu_is_multiplied_by_gain():
    ccd = CCDData(IMAGE.astype(float), unit="adu", meta={"GAIN": 3.0, "RDNOISE": 2.0})
    frame = Frame.from_ccddata(ccd)
    np.testing.assert_array_equal(frame.data, IMAGE * 3)
    assert frame.read_noise == 2.0


def test_missing_file_is_reported(tmp_path):
    assert "no such file" in fails(tmp_path / "nothing.fits")


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_file_is_reported(tmp_path, kept):
    path = plain(tmp_path / "short.fits", noisy((64, 64)))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    fails(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_compressed_file_cut_within_its_image_is_reported(e91, kept):
    path = e91[0]
    with fits.open(path, disable_image_compression=True) as hdus:
        info = hdus["SCI"].fileinfo()
        size = hdus["SCI"].size
    path.write_bytes(path.read_bytes()[: info["datLoc"] + int(kept * size)])
    fails(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated", "ignore:Error validating header")
@pytest.mark.parametrize(("lost", "place"), [("CAT", "datLoc"), ("BPM", "hdrLoc")])
def test_file_cut_before_its_bad_pixel_mask_is_not_read_without_the_mask(e91, lost, place):
    path = e91[0]
    with fits.open(path, disable_image_compression=True) as hdus:
        end = hdus[lost].fileinfo()[place]
    path.write_bytes(path.read_bytes()[: end + 100])
    fails(path)


def test_truncated_gzip_is_reported(tmp_path):
    path = tmp_path / "short.fits.gz"
    path.write_bytes(gzip.compress(plain(tmp_path / "a.fits", noisy((64, 64))).read_bytes())[:-3000])
    fails(path)


def test_damaged_gzip_is_reported(tmp_path):
    content = bytearray(gzip.compress(plain(tmp_path / "a.fits", noisy((64, 64))).read_bytes()))
    content[20:2000] = b"\xff" * 1980
    path = tmp_path / "damaged.fits.gz"
    path.write_bytes(content)
    fails(path)


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.fz"])
def test_text_file_is_reported(tmp_path, name):
    path = tmp_path / name
    path.write_text("not an image\n" * 500)
    fails(path)


def test_empty_file_is_reported(tmp_path):
    path = tmp_path / "empty.fits"
    path.touch()
    fails(path)


def test_directory_is_reported(tmp_path):
    path = tmp_path / "folder.fits"
    path.mkdir()
    fails(path)


def test_file_with_only_a_table_is_reported(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(3.0))], name="CAT")
    message = fails(write(tmp_path / "table.fits", table))
    assert "no two-dimensional image" in message
    assert "CAT" in message


def test_cube_is_reported_with_its_shape(tmp_path):
    assert "(2, 3, 4)" in fails(plain(tmp_path / "cube.fits", np.zeros((2, 3, 4), "f4")))


@pytest.mark.parametrize("ext", ["SCY", 7, "CUBE", "CAT", 0])
def test_wrong_extension_is_reported_with_those_there_are(tmp_path, ext):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(3.0))], name="CAT")
    path = write(
        tmp_path / "mef.fits", fits.ImageHDU(IMAGE, name="SCI"), fits.ImageHDU(np.zeros((2, 2, 2)), name="CUBE"), table
    )
    message = fails(path, ext=ext)
    assert repr(ext) in message
    assert "SCI" in message


@pytest.mark.parametrize("gain", [-1.5, 0.0])
def test_gain_that_is_not_positive_is_reported(tmp_path, gain):
    assert "GAIN" in fails(plain(tmp_path / "a.fits", GAIN=gain))


def test_unreadable_header_card_is_reported(tmp_path):
    path = plain(tmp_path / "card.fits", GAIN=2.0)
    content = path.read_bytes()
    card = next(content[i : i + 80] for i in range(0, 2880, 80) if content[i : i + 8] == b"GAIN    ")
    path.write_bytes(content.replace(card, b"GAIN    = 2.0 or 'three".ljust(80)))
    fails(path)


def test_mask_of_another_shape_is_reported():
    with pytest.raises(InputError, match=r"^f\.fits: .*\(3, 2\).*\(2, 3\)[^\n]*$"):
        Frame(IMAGE, bad=np.zeros((3, 2), bool), name="f.fits")


@pytest.mark.parametrize(
    "data",
    [np.zeros(4), np.zeros((2, 2, 2)), np.zeros((0, 5)), np.ones((2, 2), complex), np.array([["a", "b"]])],
    ids=["line", "cube", "nothing", "complex", "text"],
)
def test_array_that_is_no_image_is_reported(data):
    with pytest.raises(InputError, match=r"^f\.fits: [^\n]*two-dimensional[^\n]*$"):
        Frame(data, name="f.fits")


def test_find_fits_lists_all_suffixes_below_a_folder_in_order(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.fits", "a.FITS", "sub/c.fits.fz", "d.fits.gz", "e.fts", "notes.txt", "f.png"):
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in find_fits(tmp_path)]
    assert found == ["a.FITS", "b.fits", "d.fits.gz", "e.fts", "sub/c.fits.fz"]


def test_find_fits_reports_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        find_fits(tmp_path / "nowhere")


def _elements(dtype):
    if dtype.kind != "f":
        return hnp.from_dtype(dtype)
    largest = min(2.0**99, float(np.finfo(dtype).max) / 2)
    numbers = st.floats(-largest, largest, width=8 * dtype.itemsize)
    return numbers | st.sampled_from([np.nan, np.inf, -np.inf])


@st.composite
def images(draw):
    order = draw(st.sampled_from("<>"))
    kinds = hnp.integer_dtypes(endianness=order) | hnp.unsigned_integer_dtypes(endianness=order)
    dtype = draw(kinds | hnp.floating_dtypes(endianness=order, sizes=(16, 32, 64)) | hnp.boolean_dtypes())
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    image = draw(hnp.arrays(dtype, shape, elements=_elements(dtype)))
    return draw(st.sampled_from([image, image.T, image[::-1], image[:, ::-1]]))


@given(images())
@settings(max_examples=150, deadline=None)
def test_frame_holds_the_same_numbers_whatever_the_array_is_like(image):
    frame = Frame(image)
    expected = np.array(image.tolist(), dtype=np.float32).reshape(image.shape)
    assert frame.data.dtype == np.float32
    assert frame.data.dtype.isnative
    assert frame.data.flags.c_contiguous
    np.testing.assert_array_equal(frame.data, expected)
    np.testing.assert_array_equal(frame.bad, ~np.isfinite(expected))
