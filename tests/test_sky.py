import numpy as np
import pytest

from crcore.errors import InputError
from crcore.simulate.psf import PHASES, draw_psf
from crcore.simulate.sky import FIELD_KINDS, Field, Galaxy, random_field, render


def one_star(x, y, flux_e, *, sky_e=0.0, slope=(0.0, 0.0)):
    return Field(np.array([x]), np.array([y]), np.array([flux_e]), (), sky_e, slope)


def no_stars(*galaxies, sky_e=0.0, slope=(0.0, 0.0)):
    nothing = np.empty(0)
    return Field(nothing, nothing, nothing, galaxies, sky_e, slope)


def centroid(image):
    """Row and column of the centre of the light."""
    rows, columns = np.indices(image.shape)
    return np.array([(image * rows).sum(), (image * columns).sum()]) / image.sum()


def light(diffuse, *, sky_e=0.0):
    return Field(np.empty(0), np.empty(0), np.empty(0), (), sky_e, (0.0, 0.0), diffuse)


def make(kind, seed=1, shape=(300, 300)):
    rng = np.random.default_rng(seed)
    return random_field(shape, sky_e=200.0, stars_per_mpix=500, galaxies_per_mpix=50, rng=rng, kind=kind)


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


@pytest.mark.parametrize("kind", FIELD_KINDS)
def test_a_seed_gives_the_same_field_and_another_does_not(kind):
    a, b, other = make(kind, 5), make(kind, 5), make(kind, 6)
    np.testing.assert_array_equal(a.star_flux_e, b.star_flux_e)
    np.testing.assert_array_equal(a.star_x, b.star_x)
    assert a.galaxies == b.galaxies
    assert (a.diffuse is None) == (b.diffuse is None)
    if a.diffuse is not None:
        np.testing.assert_array_equal(a.diffuse, b.diffuse)
        assert a.diffuse.shape == (348, 348)
        assert a.diffuse.min() >= 0
    assert not np.array_equal(a.star_flux_e, other.star_flux_e)
    np.testing.assert_array_equal(a.star_x * PHASES, np.round(a.star_x * PHASES))
    image = render(a, (300, 300), psf=draw_psf(3.0))
    assert image.shape == (300, 300)
    assert np.isfinite(image).all()


def test_crowding_by_kind():
    n = {kind: len(make(kind).star_x) for kind in FIELD_KINDS}
    assert 7 * n["sparse"] < n["crowded"] < 14 * n["sparse"]
    assert n["galaxies"] < 0.6 * n["sparse"]
    assert n["cluster"] > 3 * n["sparse"]
    assert len(make("galaxies").galaxies) > 2 * len(make("sparse").galaxies)


def test_crowded_fields_have_stars_below_the_noise():
    carpet = make("crowded").diffuse
    faint = carpet[carpet > 0]
    assert np.quantile(faint, 0.3) < 2 * np.sqrt(300.0)
    assert (carpet > 0).sum() > 3 * len(make("crowded").star_x)


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_is_concentrated(seed):
    field = make("cluster", seed)
    y, x = np.median(field.star_y), np.median(field.star_x)
    inner = np.hypot(field.star_x - x, field.star_y - y) < 50
    area = np.pi * 50**2 / 348**2
    assert inner.mean() > 3 * area


def test_stars_of_a_galaxy_follow_its_light():
    field = make("resolved_galaxy", 3)
    row = np.clip(np.round(field.star_y + 24).astype(int), 0, 347)
    column = np.clip(np.round(field.star_x + 24).astype(int), 0, 347)
    assert np.median(field.diffuse[row, column]) > 1.5 * np.median(field.diffuse)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (0.375, -1.25), (-0.5, 0.2)])
def test_diffuse_light_moves_with_the_pointing(shift):
    diffuse = np.zeros((140, 150), "f4")
    diffuse[70, 75] = 1e4
    image = render(light(diffuse), (100, 110), psf=draw_psf(3.0, beta=4.5), shift_px=shift)
    rows, columns = np.indices(image.shape)
    centre = (image * rows).sum() / image.sum(), (image * columns).sum() / image.sum()
    np.testing.assert_allclose(centre, (50 + shift[0], 55 + shift[1]), atol=0.03)
    assert image.sum() == pytest.approx(1e4, rel=1e-3)


def test_diffuse_point_is_drawn_as_a_star():
    diffuse = np.zeros((120, 120), "f4")
    diffuse[60, 60] = 1e4
    psf = draw_psf(3.0)
    star = render(one_star(40.25, 40.5, 1e4), (80, 80), psf=psf)
    np.testing.assert_allclose(render(light(diffuse), (80, 80), psf=psf, shift_px=(0.5, 0.25)), star, atol=2.0)


def test_flat_diffuse_light_stays_flat_to_the_edges_and_follows_transparency():
    image = render(light(np.full((80, 90), 50.0, "f4")), (60, 70), psf=draw_psf(3.0), transparency=0.5)
    np.testing.assert_allclose(image, 25.0, rtol=1e-4)


def test_an_unknown_kind_is_named_with_those_there_are():
    with pytest.raises(InputError, match="'void' is unknown: use one of sparse, .*nebula$"):
        make("void")


def test_galaxies_are_spheroids_seen_from_random_directions():
    field = random_field(
        (2000, 2000), sky_e=100.0, stars_per_mpix=0, galaxies_per_mpix=1500, rng=np.random.default_rng(3)
    )
    for sersic, thickness in ((1.0, 0.15), (2.5, 0.25), (4.0, 0.5)):
        ratio = np.array([g.axis_ratio for g in field.galaxies if g.sersic == sersic])
        assert len(ratio) > 1000
        assert ratio.min() == pytest.approx(thickness, abs=0.01)
        # Half of all directions have an inclination beyond 60 degrees.
        assert np.median(ratio) == pytest.approx(np.sqrt(0.25 + 0.75 * thickness**2), abs=0.03)
