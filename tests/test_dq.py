import numpy as np
import pytest

from crcore import InputError
from crcore.dq import bits, describe

RAY = np.array([[True, False]])
UNSEEN = np.array([[False, True]])


@pytest.mark.parametrize(("convention", "bit"), [("crcore", 1), ("lco", 8), ("gemini", 8), ("hst", 4096)])
def test_each_observatory_has_its_bit(convention, bit):
    assert bits(convention, cosmic_ray=RAY)[0].tolist() == [bit, 0]


def test_what_an_observatory_has_no_bit_for_is_not_said():
    assert bits("crcore", cosmic_ray=RAY, not_evaluated=UNSEEN)[0].tolist() == [1, 2]
    assert bits("hst", cosmic_ray=RAY, not_evaluated=UNSEEN)[0].tolist() == [4096, 0]


def test_an_unknown_convention_names_the_known_ones():
    with pytest.raises(InputError, match="lco, gemini, hst"):
        bits("eso", cosmic_ray=RAY)


def test_the_bits_are_described():
    assert describe() == "1 cosmic ray, 2 not evaluated, 4 replaced"
