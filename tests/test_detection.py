from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crcore import Detection, Frame, InputError, detect, init_model, zoo


@pytest.fixture(scope="module")
def sky():
    image = np.random.default_rng(0).normal(500, 25, (200, 180)).astype(np.float32)
    for i in range(12):
        image[60 + i, 40 + 2 * i : 43 + 2 * i] += 1500
    return image


def test_a_track_is_found_and_the_sky_is_clean(sky):
    found = detect(sky)
    assert found.mask[60:72, 40:66].sum() >= 20
    outside = found.mask.copy()
    outside[57:76, 37:70] = False
    assert outside.sum() <= 2


def test_a_star_is_spared():
    y, x = np.mgrid[0:128, 0:128]
    rng = np.random.default_rng(1)
    flux = 4e4 * (1 + ((y - 64) ** 2 + (x - 64) ** 2) / 4.0**2) ** -3.0
    assert not detect(rng.poisson(300 + flux).astype(float)).mask.any()


def test_the_papers_snippet_runs_for_any_shape(sky):
    cr_model, opt = init_model("ground_imaging")
    assert opt.model == "ground_imaging"
    for shape in [(1, 1), (1, 50), (33, 47), (127, 101), (200, 180)]:
        prob = cr_model.detect_cr(sky[: shape[0], : shape[1]])
        assert prob.shape == shape
        assert prob.dtype == np.float32
        assert prob.min() >= 0
        assert prob.max() <= 1


def test_forms_of_input_agree(sky, tmp_path):
    path = tmp_path / "sky.fits"
    fits.PrimaryHDU(sky).writeto(path)
    expected = detect(sky).prob
    for given_as in (path, str(path), Frame(sky), CCDData(sky, unit="electron"), sky.astype(">f8")):
        assert np.array_equal(detect(given_as).prob, expected)


def test_gain_turns_counts_into_electrons(sky):
    assert detect(sky / 2, gain=2.0).prob == pytest.approx(detect(sky).prob, abs=1e-4)


def test_pixels_without_a_value_are_marked_and_not_flagged(sky):
    holed = sky.copy()
    holed[64, 48:52] = np.nan
    found = detect(holed)
    assert found.not_evaluated[64, 48:52].all()
    assert found.not_evaluated.sum() == 4
    assert not found.mask[64, 48:52].any()
    assert (found.dq()[64, 48:52] == 2).all()
    assert np.isfinite(found.prob).all()


def test_bad_pixels_breed_no_rays(sky):
    hot, bad = sky.copy(), np.zeros(sky.shape, dtype=bool)
    hot[120, 100], bad[120, 100] = 5e4, True
    found = detect(hot, bad=bad)
    assert not found.mask[115:126, 95:106].any()


def test_threshold_is_the_callers(sky):
    assert detect(sky, threshold=0.01).mask.sum() > detect(sky, threshold=0.99).mask.sum()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((3, 4, 5)), {}, "two-dimensional"),
        (np.zeros((0, 4)), {}, "two-dimensional"),
        (np.full((8, 8), np.nan), {}, "every pixel"),
        (np.array([["a", "b"]]), {}, "numbers"),
        (np.zeros((8, 8)), {"gain": -1.0}, "gain"),
        (np.zeros((8, 8)), {"bad": np.zeros((4, 4))}, "shape"),
        (np.zeros((8, 8)), {"threshold": 2.0}, "threshold"),
        (np.zeros((8, 8)), {"model": "no-such-model"}, "ground_imaging"),
        ("no-such-file.fits", {}, "no-such-file.fits"),
    ],
)
def test_bad_input_is_explained_in_one_line(image, options, message):
    with pytest.raises(InputError, match=message) as caught:
        detect(image, **options)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(st.sampled_from([1, 2, 3, 5, 17, 31]), st.sampled_from([1, 2, 7, 13, 37])),
    dtype=st.sampled_from(["u1", "i2", ">i2", "<u2", ">i4", "f4", ">f4", "f8", ">f8"]),
    holes=st.sampled_from([None, np.nan, np.inf, -np.inf]),
)
def test_any_shape_type_and_hole_gives_a_whole_answer(shape, dtype, holes):
    image = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    if holes is not None and image.dtype.kind == "f" and image.size > 1:
        image.flat[0] = holes
    found = detect(image)
    assert found.prob.shape == shape
    assert np.isfinite(found.prob).all()
    assert found.not_evaluated.sum() == (~np.isfinite(image)).sum()


def test_the_answer_does_not_change_the_input(sky):
    before = sky.copy()
    detect(sky)
    assert np.array_equal(sky, before)


def test_a_released_model_has_its_card_and_is_small():
    for name in zoo.names():
        folder = files("crcore") / "weights" / name
        assert "Made by" in (folder / "card.md").read_text()
        assert (folder / "model.safetensors").stat().st_size < 2_000_000


def test_a_damaged_model_is_explained(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    (tmp_path / "config.json").write_text('{"network": {}, "input": "noise"}')
    (tmp_path / "thresholds.json").write_text('{"default": 0.5}')
    with pytest.raises(InputError, match="is no whole model"):
        zoo.load(tmp_path)


def test_a_callers_bad_pixels_count_for_every_form_of_input(sky, tmp_path):
    path = tmp_path / "sky.fits"
    fits.PrimaryHDU(sky).writeto(path)
    bad = np.zeros(sky.shape, dtype=bool)
    bad[60:72, 40:66] = True
    for given_as in (sky, path, Frame(sky), CCDData(sky, unit="electron")):
        found = detect(given_as, bad=bad)
        assert found.not_evaluated.sum() == bad.sum()
        assert not found.mask[bad].any()


def test_counts_without_a_gain_are_refused(sky):
    with pytest.raises(InputError, match="GAIN"):
        detect(CCDData(sky, unit="adu"))
    with pytest.raises(InputError, match="electrons or ADU"):
        detect(CCDData(sky, unit="Jy"))
    assert detect(CCDData(sky / 2, unit="adu"), gain=2.0).prob == pytest.approx(detect(sky).prob, abs=1e-4)


def test_a_gain_for_a_frame_is_refused(sky):
    with pytest.raises(InputError, match="gain"):
        detect(Frame(sky), gain=2.0)


def test_a_gain_for_a_file_stands_in_for_the_headers(tmp_path, sky):
    path = tmp_path / "adu.fits"
    fits.PrimaryHDU(sky / 2).writeto(path)
    assert detect(path, gain=2.0).prob == pytest.approx(detect(sky).prob, abs=1e-4)
    with fits.open(path) as hdus:
        assert detect(hdus, gain=2.0).prob == pytest.approx(detect(sky).prob, abs=1e-4)


@pytest.fixture(scope="module")
def saturated_star():
    """A star with a flat top of 120 pixels and a bleeding column, and a ray far from it."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:160, 0:160]
    flux = 3e6 * (1 + ((y - 80) ** 2 + (x - 80) ** 2) / 3.0**2) ** -3.0
    image = rng.poisson(200 + flux).astype("f4")
    image[30:130, 80] = 9e4
    for i in range(12):
        image[10 + i, 30 + 2 * i : 33 + 2 * i] += 1500
    return np.minimum(image, 6e4)


def test_saturated_cores_breed_no_rays_and_are_not_called_clean(saturated_star):
    found = detect(saturated_star, saturation=6e4)
    full = saturated_star >= 6e4
    assert found.not_evaluated[full].all()
    near = np.zeros(full.shape, bool)
    near[25:135, 60:100] = True
    assert not found.mask[near].any()
    assert found.mask[10:22, 30:55].sum() >= 20


def test_a_hole_in_a_star_breeds_no_rays():
    y, x = np.mgrid[0:96, 0:96]
    flux = 5e4 * (1 + ((y - 48) ** 2 + (x - 48) ** 2) / 3.0**2) ** -3.0
    image = np.random.default_rng(4).poisson(300 + flux).astype("f4")
    image[48, 48] = np.nan
    image[40:60, 50] = np.nan
    assert not detect(image).mask.any()


def test_objects_say_where_rays_are_and_what_they_weigh():
    image = np.random.default_rng(5).normal(100, 3, (80, 90)).astype("f4")
    image[40, 20:26] += [500, 900, 900, 900, 900, 500]
    prob = np.zeros(image.shape, dtype=np.float32)
    prob[40, 20:26] = 0.75
    prob[40, 22] = 0.875
    table = Detection(prob, prob > 1, 0.5, "by hand", frame=Frame(image)).objects()
    assert len(table) == 1
    ray = table[0]
    assert ray["x"] == pytest.approx(22.5, abs=0.2)
    assert ray["y"] == pytest.approx(40, abs=0.2)
    assert ray["charge"] == pytest.approx(4600, rel=0.03)
    assert ray["peak"] == pytest.approx(900, rel=0.05)
    assert (ray["n_pixels"], ray["length_px"], ray["prob"]) == (6, pytest.approx(6), 0.875)
    assert len(detect(np.full((20, 20), 7.0)).objects()) == 0


def test_a_detection_becomes_ccddata(sky):
    found = detect(sky, read_noise=5.0)
    ccd = found.to_ccddata()
    assert ccd.unit == "electron"
    assert np.array_equal(ccd.mask, found.mask)
    assert np.array_equal(ccd.flags, found.dq())
    assert ccd.uncertainty.array[0, 0] == pytest.approx(np.sqrt(sky[0, 0] + 25), rel=1e-5)


def test_an_expected_share_shifts_probabilities(sky):
    model = zoo.load("ground_imaging")
    model = zoo.Model(**{**vars(model), "share": 0.002})
    usual, rare = detect(sky, model=model), detect(sky, model=model, expected=1e-5)
    assert (rare.prob <= usual.prob).all()
    assert rare.mask.sum() < usual.mask.sum()
    assert detect(sky, model=model, expected=0.002).prob == pytest.approx(usual.prob, abs=1e-6)


def test_a_mask_grows_but_not_into_what_was_not_evaluated(sky):
    bad = np.zeros(sky.shape, bool)
    bad[:, 50] = True
    found = detect(sky, bad=bad)
    assert found.dilated(0).sum() == found.mask.sum() < found.dilated(1).sum() < found.dilated(2).sum()
    assert not found.dilated(2)[bad].any()


@pytest.mark.parametrize("fwhm_px", [3.0, 4.5, 7.0])
def test_stars_are_no_rays_for_the_released_model(fwhm_px):
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1, (256, 256)) * 20 + 400
    rows, columns = np.indices(image.shape)
    cores = np.zeros(image.shape, bool)
    for k, peak in enumerate(np.geomspace(300, 60_000, 16)):
        y, x = 32 + 64 * (k // 4), 32 + 64 * (k % 4)
        r2 = (rows - y - rng.uniform(-0.5, 0.5)) ** 2 + (columns - x - rng.uniform(-0.5, 0.5)) ** 2
        image += peak * (1 + r2 / (fwhm_px / 1.13) ** 2) ** -2.5  # Moffat
        cores |= r2 < fwhm_px**2
    image[120:128, 200] += 3000.0
    mask = detect(rng.poisson(np.maximum(image, 0)).astype("f4")).mask
    assert mask[120:128, 200].any()  # a ray among them is still found
    assert not (mask & cores).any()


@pytest.mark.parametrize("shape", [(3, 1000), (1000, 3), (5, 700)])
def test_narrow_frames_of_noise_are_clean(shape):
    assert detect(np.random.default_rng(0).normal(200, 10, shape)).mask.sum() < 10


def test_hidden_pixels_of_a_masked_array_are_bad(sky):
    hidden = np.zeros(sky.shape, dtype=bool)
    hidden[3, 4] = True
    assert detect(np.ma.masked_array(sky, hidden)).not_evaluated[3, 4]


def test_a_frame_that_is_all_saturated_is_not_called_clean(sky):
    with pytest.raises(InputError, match="saturated"):
        detect(sky, saturation=1.0)


def test_the_sky_position_survives(sky):
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 5.0, "CRPIX2": 6.0, "CDELT1": -1e-4,
                          "CDELT2": 1e-4, "CRVAL1": 10.0, "CRVAL2": 20.0})  # fmt: skip
    made = detect(Frame(sky, header=header)).to_ccddata()
    assert made.wcs.wcs.crval.tolist() == [10.0, 20.0]
    assert detect(made).to_ccddata().wcs.wcs.crval.tolist() == [10.0, 20.0]


@pytest.mark.parametrize("gain", [0.0, -2.0, np.inf])
def test_ccddata_with_an_impossible_gain_is_refused(sky, gain):
    with pytest.raises(InputError, match="gain|GAIN"):
        Frame.from_ccddata(CCDData(sky, unit="adu"), gain=gain)
