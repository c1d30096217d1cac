import dataclasses

import numpy as np
import pytest
from conftest import (
    RAY,
    READ_NOISE,
    SHAPE,
    SHIFTS,
    SMALL,
    dithered,
    exposures,
    frames_of,
    reported,
    sky_header,
    with_ray,
)

from crcore.frame import Frame
from crcore.labeling import LabelingConfig, label_sequence
from crcore.labelled import NO_DATA


def test_two_frames_are_reported():
    message = reported(frames_of(exposures(2)))
    assert "frame0, frame1" in message
    assert "at least 3" in message


def test_no_frames_are_reported():
    assert "at least 3" in reported([])


def test_frames_of_different_shapes_are_reported():
    frames = frames_of(exposures())
    frames[2] = Frame(frames[2].data[:, :128], read_noise=8.0, name="odd")
    message = reported(frames)
    assert message.startswith("odd")
    assert "(128, 144)" in message


def test_missing_read_noise_is_reported():
    frames = frames_of(exposures())
    frames[1] = Frame(frames[1].data, name="silent")
    message = reported(frames)
    assert message.startswith("silent")
    assert "RDNOISE" in message


def test_frame_that_is_all_border_is_reported():
    message = reported(frames_of(exposures()), LabelingConfig())
    assert message.startswith("frame0")
    assert "100 px" in message


def test_frame_without_a_good_pixel_is_reported():
    frames = frames_of(exposures())
    frames[2] = Frame(np.full(SHAPE, np.nan), read_noise=8.0, name="blank")
    assert reported(frames).startswith("blank")


@pytest.mark.parametrize("index", [0, 2])
def test_missing_gain_is_reported(index):
    frames = frames_of(exposures())
    frames[index] = dataclasses.replace(frames[index], calibrated=False, name="raw")
    message = reported(frames)
    assert message.startswith("raw: no GAIN in the header")


def test_missing_gain_and_read_noise_are_reported_together():
    frames = frames_of(exposures())
    frames[1] = Frame(frames[1].data, calibrated=False, name="raw")
    assert "no GAIN and RDNOISE" in reported(frames)


def test_saturated_field_is_not_silently_labelled():
    images = exposures(light=np.zeros(SHAPE))
    for image in images:
        image[:] = 60_000.0
    frames = [Frame(i, read_noise=READ_NOISE, saturation=50_000.0, name=f"f{k}") for k, i in enumerate(images)]
    assert "f0" in reported(frames)


def test_saturated_pixels_of_an_exposure_are_not_labelled():
    images = exposures()
    images[1][70:74, 60:64] = 60_000.0
    frames = [Frame(i, read_noise=READ_NOISE, saturation=50_000.0, header=sky_header()) for i in images]
    sequence = label_sequence(frames, SMALL)
    # a saturated ray is a ray; what matters is that no other pixel becomes one
    assert sequence.cr.sum() == sequence.cr[1, 69:75, 59:65].sum()


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_many_pixels_without_data_are_ignored_and_the_rest_is_labelled(share):
    images = with_ray(exposures())
    lost = np.random.default_rng(0).random(SHAPE) < share
    lost[60:64, 70:74] = False
    images[0][lost] = np.nan
    sequence = label_sequence(frames_of(images), SMALL)
    np.testing.assert_array_equal((sequence.ignore[1] & NO_DATA) > 0, lost)
    assert sequence.cr[1][RAY].all()
    assert sequence.cr.sum() <= 8


def test_pixels_without_data_in_dithered_exposures_do_no_harm():
    images = dithered()
    for image in images:
        image[40:42, 90:95] = np.nan
    frames = [Frame(i, read_noise=READ_NOISE, header=sky_header(*s)) for i, s in zip(images, SHIFTS, strict=True)]
    sequence = label_sequence(frames, SMALL)
    assert not sequence.cr.any()
    assert np.isfinite(sequence.data).all()


@pytest.mark.parametrize("level", [0.0, 500.0])
def test_an_empty_exposure_is_reported(level):
    frames = frames_of(exposures())
    frames[1] = Frame(np.full(SHAPE, level), read_noise=8.0, name="empty")
    assert reported(frames).startswith(f"empty: every pixel is {level:g}")


def test_a_saturated_exposure_is_reported():
    frames = frames_of(exposures())
    frames[0] = Frame(frames[0].data, read_noise=8.0, saturation=10.0, name="bright")
    assert "of its pixels are saturated" in reported(frames)


def test_one_bad_exposure_of_six_is_left_out():
    frames = frames_of(exposures(6))
    frames[5] = Frame(frames[5].data[:, :128], read_noise=8.0, name="odd")
    sequence = label_sequence(frames, SMALL)
    assert len(sequence.data) == 5
    assert list(sequence.facts["left_out"]) == ["odd"]
