import numpy as np
import pytest

from crcore import InputError
from crcore.preprocess import PREPARATIONS, prepare


@pytest.fixture(scope="module")
def sky():
    return np.random.default_rng(1).normal(500, 20, (128, 160)).astype(np.float32)


@pytest.mark.parametrize("how", ["noise", "root"])
def test_input_in_units_of_the_noise_does_not_depend_on_gain_or_sky(sky, how):
    np.testing.assert_allclose(prepare(sky * 3 + 1000, how), prepare(sky, how), atol=1e-2)


def test_root_is_linear_on_the_sky_and_keeps_its_sign(sky):
    x = np.sinh(prepare(sky, "noise"))
    root = prepare(sky, "root")
    assert (np.sign(root) == np.sign(x)).all()
    np.testing.assert_allclose(np.sign(x) * 4 * ((1 + np.abs(x)) ** 0.25 - 1), root, rtol=1e-3, atol=1e-5)


def test_root_keeps_more_of_the_photon_noise_on_a_star_than_arcsinh():
    rng = np.random.default_rng(2)
    scatter = {}
    for how in ("noise", "root"):
        level = []
        for _ in range(40):
            image = rng.poisson(100.0, (64, 64)).astype(np.float32)
            image[30, 30] = rng.poisson(40_000)
            level.append(prepare(image, how)[30, 30])
        scatter[how] = np.std(level)
    # sky's sigma is 10: 4000 sigma, photon noise 200 e- = 20 sigma; slopes 1/4000 and 4000^(-3/4)
    assert scatter["noise"] < 0.02
    assert 2.5 * scatter["noise"] < scatter["root"] < 0.1


def test_an_unknown_preparation_is_explained(sky):
    with pytest.raises(InputError, match=PREPARATIONS[0]):
        prepare(sky, "magic")
