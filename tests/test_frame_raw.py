from importlib import resources

import numpy as np
import pytest
from astropy.io import fits
from conftest import IMAGE, plain, write

from crcore.errors import InputError
from crcore.frame import Frame


@pytest.fixture
def raw(tmp_path):
    """Two rows, overscan in columns 1-2, image in columns 3-5 with a saturated pixel, one column of junk."""
    data = np.array([[100, 100, 101, 102, 103, 7], [200, 200, 210, 220, 65535, 7]], dtype="u2")
    return plain(
        tmp_path / "raw.fits", data, BIASSEC="[1:2,1:2]", TRIMSEC="[3:5,1:2]", GAIN=2.0, RDNOISE=5.0, SATURATE=65535
    )


def test_overscan_is_subtracted_row_by_row_and_trimmed(raw):
    frame = Frame.read(raw)
    np.testing.assert_array_equal(frame.data, [[2, 4, 6], [20, 40, (65535 - 200) * 2]])
    assert frame.offset == (0, 2)


def test_overscan_in_rows_is_subtracted_as_one_level(tmp_path):
    data = np.array([[10, 10], [11, 12], [13, 14]], dtype="i2")
    frame = Frame.read(plain(tmp_path / "raw.fits", data, BIASSEC="[1:2, 1:1]", TRIMSEC="[1:2, 2:3]"))
    np.testing.assert_array_equal(frame.data, [[1, 2], [3, 4]])
    assert frame.offset == (1, 0)


def test_raw_pixel_at_the_saturation_level_is_saturated_after_overscan_subtraction(raw):
    np.testing.assert_array_equal(Frame.read(raw).saturated, [[False] * 3, [False, False, True]])


def test_trimming_moves_the_reference_pixel(tmp_path):
    data = np.ones((2, 5), dtype="f4")
    path = plain(tmp_path / "raw.fits", data, BIASSEC="[1:2,1:2]", TRIMSEC="[3:5,1:2]", CRPIX1=4.0, CRPIX2=1.5)
    header = Frame.read(path).header
    assert (header["CRPIX1"], header["CRPIX2"]) == (2.0, 1.5)


def test_trimming_does_not_invent_a_reference_pixel(raw):
    assert "CRPIX1" not in Frame.read(raw).header


def test_bad_pixel_mask_is_trimmed_with_the_frame(tmp_path):
    mask = np.array([[1, 0, 0, 0, 1], [0, 0, 0, 1, 0]], dtype="u1")
    sci = fits.ImageHDU(
        np.ones((2, 5), "f4"), header=fits.Header({"BIASSEC": "[1:2,1:2]", "TRIMSEC": "[3:5,1:2]"}), name="SCI"
    )
    path = write(tmp_path / "raw.fits", sci, fits.ImageHDU(mask, name="BPM"))
    np.testing.assert_array_equal(Frame.read(path).bad, mask[:, 2:] > 0)


@pytest.mark.parametrize(
    ("bias", "trim"), [("[7:8,1:2]", "[1:3,1:2]"), ("[1:2,1:2]", "[1:9,1:2]"), ("UNKNOWN", "[2:3,1:2]")]
)
def test_sections_outside_the_array_leave_the_frame_whole(tmp_path, bias, trim):
    frame = Frame.read(plain(tmp_path / "a.fits", BIASSEC=bias, TRIMSEC=trim))
    np.testing.assert_array_equal(frame.data, IMAGE)
    assert frame.offset == (0, 0)


def test_real_raw_frame_is_trimmed_and_calibrated():
    pytest.importorskip("ccdproc")
    with resources.as_file(resources.files("ccdproc") / "tests" / "data" / "a8280271.fits") as path:
        stored = fits.getdata(path).astype(float)
        frame = Frame.read(path)
    assert frame.shape == (520, 512)
    assert frame.read_noise == 5.0
    assert frame.exposure_s == 150.04
    row = 1.9 * (stored[100, 16:528] - np.median(stored[100, 3:13]))
    np.testing.assert_allclose(frame.data[100], row, rtol=1e-5, atol=1e-3)


def test_data_that_are_electrons_already_are_not_multiplied(tmp_path):
    header = fits.Header({"GAIN": 2.0, "BUNIT": "electron"})
    fits.PrimaryHDU(np.ones((3, 3), "f4"), header=header).writeto(tmp_path / "a.fits")
    assert (Frame.read(tmp_path / "a.fits").data == 1).all()


def test_given_gain_and_read_noise_take_the_place_of_the_header(tmp_path):
    path = plain(tmp_path / "a.fits", GAIN=2.0, RDNOISE=7.0, SATURATE=50.0)
    frame = Frame.read(path, gain=4.0, read_noise=3.0)
    np.testing.assert_array_equal(frame.data, IMAGE * 4.0)
    assert (frame.saturation, frame.read_noise, frame.header["RDNOISE"]) == (200.0, 3.0, 3.0)
    assert frame.calibrated


def test_given_gain_counts_even_where_the_unit_is_the_electron(tmp_path):
    path = plain(tmp_path / "a.fits", GAIN=2.0, BUNIT="electron")
    np.testing.assert_array_equal(Frame.read(path, gain=3.0).data, IMAGE * 3.0)


@pytest.mark.parametrize("gain", [0.0, -2.0])
def test_given_gain_that_is_not_positive_is_reported(tmp_path, gain):
    with pytest.raises(InputError, match="must be positive"):
        Frame.read(plain(tmp_path / "a.fits"), gain=gain)


@pytest.mark.parametrize(
    ("cards", "calibrated"),
    [
        ({}, False),
        ({"GAIN": 2.0}, True),
        ({"GAIN": "N/A"}, False),
        ({"BUNIT": "electron"}, True),
        ({"BUNIT": " ELECTRONS "}, True),
        ({"BUNIT": "adu"}, False),
    ],
)
def test_frame_knows_whether_its_data_are_electrons(tmp_path, cards, calibrated):
    frame = Frame.read(plain(tmp_path / "a.fits", **cards))
    assert frame.calibrated is calibrated
    if not calibrated:
        np.testing.assert_array_equal(frame.data, IMAGE)


def lick(path, amplifiers=2, cover=3, **cards):
    """Two rows of six pixels, then the overscan of each amplifier: 10 and 20, in the second row one more."""
    light = np.arange(12.0).reshape(2, 6) + 1
    bias = [10.0, 20.0][:amplifiers]
    image = light + np.repeat(bias, 6 // amplifiers)
    overscan = np.repeat(bias, cover) * np.ones((2, 1))
    image[1] += 1
    overscan[1] += 1
    data = np.hstack([image, overscan]).astype("f4")
    return plain(path, data, **({"COVER": cover, "AMPSROW": amplifiers, "DATASEC": "[1:6,1:2]"} | cards)), light


@pytest.mark.parametrize("amplifiers", [1, 2])
def test_overscan_of_each_lick_amplifier_is_subtracted_row_by_row(tmp_path, amplifiers):
    path, light = lick(tmp_path / "a.fits", amplifiers, GAIN=1.5, SATURATE=100.0)
    frame = Frame.read(path)
    np.testing.assert_allclose(frame.data, 1.5 * light)
    assert (frame.offset, frame.full_shape) == ((0, 0), (2, 6 + 3 * amplifiers))
    assert frame.saturation < 150.0


@pytest.mark.parametrize("cards", [{"COVER": 4}, {"AMPSROW": 0}, {"DATASEC": "none"}, {"COVER": "3"}])
def test_columns_that_do_not_add_up_are_not_taken_for_lick_overscan(tmp_path, cards):
    frame = Frame.read(lick(tmp_path / "a.fits", **cards)[0])
    assert frame.shape == (2, 12)
