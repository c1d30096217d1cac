import numpy as np
import pytest

from crcore import InputError
from crcore.preprocess import CENSUS_EDGES_PX, PREPARATIONS, _arcsinh, peak_census, prepare, sky_and_noise


@pytest.fixture(scope="module")
def sky():
    return np.random.default_rng(1).normal(500, 20, (128, 160)).astype(np.float32)


def test_input_in_units_of_the_noise_does_not_depend_on_gain_or_sky(sky):
    np.testing.assert_allclose(prepare(sky * 3 + 1000, "noise"), prepare(sky, "noise"), atol=1e-2)


@pytest.mark.parametrize("shape", [(100, 70), (1, 1), (33, 3)])
def test_the_scale_is_that_of_arcsinh(shape):
    rng = np.random.default_rng(3)
    image = (rng.normal(0, 1, shape) * 10 ** rng.uniform(-6, 6, shape)).astype(np.float32)
    image.flat[0] = -1e30  # beyond any exposure: its square is not finite
    scaled = image.copy()
    _arcsinh(scaled)
    exact = np.arcsinh(np.clip(image.astype(float), -1e18, 1e18))
    np.testing.assert_allclose(scaled, exact, rtol=3e-7, atol=3e-7)


def test_the_noise_stays_what_cells_have_beyond_a_steep_edge():
    rng = np.random.default_rng(3)
    for shape in ((512, 512), (500, 523)):  # whole cells, and a rest of one
        image = rng.normal(0, 4, shape).astype(np.float32)
        image[:, 120:448] = rng.normal(300, 18, (shape[0], 328))  # a slit, dark at its ends
        _, noise = sky_and_noise(image)
        assert noise.min() > 3
        assert 16 < np.median(noise[:, 150:420]) < 20


def test_an_unknown_preparation_is_explained(sky):
    with pytest.raises(InputError, match=PREPARATIONS[0]):
        prepare(sky, "magic")


def stars(fwhm_px, n=60, shape=(256, 256), seed=2):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = rng.normal(500, 20, shape)
    for _ in range(n):
        squared = (y - rng.uniform(4, shape[0] - 5)) ** 2 + (x - rng.uniform(4, shape[1] - 5)) ** 2
        image += rng.uniform(2000, 20_000) * np.exp(-4 * np.log(2) * squared / fwhm_px**2)
    return image.astype(np.float32)


@pytest.mark.parametrize("fwhm_px", [1.65, 2.0, 2.45, 3.0, 4.5])
def test_the_census_peaks_at_the_width_of_the_stars(fwhm_px):
    census = peak_census(prepare(stars(fwhm_px), "noise"))
    assert census.argmax() == np.searchsorted(CENSUS_EDGES_PX, fwhm_px) - 1
    assert 0.5 < census.sum() < 1


def test_the_census_says_little_of_few_peaks_and_nothing_of_none(sky):
    assert not peak_census(prepare(sky, "noise")).any()
    assert peak_census(prepare(stars(2.5, n=2), "noise")).sum() <= 0.5
    assert not peak_census(np.zeros((1, 1), dtype=np.float32)).any()


def test_sharp_rays_among_stars_are_seen_as_sharp(sky):
    image, rng = stars(3.0), np.random.default_rng(3)
    image[rng.integers(5, 250, 40), rng.integers(5, 250, 40)] += 3000
    census = peak_census(prepare(image, "noise"))
    assert 0.2 < census[0] < 0.6
    assert census[4:6].sum() > 0.3
