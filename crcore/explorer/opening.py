"""What the explorer can open, planes of cubes too, and what it can look at it with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from crcore import zoo
from crcore.contenders import DOMAINS
from crcore.detection import NetworkDetector
from crcore.fits_input import open_fits, readable
from crcore.frame import as_frame
from crcore.rivals import AstroScrappy, ReleasedCosmicConn, ReleasedDeepCR

__all__ = ["detectors", "planes", "read_plane"]


def detectors():
    """Everything that a frame can be looked at with: name to a function that makes the detector."""
    makers = {name: lambda name=name: NetworkDetector(name) for name in zoo.names()}
    makers |= {
        f"Cosmic-CoNN {m} (released)": lambda m=m: ReleasedCosmicConn(m) for m in dict.fromkeys(DOMAINS.values())
    }
    makers["deepCR ACS-WFC (released)"] = ReleasedDeepCR
    makers["Astro-SCRAPPY"] = AstroScrappy
    return makers


def planes(path):
    """Number of planes of a file's first image, or 1 where it is a single image or there is none."""
    with readable(path), open_fits(path) as hdus:
        for hdu in hdus:
            if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2:
                return int(hdu.header.get("NAXIS3", 1)) if hdu.header["NAXIS"] == 3 else 1
    return 1


def read_plane(path, plane):
    """One plane of a cube as a frame."""
    with readable(path), open_fits(path) as hdus:
        hdu = next(h for h in hdus if h.is_image and h.header.get("NAXIS", 0) == 3)
        header = hdu.header.copy(strip=True)
        data = np.array(hdu.data[plane])
    frame = as_frame(fits.HDUList([fits.PrimaryHDU(data, header)]))
    return replace(frame, name=f"{Path(path).name}[{plane}]")
