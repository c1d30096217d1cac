import hashlib
from importlib.resources import files

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crcore import Frame, InputError, detect, init_model, zoo
from crcore.detection import NetworkDetector, write_detection


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


def test_a_copy_gets_the_masks_and_the_original_is_untouched(sky, tmp_path):
    source = tmp_path / "in.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(sky, name="SCI"), fits.ImageHDU(sky * 0, name="VAR")]).writeto(
        source
    )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    frame = Frame.read(source)
    found = NetworkDetector()(frame)
    write_detection(source, tmp_path / "out" / "in_cr.fits", found, frame)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == digest
    with fits.open(tmp_path / "out" / "in_cr.fits") as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SCI", "VAR", "CRMASK", "CRPROB"]
        assert np.array_equal(hdus["SCI"].data, sky)
        assert np.array_equal(hdus["CRMASK"].data & 1, found.mask)
        assert np.array_equal(hdus["CRPROB"].data, found.prob)
        header = hdus["CRMASK"].header
        assert header["CRMODEL"] == "ground_imaging"
        assert header["CRNPIX"] == found.mask.sum()
        assert header["CRNOBJ"] == found.n_rays
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["in_cr.fits"]


def test_what_was_trimmed_is_marked_as_not_evaluated(tmp_path):
    source = files("ccdproc") / "tests" / "data" / "a8280271.fits"
    frame = Frame.read(source)
    write_detection(source, tmp_path / "cr.fits", NetworkDetector()(frame), frame)
    mask = fits.getdata(tmp_path / "cr.fits", "CRMASK")
    assert mask.shape == (520, 536)
    assert (mask[:, :16] == 2).all()
    assert (mask[:, 528:] == 2).all()
    assert (mask[:, 16:528] & 2 == 0).all()


def test_an_input_is_never_overwritten(sky, tmp_path):
    source = tmp_path / "in.fits"
    fits.PrimaryHDU(sky).writeto(source)
    frame = Frame.read(source)
    with pytest.raises(InputError, match="is the input itself"):
        write_detection(source, source, NetworkDetector()(frame), frame)


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


def test_a_compressed_image_is_copied_bit_for_bit(sky, tmp_path):
    source = tmp_path / "in.fits.fz"
    hdu = fits.CompImageHDU(sky, name="SCI", compression_type="RICE_1", quantize_level=16)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(source)
    frame = Frame.read(source)
    write_detection(source, tmp_path / "out.fits", NetworkDetector()(frame), frame)
    assert np.array_equal(fits.getdata(tmp_path / "out.fits", "SCI"), fits.getdata(source, "SCI"))
    assert fits.getdata(tmp_path / "out.fits", "CRMASK").shape == sky.shape


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


def test_a_gain_for_a_file_is_refused(tmp_path, sky):
    with pytest.raises(InputError, match="gain"):
        detect(Frame(sky), gain=2.0)


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
