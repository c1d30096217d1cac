import galsim
import numpy as np
import pytest

from crcore.errors import InputError
from crcore.simulate.psf import PHASES, PSF_KINDS, REACH, Stamps, draw_psf
from crcore.simulate.sky import Field, render

CORES = ("moffat", "kolmogorov", "airy", "spikes")


def stars(x, y, flux_e):
    return Field(np.array([x]), np.array([y]), np.array([flux_e]), (), 0.0, (0.0, 0.0))


def half_width(psf, angle_deg=0.0, scale=0.1):
    """Distance in pixels, along a direction, where the light falls to half of the centre's."""
    image = psf.drawImage(nx=161, ny=161, scale=scale, method="no_pixel").array
    r = np.arange(80)
    a = np.radians(angle_deg)
    profile = image[np.round(80 + r * np.sin(a)).astype(int), np.round(80 + r * np.cos(a)).astype(int)]
    k = np.flatnonzero(profile < profile[0] / 2)[0]
    return scale * (k - 1 + (profile[k - 1] - profile[0] / 2) / (profile[k - 1] - profile[k]))


@pytest.mark.parametrize("kind", CORES)
@pytest.mark.parametrize("fwhm", [1.8, 3.0])
def test_width_is_the_asked_fwhm(kind, fwhm):
    assert 2 * half_width(draw_psf(fwhm, kind=kind)) == pytest.approx(fwhm, rel=0.1)


@pytest.mark.parametrize("kind", PSF_KINDS)
def test_psf_has_unit_flux(kind):
    assert draw_psf(3.0, kind=kind).flux == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", PSF_KINDS)
def test_a_bright_star_keeps_its_flux(kind):
    image = render(stars(200.0, 200.0, 3e6), (401, 401), psf=draw_psf(2.5, kind=kind))
    assert image.sum() == pytest.approx(3e6, rel=0.015)


@pytest.mark.parametrize(("kind", "fwhm"), [("airy", 1.2), ("airy", 2.0), ("moffat", 1.8), ("spikes", 3.0)])
def test_stamps_of_every_size_are_the_pixel_integrated_psf(kind, fwhm):
    psf = draw_psf(fwhm, kind=kind)
    exact = psf.drawImage(nx=257, ny=257, scale=1.0, offset=(0.375, 0.625)).array
    for flux in (3e3, 1e6, 3e7):
        image = render(stars(128.375, 128.625, flux), (257, 257), psf=psf) / flux
        np.testing.assert_allclose(image[120:137, 120:137], exact[120:137, 120:137], atol=0.01 * exact.max())


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_spikes_lie_along_the_angle_and_across(angle):
    image = render(stars(150.0, 150.0, 1e7), (301, 301), psf=draw_psf(3.0, kind="spikes", angle_deg=angle))
    rows, columns = np.indices(image.shape) - 150.0
    ring = np.abs(np.hypot(rows, columns) - 50) < 15
    turn = (np.degrees(np.arctan2(rows, columns)) - angle) % 90
    turn = np.minimum(turn, 90 - turn)
    assert image[ring & (turn < 2)].mean() > 3 * image[ring & (turn > 20)].mean()


def test_donut_has_a_hole_and_the_promised_diameter():
    image = draw_psf(8.0, kind="donut").drawImage(nx=65, ny=65, scale=1.0).array
    profile = image[32, 32:]
    assert profile[0] < 0.5 * profile.max()
    outer = 2 * (np.flatnonzero(profile > profile.max() / 2)[-1] + 0.5)
    assert 1.5 * 8 < outer < 2.0 * 8


@pytest.mark.parametrize("angle", [0.0, 60.0])
def test_trail_is_longer_along_the_angle(angle):
    psf = draw_psf(3.0, kind="trailed", angle_deg=angle, strength=2.0)
    assert half_width(psf, angle + 90) == pytest.approx(1.5, rel=0.12)
    assert half_width(psf, angle) == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("kind", PSF_KINDS)
def test_no_edge_of_a_stamp_stands_out(kind):
    psf = draw_psf(2.0 if kind == "airy" else 4.0, kind=kind, angle_deg=20.0)
    sigma = np.sqrt(100.0)
    for flux in (1e4, 1e5, 1e6, 1e7):
        image = render(stars(250.0, 250.0, flux), (501, 501), psf=psf)
        drawn = np.flatnonzero(image[250] > 0)
        reach = 250 - drawn[0]
        # What is just inside a stamp falls to nothing outside.
        box = image[250 - reach : 251 + reach, 250 - reach : 251 + reach]
        border = np.concatenate([box[0], box[-1], box[:, 0], box[:, -1]])
        assert border.max() < 0.3 * sigma
    assert kind == "moffat" or reach > 40


def test_stamps_reach_further_for_brighter_stars():
    stamps = Stamps(draw_psf(3.0), 1e7, 1.0)
    halves = stamps.halves(np.array([1e2, 1e4, 1e6, 1e7]))
    assert (np.diff(halves) >= 0).all()
    assert halves[0] < halves[-1] <= REACH
    assert stamps.stamp(halves[-1], (0, 0)).shape == (2 * halves[-1] + 1,) * 2


@pytest.mark.parametrize("phase", [(0, 0), (3, 0), (0, 5), (7, 1)])
def test_phases_move_the_light_by_eighths_of_a_pixel(phase):
    stamp = Stamps(draw_psf(3.0, beta=4.5), 1e4, 1.0).stamp(16, phase)
    rows, columns = np.indices(stamp.shape) - 16
    centre = (stamp * rows).sum() / stamp.sum(), (stamp * columns).sum() / stamp.sum()
    np.testing.assert_allclose(centre, np.array(phase) / PHASES, atol=0.004)


def test_an_unknown_kind_is_named_with_those_there_are():
    with pytest.raises(InputError, match="'round' is unknown: use one of moffat, .*trailed$"):
        draw_psf(3.0, kind="round")


def test_psf_is_a_galsim_object():
    assert isinstance(draw_psf(3.0, kind="airy"), galsim.GSObject)
