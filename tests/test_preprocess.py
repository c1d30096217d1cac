import numpy as np
import pytest

from crcore import InputError
from crcore.preprocess import PREPARATIONS, prepare


@pytest.fixture(scope="module")
def sky():
    return np.random.default_rng(1).normal(500, 20, (128, 160)).astype(np.float32)


def test_input_in_units_of_the_noise_does_not_depend_on_gain_or_sky(sky):
    np.testing.assert_allclose(prepare(sky * 3 + 1000, "noise"), prepare(sky, "noise"), atol=1e-2)


def test_an_unknown_preparation_is_explained(sky):
    with pytest.raises(InputError, match=PREPARATIONS[0]):
        prepare(sky, "magic")
