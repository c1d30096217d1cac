import numpy as np
import pytest
from astropy.io import fits

from crcore.errors import InputError
from crcore.fits_input import science_extensions
from crcore.frame import Frame


def mef(path, telescope=""):
    """Two chips, each followed by its own DQ: one bad pixel on the first, one flagged ray (4096) on the second."""
    hdus = [fits.PrimaryHDU(header=fits.Header({"TELESCOP": telescope}))]
    for chip, bit in ((1, 1), (2, 4096)):
        dq = np.zeros((4, 5), "i2")
        dq[chip, chip] = bit
        hdus += [
            fits.ImageHDU(np.full((4, 5), float(chip), "f4"), name="SCI", ver=chip),
            fits.ImageHDU(dq, name="DQ", ver=chip),
        ]
    fits.HDUList(hdus).writeto(path)
    return path


def test_each_chip_has_its_own_bad_pixels(tmp_path):
    path = mef(tmp_path / "a.fits")
    assert np.argwhere(Frame.read(path, ext=1).bad).tolist() == [[1, 1]]
    assert np.argwhere(Frame.read(path, ext=3).bad).tolist() == [[2, 2]]


def test_a_ray_that_the_observatory_flagged_is_not_a_bad_pixel(tmp_path):
    path = mef(tmp_path / "a.fits", "HST")
    assert Frame.read(path, ext=1).bad.sum() == 1
    assert Frame.read(path, ext=3).bad.sum() == 0


def test_chips_of_a_mosaic_are_found_and_their_masks_are_not(tmp_path):
    assert science_extensions(mef(tmp_path / "a.fits")) == [1, 3]


def test_unnamed_images_are_chips_only_where_they_say_so(tmp_path):
    plain = [fits.PrimaryHDU()] + [fits.ImageHDU(np.ones((4, 5), "f4")) for _ in range(3)]
    fits.HDUList(plain).writeto(tmp_path / "plain.fits")
    assert science_extensions(tmp_path / "plain.fits") == [1]
    for k in (1, 2):
        plain[k].header["DETSEC"] = f"[{5 * k - 4}:{5 * k},1:4]"
    fits.HDUList(plain).writeto(tmp_path / "mosaic.fits")
    assert science_extensions(tmp_path / "mosaic.fits") == [1, 2]


def test_chips_of_what_is_no_file_are_not_looked_for(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        science_extensions(tmp_path / "a.fits")
