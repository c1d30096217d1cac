"""Two recordings of real rays, in CCDs of two thicknesses, and how to simulate the same."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crcore.instruments import CAMERAS, Camera
from crcore.simulate.recorded import Selection, compare_with_recorded, read_rays

__all__ = ["RECORDINGS", "Recording", "compare_recordings"]

#: LSST's ITL STA3800C as in the test stand's darks: 10 um pixels, 100 um thick (both agree with its muons: 73 e/um)
ITL = replace(
    CAMERAS["gmosn_1x1"],
    name="ITL",
    telescope_class="test stand",
    telescope_id="none",
    shape=(4072, 4000),
    pixel_um=10.0,
    thickness_um=100.0,
    diffusion_um=4.1,
    read_noise_e=7.0,
    electrons_per_muon=1.65,
    altitude_m=0.0,
    source="recorded darks (imSim); thickness, diffusion and electrons per muon tuned to them",
)


@dataclass(frozen=True)
class Recording:
    """A file of recorded rays and how to simulate the same.

    Attributes
    ----------
    file : str
    camera : crcore.instruments.Camera
    selection : Selection
    exposure_s : float
    shape : tuple of int
    frames : int
    tilt_rad : float
        Angle between the detector's normal and the vertical.
    rate_factor : float or None
        Muons per muon that `crcore.simulate.rays.muon_flux` expects; None where the exposure
        time is not known.
    """

    file: str
    camera: Camera
    selection: Selection
    exposure_s: float
    shape: tuple[int, int]
    frames: int
    tilt_rad: float
    rate_factor: float | None = None


# Thresholds are the lowest pixel values in the files. Rays whose peak is fainter than `peak_e` are left out of both: of
# the ITL's most are single pixels of 50 to 60 e, warm ones and noise, of GMOS's faint streaks along the rows.
RECORDINGS = {
    "ITL darks, 100 um, 10 um pixels": Recording(
        "itl_darks_2017.fits.gz",
        ITL,
        Selection(noise_e=7.0, threshold_e=50.0, peak_e=300.0),
        exposure_s=1500.0,
        shape=(2036, 2000),
        frames=4,
        tilt_rad=np.pi / 2,
        rate_factor=1.3,
    ),
    # How long the silicon collected before each bias was read is not known: the rate is free.
    "GMOS-N biases, 30 um pixels": Recording(
        "gmosn_bias_frames_00-28.npz",
        CAMERAS["gmosn_2x2"],
        Selection(noise_e=4.1, threshold_e=13.5, peak_e=200.0, least_pixels=2, saturation_e=8000.0),
        exposure_s=200.0,
        shape=(2048, 2048),
        frames=4,
        tilt_rad=1.35,
    ),
}


def compare_recordings(folder, *, seed=1):
    """Simulate the recordings of `RECORDINGS` and compare.

    Parameters
    ----------
    folder : path-like
        With the files that `RECORDINGS` names.
    seed : int, optional

    Yields
    ------
    name : str
    rows, recorded, simulated
        As from `compare_with_recorded`.

    Raises
    ------
    InputError
        When a file is missing or holds no rays.
    """
    for number, (name, r) in enumerate(RECORDINGS.items()):
        rows, recorded, simulated = compare_with_recorded(
            read_rays(Path(folder) / r.file),
            r.camera,
            r.selection,
            exposure_s=r.exposure_s * (r.rate_factor or 1.0),
            rng=np.random.default_rng([seed, number]),
            shape=r.shape,
            frames=r.frames,
            tilt_rad=r.tilt_rad,
        )
        yield name, rows, recorded, simulated
