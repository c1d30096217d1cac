import dataclasses

import numpy as np
import pytest

from crcore.errors import InputError
from crcore.instruments import CAMERAS, LCO, Camera, get_camera
from crcore.simulate.psf import PSF_KINDS
from crcore.simulate.sky import FIELD_KINDS

RANDOM = [Camera.random(np.random.default_rng(seed)) for seed in range(400)]


def consistent(camera):
    assert all(isinstance(side, int) and side > 0 for side in camera.shape)
    assert camera.kind in ("imaging", "echelle", "slit")
    assert camera.site in ("ground", "orbit")
    assert all(side % n == 0 for side, n in zip(camera.shape, camera.amplifiers, strict=True))
    low, high = camera.fwhm_px
    assert 0.9 <= low <= high <= 8
    assert set(camera.optics) <= set(PSF_KINDS)
    assert set(camera.fields) <= set(FIELD_KINDS)
    for name in ("pixel_scale_arcsec", "pixel_um", "thickness_um", "diffusion_um", "gain_e_per_adu", "read_noise_e"):
        assert getattr(camera, name) > 0
    assert camera.saturation_e > 1000 * camera.read_noise_e
    assert camera.diffusion_um < 2 * camera.thickness_um
    assert 0 <= camera.dark_e_per_s < 0.1
    assert (camera.electrons_per_muon == 0) == (camera.site == "orbit")
    assert camera.source


@pytest.mark.parametrize("key", CAMERAS)
def test_cameras_are_consistent(key):
    consistent(CAMERAS[key])
    assert get_camera(key) is CAMERAS[key]


def test_names_of_cameras_are_those_of_the_paper():
    assert set(LCO) <= set(CAMERAS)
    assert [CAMERAS[k].telescope_class for k in LCO] == ["0.4 m", "1 m", "2 m"]
    assert {CAMERAS[k].kind for k in LCO} == {"imaging"}


@pytest.mark.parametrize(
    ("key", "field", "scale"),
    [
        ("sbig6303", (29.2, 19.5), 0.571),
        ("sinistro", (26.5, 26.5), 0.389),
        ("spectral", (10.2, 10.2), 0.300),
    ],
)
def test_fields_of_view_are_those_of_table_1(key, field, scale):
    assert CAMERAS[key].pixel_scale_arcsec == scale
    np.testing.assert_allclose(CAMERAS[key].field_of_view_arcmin, field, atol=0.1)


def test_area_is_rows_times_columns_times_the_pixels():
    assert CAMERAS["sinistro"].area_cm2() == pytest.approx(6.144**2)
    assert CAMERAS["sinistro"].area_cm2((100, 200)) == pytest.approx(0.15 * 0.3)


@pytest.mark.parametrize("key", ["gmosn", "gmoss"])
def test_binned_cameras_are_the_same_chip(key):
    fine, coarse = CAMERAS[f"{key}_1x1"], CAMERAS[f"{key}_2x2"]
    assert coarse.shape == tuple(side // 2 for side in fine.shape)
    assert (fine.binning, coarse.binning) == (1, 2)
    assert coarse.area_cm2() == pytest.approx(fine.area_cm2())
    np.testing.assert_allclose(coarse.field_of_view_arcmin, fine.field_of_view_arcmin)
    for camera in (fine, coarse):
        # the same seeing on the sky, the same silicon
        assert camera.fwhm_px[0] * camera.pixel_scale_arcsec == pytest.approx(4.5 * fine.pixel_scale_arcsec)
        assert camera.pixel_um == camera.binning * 15.0
        assert (camera.thickness_um, camera.diffusion_um) == (fine.thickness_um, fine.diffusion_um)
    changed = {"shape", "binning", "pixel_scale_arcsec", "pixel_um", "fwhm_px"}
    same = {f.name for f in dataclasses.fields(Camera)} - changed
    assert all(getattr(fine, name) == getattr(coarse, name) for name in same)


def test_an_unknown_camera_is_reported_with_those_there_are():
    with pytest.raises(InputError, match="'webcam' is unknown: use one of sbig6303, sinistro, spectral, .*longslit$"):
        get_camera("webcam")


def test_random_cameras_are_consistent():
    for camera in RANDOM[:100]:
        consistent(camera)
        assert 2 <= camera.diffusion_um <= 9  # 4.1 and 8.2 in recordings: more of it makes rays look like stars
        assert (camera.name, camera.kind, camera.site) == ("random", "imaging", "ground")


@pytest.mark.parametrize(
    ("what", "low", "high"),
    [
        (lambda c: c.pixel_um, 9, 45),
        (lambda c: c.pixel_um / c.binning, 9, 15),
        (lambda c: c.thickness_um, 10, 300),
        (lambda c: c.fwhm_px[0], 1.5, 7),
        (lambda c: c.fwhm_px[1], 1.95, 8),
        (lambda c: c.gain_e_per_adu, 0.4, 8),
        (lambda c: c.read_noise_e, 1.5, 18),
        (lambda c: c.saturation_e, 3e4, 4e5),
        (lambda c: c.pixel_scale_arcsec, 0.05, 1.2),
        (lambda c: c.dark_e_per_s, 1e-4, 0.05),
        (lambda c: c.electrons_per_muon, 0.2, 6),
    ],
    ids=["pixel", "side", "thickness", "least fwhm", "fwhm", "gain", "noise", "well", "scale", "dark", "electrons"],
)
def test_random_cameras_fill_the_promised_ranges(what, low, high):
    values = np.array([what(camera) for camera in RANDOM])
    assert low <= values.min() < 1.3 * low
    assert 0.8 * high < values.max() <= high


def test_random_cameras_differ_in_kind_too():
    assert {camera.amplifiers for camera in RANDOM} == {(1, 1), (1, 2), (2, 2)}
    assert {camera.binning for camera in RANDOM} == {1, 2, 3}
    assert set(RANDOM[0].optics) == set(PSF_KINDS)
    assert set(RANDOM[0].fields) == set(FIELD_KINDS)


def test_a_seed_gives_the_same_random_camera():
    assert Camera.random(np.random.default_rng(7)) == RANDOM[7]
    assert len({camera.read_noise_e for camera in RANDOM}) == len(RANDOM)


@pytest.mark.parametrize("kind", ["slit", "echelle", "orbit"])
def test_spectrographs_and_telescopes_in_orbit_are_drawn_at_random_too(kind):
    a, b = (Camera.random(np.random.default_rng(seed), kind) for seed in (1, 2))
    assert a != b
    assert (a.kind, a.site) == (("imaging", "orbit") if kind == "orbit" else (kind, "ground"))


def test_an_unknown_kind_of_camera_is_explained():
    with pytest.raises(InputError, match="orbit"):
        Camera.random(np.random.default_rng(1), "radar")
