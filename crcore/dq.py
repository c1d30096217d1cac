"""Data-quality bits by name: those of ``CRMASK``, and those that observatories use."""

import numpy as np

from crcore.errors import InputError

__all__ = ["CONVENTIONS", "CRMASK", "bits", "describe"]

#: bit, name, meaning in our own ``CRMASK`` extension
CRMASK = {
    "cosmic_ray": (1, "a cosmic ray has hit the pixel"),
    "not_evaluated": (2, "nothing was said of the pixel: no data, bad, saturated, or beside saturation"),
    "replaced": (4, "the pixel of the repaired image has been replaced"),
}

#: an observatory's bit for a cosmic ray; what it has no bit for is not said
CONVENTIONS = {
    "crcore": {name: bit for name, (bit, _) in CRMASK.items()},
    "lco": {"cosmic_ray": 8},  # BANZAI
    "gemini": {"cosmic_ray": 8},  # DRAGONS
    "hst": {"cosmic_ray": 4096},  # ACS and WFC3 data handbooks: found while drizzling
}


def bits(convention, **masks):
    """Combine masks into an array of bits.

    Parameters
    ----------
    convention : {"crcore", "lco", "gemini", "hst"}
    **masks : numpy.ndarray of bool, shape (H, W)
        By the names of `CRMASK`.

    Returns
    -------
    numpy.ndarray
        uint8 for ``crcore``, else int16 (as those observatories' DQ extensions), (H, W).

    Raises
    ------
    InputError
        For an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"DQ convention {convention!r} is unknown: use one of {', '.join(CONVENTIONS)}")
    known = CONVENTIONS[convention]
    shape = next(iter(masks.values())).shape
    out = np.zeros(shape, dtype=np.uint8 if convention == "crcore" else np.int16)
    for name, mask in masks.items():
        if name in known:
            out |= mask.astype(out.dtype) * out.dtype.type(known[name])
    return out


def describe():
    """One line: what the bits of ``CRMASK`` mean."""
    return ", ".join(f"{bit} {name.replace('_', ' ')}" for name, (bit, _) in CRMASK.items())
