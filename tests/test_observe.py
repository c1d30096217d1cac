import numpy as np
import pytest
from astropy.time import Time
from astropy.wcs import WCS

from crcore.instruments import CAMERAS
from crcore.simulate.detector import saturation_level
from crcore.simulate.observe import ray_truth, simulate_sequence

SINISTRO = CAMERAS["sinistro"]


def test_seed_above_five_sigma_takes_connected_pixels_above_two_and_a_half():
    charge = np.array(
        [
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 51.0, 26.0, 24.0, 26.0, 0.0],
            [0.0, 0.0, 0.0, 27.0, 0.0, 0.0],
            [6.0, 0.0, 0.0, 0.0, 0.0, 4.0],
            [49.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    truth = ray_truth(charge, np.full(charge.shape, 10.0))
    np.testing.assert_array_equal(
        truth,
        [
            [0, 0, 0, 0, 0, 0],
            [0, 1, 1, 2, 1, 0],
            [0, 0, 0, 1, 0, 0],
            [2, 0, 0, 0, 0, 0],
            [2, 0, 0, 0, 0, 0],
        ],
    )


def test_truth_follows_the_noise_of_each_pixel():
    charge = np.full((1, 5), 30.0)
    np.testing.assert_array_equal(
        ray_truth(np.where([[1, 0, 1, 0, 1]], charge, 0), np.array([[5.0, 1.0, 11.0, 1.0, 70.0]])), [[1, 0, 2, 0, 0]]
    )


def test_no_charge_has_no_truth():
    assert not ray_truth(np.zeros((6, 6)), np.ones((6, 6))).any()


def simulated(seed, **options):
    options = {"shape": (96, 112), "exposure_s": 600.0, "rate_factor": 20.0, "identifier": 42} | options
    return simulate_sequence(options.pop("camera", SINISTRO), rng=np.random.default_rng(seed), **options)


@pytest.fixture(scope="module")
def sequence():
    return simulated(9, crossings=False)


def test_sequence_has_three_frames_of_the_asked_shape_with_their_truth(sequence):
    assert [f.shape for f in sequence.frames] == [(96, 112)] * 3
    assert [t.shape for t in sequence.truth] == [(96, 112)] * 3
    assert {t.dtype for t in sequence.truth} == {np.dtype("u1")}
    assert min(sequence.n_rays) > 0


def test_sequence_is_the_same_for_the_same_seed(sequence):
    again = simulated(9, crossings=False)
    for a, b in zip(sequence.frames, again.frames, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert a.header.tostring() == b.header.tostring()
    np.testing.assert_array_equal(sequence.truth, again.truth)
    assert sequence.n_rays == again.n_rays


def test_sequence_differs_for_another_seed(sequence):
    other = simulated(10)
    assert not np.array_equal(sequence.frames[0].data, other.frames[0].data)
    assert sequence.frames[0].header["CRVAL1"] != other.frames[0].header["CRVAL1"]


def test_frames_of_a_sequence_have_their_own_rays_and_noise(sequence):
    first, second, third = (t == 1 for t in sequence.truth)
    assert not np.array_equal(sequence.frames[0].data, sequence.frames[1].data)
    for a, b in ((first, second), (second, third), (first, third)):
        assert (a & b).sum() < 0.1 * min(a.sum(), b.sum())


def test_ray_pixels_stand_out_of_the_other_frames(sequence):
    # Between exposures of one sky, only rays make a pixel much brighter than in both of the others.
    stack = np.array([f.data for f in sequence.frames])
    level = stack - np.median(stack, axis=(1, 2), keepdims=True)
    for i in range(3):
        ray = sequence.truth[i] == 1
        noise = np.sqrt(np.median(stack, axis=0).clip(0) + SINISTRO.read_noise_e**2)
        excess = (level[i] - np.median(level, axis=0)) / noise
        assert np.median(excess[ray]) > 4
        assert abs(np.median(excess[sequence.truth[i] == 0])) < 0.5


def test_headers_say_what_is_simulated(sequence):
    for number, frame in enumerate(sequence.frames, start=1):
        header = frame.header
        assert header["SIMULATE"] is True
        assert (header["MOLUID"], header["MOLFRNUM"], header["FRMTOTAL"]) == (42, number, 3)
        assert (header["TELID"], header["CAMERA"]) == (SINISTRO.telescope_id, SINISTRO.name)
        assert (header["GAIN"], header["RDNOISE"], header["SATURATE"]) == (1.0, 8.0, saturation_level(SINISTRO))
        assert (frame.read_noise, frame.saturation, frame.exposure_s) == (8.0, saturation_level(SINISTRO), 600.0)
        assert header["PIXSCALE"] == SINISTRO.pixel_scale_arcsec
        assert header["ORIGNAME"] == frame.name


def test_names_in_a_sequence_differ(sequence):
    assert len({f.name for f in sequence.frames}) == 3


def test_exposures_follow_each_other_and_lie_in_the_survey(sequence):
    times = Time([f.header["DATE-OBS"] for f in sequence.frames])
    np.testing.assert_allclose((times[1:] - times[:-1]).sec, 630.0, atol=0.01)
    assert Time("2018-11-01") <= times[0] <= Time("2019-12-31")


def test_filter_and_pointing_are_the_same_within_a_sequence(sequence):
    for key in ("FILTER", "CRVAL1", "CRVAL2", "MOLUID", "INSTRUME"):
        assert len({f.header[key] for f in sequence.frames}) == 1


def test_pixel_scale_of_the_wcs_is_the_cameras(sequence):
    for frame in sequence.frames:
        scale = WCS(frame.header).proj_plane_pixel_scales()
        assert [s.to_value("arcsec") for s in scale] == pytest.approx([SINISTRO.pixel_scale_arcsec] * 2)


def test_no_rays_at_rate_zero():
    made = simulated(11, shape=(64, 64), rate_factor=0.0)
    assert made.n_rays == (0, 0, 0)
    assert not np.any(made.truth)


def test_more_exposures_can_be_asked_for():
    made = simulated(12, shape=(64, 64), n_frames=5)
    assert [f.header["MOLFRNUM"] for f in made.frames] == [1, 2, 3, 4, 5]
    assert len(made.truth) == len(made.n_rays) == 5
