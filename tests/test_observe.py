from dataclasses import replace

import numpy as np
import pytest
import sep
from astropy.time import Time
from astropy.wcs import WCS

from crcore.frame import Frame
from crcore.instruments import INSTRUMENTS
from crcore.simulate.observe import expose, ray_truth, saturation_level, simulate_sequence
from crcore.simulate.sky import PHASES, Field, Galaxy, draw_psf, random_field, render

SINISTRO = INSTRUMENTS["sinistro"]
QUIET = replace(SINISTRO, read_noise_e=0.0, gain_e_per_adu=1.0, saturation_e=1000.0)


def one_star(x, y, flux_e, *, sky_e=0.0, slope=(0.0, 0.0)):
    return Field(np.array([x]), np.array([y]), np.array([flux_e]), (), sky_e, slope)


def no_stars(*galaxies, sky_e=0.0, slope=(0.0, 0.0)):
    nothing = np.empty(0)
    return Field(nothing, nothing, nothing, galaxies, sky_e, slope)


def centroid(image):
    """Row and column of the centre of the light."""
    rows, columns = np.indices(image.shape)
    return np.array([(image * rows).sum(), (image * columns).sum()]) / image.sum()


@pytest.fixture(scope="module")
def psf():
    return draw_psf(3.0, beta=4.5)


@pytest.mark.parametrize("flux", [1e4, 1e6], ids=["faint", "bright"])
def test_flux_of_a_star_is_conserved_within_its_stamp(psf, flux):
    image = render(one_star(70.0, 75.0, flux), (150, 140), psf=psf)
    assert image.sum() == pytest.approx(flux, rel=3e-3)


@pytest.mark.parametrize(("x", "y"), [(31.0, 33.0), (31.375, 33.0), (31.0, 33.5), (30.875, 32.625)])
def test_star_is_drawn_at_its_place(psf, x, y):
    image = render(one_star(x, y, 1e4), (65, 67), psf=psf)
    np.testing.assert_allclose(centroid(image), (y, x), atol=0.02)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.0), (0.375, -1.125), (-0.5, 0.25)])
def test_shift_moves_a_star_by_rows_and_columns(psf, shift):
    image = render(one_star(31.25, 33.0, 1e4), (65, 67), psf=psf, shift_px=shift)
    np.testing.assert_allclose(centroid(image), (33.0 + shift[0], 31.25 + shift[1]), atol=0.02)


def test_shift_moves_a_galaxy_by_rows_and_columns(psf):
    galaxy = Galaxy(x=40.3, y=44.6, flux_e=1e4, half_light_px=2.0, sersic=1.0, axis_ratio=0.6, angle_deg=30.0)
    image = render(no_stars(galaxy), (90, 84), psf=psf, shift_px=(1.25, -2.7))
    np.testing.assert_allclose(centroid(image), (45.85, 37.6), atol=0.03)
    assert image.sum() == pytest.approx(1e4, rel=0.01)


def test_star_beyond_the_edge_gives_what_falls_inside_and_does_not_wrap(psf):
    image = render(one_star(-0.5, 30.0, 1e4), (64, 64), psf=psf)
    assert image.sum() == pytest.approx(5e3, rel=0.01)
    assert image[:, 32:].sum() == 0.0


def test_star_far_outside_gives_nothing(psf):
    assert not render(one_star(-300.0, 30.0, 1e6), (64, 64), psf=psf).any()


def test_width_of_a_star_is_the_asked_fwhm():
    image = render(one_star(32.0, 32.0, 1e5), (65, 65), psf=draw_psf(8.0, beta=4.0))
    row = image[32]
    beyond = np.flatnonzero(row < row.max() / 2)
    right = beyond[beyond > 32][0]
    half = right - 1 + (row[right - 1] - row.max() / 2) / (row[right - 1] - row[right])
    assert 2 * (half - 32) == pytest.approx(8.0, rel=0.03)


def test_sky_slopes_from_edge_to_edge(psf):
    image = render(no_stars(sky_e=200.0, slope=(0.1, -0.04)), (65, 81), psf=psf)
    assert image[32, 40] == pytest.approx(200.0)
    assert image[-1, 40] - image[0, 40] == pytest.approx(20.0, rel=1e-4)
    assert image[32, -1] - image[32, 0] == pytest.approx(-8.0, rel=1e-4)


def test_transparency_acts_on_objects_and_sky_factor_on_the_sky(psf):
    field = one_star(32.0, 32.0, 1e4, sky_e=50.0)
    plain = render(field, (65, 65), psf=psf)
    changed = render(field, (65, 65), psf=psf, transparency=0.5, sky_factor=2.0)
    np.testing.assert_allclose(changed - 100.0, 0.5 * (plain - 50.0), atol=1e-2)


def test_star_counts_double_every_magnitude():
    field = random_field(
        (1000, 1000), sky_e=100.0, stars_per_mpix=40_000, galaxies_per_mpix=0, rng=np.random.default_rng(1)
    )
    faintest = 20 * np.sqrt(200.0)
    flux = field.star_flux_e
    assert flux.min() >= faintest
    brighter = [(flux > faintest * 10 ** (0.4 * m)).sum() for m in (0, 1, 2, 3)]
    np.testing.assert_allclose(np.divide(brighter[:-1], brighter[1:]), 10**0.3, rtol=0.06)


def test_field_has_the_asked_density_with_its_margins_on_the_sub_pixel_grid():
    field = random_field(
        (900, 1100), sky_e=100.0, stars_per_mpix=5000, galaxies_per_mpix=200, rng=np.random.default_rng(2), margin_px=24
    )
    expected = 5000 * 948 * 1148 / 1e6
    assert len(field.star_x) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert field.star_x.min() < 0
    assert field.star_x.max() > 1100
    assert field.star_y.max() <= 900 + 24
    np.testing.assert_array_equal(field.star_x * PHASES, np.round(field.star_x * PHASES))


def test_variance_of_a_flat_is_poisson_plus_read_noise_plus_quantisation():
    shape = (250, 250)
    data = expose(np.full(shape, 400.0), np.zeros(shape, "f4"), SINISTRO, np.random.default_rng(3))
    variance = 400.0 + SINISTRO.read_noise_e**2 + SINISTRO.gain_e_per_adu**2 / 12
    assert data.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / data.size))
    assert data.mean() == pytest.approx(400.0, abs=4 * np.sqrt(variance / data.size))


def test_variance_without_light_is_the_read_noise():
    shape = (250, 250)
    data = expose(np.zeros(shape), np.zeros(shape, "f4"), SINISTRO, np.random.default_rng(4))
    assert data.std() == pytest.approx(
        np.hypot(SINISTRO.read_noise_e, SINISTRO.gain_e_per_adu / np.sqrt(12)), rel=0.012
    )
    assert data.mean() == pytest.approx(0.0, abs=0.15)


def test_data_are_whole_adu():
    shape = (60, 60)
    data = expose(np.full(shape, 300.0), np.zeros(shape, "f4"), SINISTRO, np.random.default_rng(5))
    adu = data / SINISTRO.gain_e_per_adu
    np.testing.assert_allclose(adu, np.round(adu), atol=1e-3)
    assert len(np.unique(np.round(adu))) > 10


def test_charge_of_a_ray_is_added_as_it_is():
    charge = np.zeros((5, 5), "f4")
    charge[1, 2] = 700.0
    np.testing.assert_array_equal(expose(np.zeros((5, 5)), charge, QUIET, np.random.default_rng(6)), charge)


def test_hot_pixels_have_shot_noise():
    hot = np.full((200, 200), 400.0, "f4")
    data = expose(np.zeros(hot.shape), np.zeros(hot.shape, "f4"), QUIET, np.random.default_rng(6), hot_e=hot)
    assert data.mean() == pytest.approx(400, rel=0.005)
    assert data.var() == pytest.approx(400, rel=0.05)


def column(*charge):
    """One column of charge through a noiseless camera with a full well of 1000 electrons."""
    charge = np.array([[0.0, c, 0.0] for c in charge], dtype="f4")
    data = expose(np.zeros(charge.shape), charge, QUIET, np.random.default_rng(7))
    assert not data[:, [0, 2]].any()
    return data[:, 1].tolist()


def test_charge_below_the_full_well_stays():
    assert column(0, 1000, 999, 0) == [0, 1000, 999, 0]


def test_excess_charge_bleeds_half_up_and_half_down():
    assert column(0, 0, 0, 3400, 0, 0, 0) == [0, 200, 1000, 1000, 1000, 200, 0]


def test_bleeding_fills_what_is_left_of_the_next_pixels():
    assert column(400, 400, 2200, 400, 400) == [400, 1000, 1000, 1000, 400]


def test_bleeding_passes_over_full_pixels_and_keeps_all_charge():
    full = column(*[0] * 10, 4000, 2500, 1000, 6000, *[0] * 10)
    assert sum(full) == 13500
    assert max(full) == 1000


def test_charge_that_bleeds_over_the_edge_is_lost():
    assert column(3000, 0, 0, 0) == [1000, 1000, 0, 0]


def test_pixels_at_the_full_well_are_saturated_in_the_frame():
    shape = (64, 16)
    charge = np.zeros(shape, "f4")
    charge[32] = 30 * SINISTRO.saturation_e
    data = expose(np.full(shape, 100.0), charge, SINISTRO, np.random.default_rng(8))
    frame = Frame(data, saturation=saturation_level(SINISTRO))
    assert frame.saturated[20:45].all()


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
    return simulate_sequence(SINISTRO, rng=np.random.default_rng(seed), **options)


@pytest.fixture(scope="module")
def sequence():
    return simulated(9)


def test_sequence_has_three_frames_of_the_asked_shape_with_their_truth(sequence):
    assert [f.shape for f in sequence.frames] == [(96, 112)] * 3
    assert [t.shape for t in sequence.truth] == [(96, 112)] * 3
    assert {t.dtype for t in sequence.truth} == {np.dtype("u1")}
    assert min(sequence.n_rays) > 0


def test_sequence_is_the_same_for_the_same_seed(sequence):
    again = simulated(9)
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


def test_a_star_keeps_its_place_on_the_sky_in_dithered_frames():
    quiet = replace(SINISTRO, read_noise_e=2.0, gain_e_per_adu=1.0)
    frames = simulate_sequence(
        quiet, shape=(160, 160), exposure_s=300.0, rng=np.random.default_rng(47), rate_factor=0.0
    ).frames
    found = []
    for frame in frames:
        level = frame.data - np.median(frame.data)
        stars = sep.extract(level, 8.0, err=1.4826 * np.median(np.abs(level)), minarea=9)
        x, y, flag = sep.winpos(level, stars["x"], stars["y"], 2.0)
        inside = (flag == 0) & (np.hypot(x - 80, y - 80) < 70) & (stars["peak"] < 5e4)
        found.append((x[inside], y[inside], stars["flux"][inside], WCS(frame.header)))
    x, y, flux, wcs = found[0]
    brightest = np.argsort(flux)[-6:]
    sky = wcs.pixel_to_world(x[brightest], y[brightest])
    moved = []
    for x_there, y_there, _, wcs_there in found[1:]:
        px, py = wcs_there.world_to_pixel(sky)
        apart = np.hypot(x_there[:, None] - px, y_there[:, None] - py).min(axis=0)
        assert np.median(apart) < 0.1
        moved.append(np.hypot(px - x[brightest], py - y[brightest]).max())
    assert max(moved) > 0.8
