"""The cameras of the paper, some beyond it, and what the simulator needs to know of them."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from crcore.errors import InputError

__all__ = ["CAMERAS", "LCO", "Camera", "get_camera"]


@dataclass(frozen=True)
class Camera:
    """One camera, with the units in the names.

    Attributes
    ----------
    name, telescope_class, telescope_id : str
        Name in the paper's Table 1, telescope class, and what ``TELID`` says.
    shape : tuple of int
        Rows and columns of the binned frame.
    binning : int
        Detector pixels per frame pixel along one axis.
    pixel_scale_arcsec, pixel_um : float
        Scale and side of one (binned) pixel.
    thickness_um : float
        Thickness of the silicon that collects charge.
    diffusion_um : float
        RMS lateral diffusion of charge that crosses the whole thickness.
    gain_e_per_adu, read_noise_e, saturation_e, dark_e_per_s : float
        Electronics, in electrons.
    electrons_per_muon : float
        Compton electrons ("worms" and spots) recorded for each muon; they come
        from the radioactivity of the surroundings and grow with thickness.
    altitude_m : float
        Height of the site, which sets the muon flux.
    filters : int
        Number of filters, Table 1.
    source : str
        Where the numbers are from.
    kind : str
        ``"imaging"``, ``"echelle"`` or ``"slit"``.
    site : str
        ``"ground"`` (muons and Compton electrons) or ``"orbit"`` (protons).
    amplifiers : tuple of int
        Rows and columns of amplifiers, each with gain and noise of its own.
    fwhm_px : tuple of float
        Range of the point-spread function's full width at half maximum.
    optics : tuple of str
        Point-spread functions that occur (see `crcore.simulate.psf.draw_psf`).
    fields : tuple of str
        Kinds of sky that occur (see `crcore.simulate.sky.random_field`).
    """

    name: str
    telescope_class: str
    telescope_id: str
    shape: tuple[int, int]
    binning: int
    pixel_scale_arcsec: float
    pixel_um: float
    thickness_um: float
    diffusion_um: float
    gain_e_per_adu: float
    read_noise_e: float
    saturation_e: float
    dark_e_per_s: float
    electrons_per_muon: float
    altitude_m: float
    filters: int
    source: str
    kind: str = "imaging"
    site: str = "ground"
    amplifiers: tuple[int, int] = (1, 1)
    fwhm_px: tuple[float, float] = (2.0, 6.0)
    optics: tuple[str, ...] = ("moffat",)
    fields: tuple[str, ...] = ("sparse",)

    @property
    def field_of_view_arcmin(self):
        """Width and height on the sky (arcmin), long side first."""
        return tuple(side * self.pixel_scale_arcsec / 60 for side in sorted(self.shape, reverse=True))

    def area_cm2(self, shape=None):
        """Detector area of a frame of ``shape`` pixels (default: the whole detector), in cm²."""
        rows, columns = shape or self.shape
        return rows * columns * (self.pixel_um * 1e-4) ** 2

    @classmethod
    def random(cls, rng, kind="imaging"):
        """A camera drawn from broad priors: what detectors for cameras never seen are trained on.

        Pixels of 9 to 45 um (binned), silicon of 10 to 300 um, point-spread functions of 1.5 to
        8 px (of sharper ones a faint star is one pixel, and no single exposure tells it from a ray), from 1.4 px in
        orbit; charge spreads by 2 to 9 um, around what `benchmarks/rays.py` finds in recordings; gain, noise and
        full well over the ranges of cameras in use.

        Parameters
        ----------
        rng : numpy.random.Generator
        kind : str, optional
            ``"imaging"``, ``"echelle"``, ``"slit"``, or ``"orbit"``: thin silicon above the atmosphere, sharp images.

        Returns
        -------
        Camera
        """

        def between(low, high):
            return float(np.exp(rng.uniform(np.log(low), np.log(high))))

        binning = int(rng.choice([1, 1, 2, 3]))
        pixel_um = float(rng.choice([9.0, 10.0, 12.0, 13.5, 15.0])) * binning
        thickness = between(10.0, 300.0)
        noise = between(1.5, 18.0)
        fwhm = between(1.5, 7.0)
        drawn = cls(
            name="random",
            telescope_class="random",
            telescope_id="any",
            shape=(2048, 2048),
            binning=binning,
            pixel_scale_arcsec=between(0.05, 1.2),
            pixel_um=pixel_um,
            thickness_um=thickness,
            diffusion_um=float(np.clip(0.3 * thickness, 4.0, 9.0)) * float(rng.uniform(0.5, 1.0)),
            gain_e_per_adu=between(0.4, 8.0),
            read_noise_e=noise,
            saturation_e=between(30_000.0, 400_000.0),
            dark_e_per_s=between(1e-4, 0.05),
            electrons_per_muon=between(0.2, 6.0),
            altitude_m=float(rng.uniform(0, 4200)),
            filters=0,
            source="drawn at random",
            amplifiers=((1, 1), (1, 2), (2, 2))[int(rng.integers(3))],
            fwhm_px=(fwhm, min(1.3 * fwhm, 8.0)),
            optics=_OPTICS,
            fields=_FIELDS,
        )
        if kind == "imaging":
            return drawn
        if kind == "orbit":
            return dataclasses.replace(
                drawn,
                site="orbit",
                altitude_m=540_000.0,
                electrons_per_muon=0.0,
                thickness_um=between(10.0, 60.0),
                fwhm_px=(1.4, 2.6),
                optics=("airy", "airy", "trailed"),
                fields=("sparse", "galaxies", "cluster", "resolved_galaxy"),
            )
        if kind in ("echelle", "slit"):
            low = between(1.6, 3.5)
            shape = (4096, 4096) if kind == "echelle" else (512, 2048)
            return dataclasses.replace(drawn, kind=kind, shape=shape, fwhm_px=(low, 1.4 * low))
        raise InputError(f"kind of camera {kind!r} is unknown: use imaging, echelle, slit or orbit")


#: point-spread functions and skies of any camera on the ground
_OPTICS = ("moffat", "moffat", "kolmogorov", "spikes", "donut", "trailed", "airy")
_FIELDS = ("sparse", "sparse", "crowded", "cluster", "galaxies", "resolved_galaxy", "nebula")

_SITES = "Brown et al. 2013, doi:10.1086/673168; camera pages of Las Cumbres Observatory"
_LCO = {
    "optics": ("moffat", "moffat", "moffat", "kolmogorov", "trailed"),
    "fields": 6 * ("sparse",) + 2 * ("galaxies",) + _FIELDS[2:],
}

#: the cameras of the paper's Table 1
LCO = ("sbig6303", "sinistro", "spectral")

CAMERAS = {
    "sbig6303": Camera(
        name="SBIG 6303",
        telescope_class="0.4 m",
        telescope_id="0m4a",
        shape=(2048, 3072),
        binning=1,
        pixel_scale_arcsec=0.571,
        pixel_um=9.0,
        thickness_um=45.0,
        diffusion_um=9.0,
        gain_e_per_adu=1.6,
        read_noise_e=14.5,
        saturation_e=100_000.0,
        dark_e_per_s=0.03,
        electrons_per_muon=0.5,
        altitude_m=2070.0,
        filters=9,
        fwhm_px=(3.0, 6.0),
        **_LCO,
        source=f"paper Table 1; Kodak KAF-6303E data sheet (9 um pixels, full well 100 ke-); {_SITES}; "
        "thickness, diffusion and electrons per muon of this front-illuminated chip are estimates",
    ),
    "sinistro": Camera(
        name="Sinistro",
        telescope_class="1 m",
        telescope_id="1m0a",
        shape=(4096, 4096),
        binning=1,
        pixel_scale_arcsec=0.389,
        pixel_um=15.0,
        thickness_um=15.0,
        diffusion_um=6.0,
        gain_e_per_adu=2.3,
        read_noise_e=8.0,
        saturation_e=120_000.0,
        dark_e_per_s=0.002,
        electrons_per_muon=0.33,
        altitude_m=2200.0,
        filters=21,
        amplifiers=(2, 2),
        fwhm_px=(2.4, 8.0),
        **_LCO,
        source=f"paper Table 1; Fairchild CCD-486 BI data sheet (15 um pixels, thinned); {_SITES}; "
        "electrons per muon: from thickness and height, as benchmarks/rays.py finds them",
    ),
    "spectral": Camera(
        name="Spectral",
        telescope_class="2 m",
        telescope_id="2m0a",
        shape=(2048, 2048),
        binning=2,
        pixel_scale_arcsec=0.300,
        pixel_um=30.0,
        thickness_um=15.0,
        diffusion_um=6.0,
        gain_e_per_adu=7.7,
        read_noise_e=11.0,
        saturation_e=400_000.0,
        dark_e_per_s=0.002,
        electrons_per_muon=0.27,
        altitude_m=3055.0,
        filters=18,
        amplifiers=(2, 2),
        fwhm_px=(2.7, 8.0),
        **_LCO,
        source=f"paper Table 1; Fairchild CCD-486 BI data sheet, 2x2 binned; {_SITES}; "
        "electrons per muon as for Sinistro",
    ),
}

_GMOS_N = Camera(
    name="GMOS-N",
    telescope_class="8 m",
    telescope_id="Gemini-North",
    shape=(4224, 2048),
    binning=1,
    pixel_scale_arcsec=0.0807,
    pixel_um=15.0,
    thickness_um=190.0,
    diffusion_um=8.2,
    gain_e_per_adu=1.6,
    read_noise_e=4.1,
    saturation_e=106_000.0,
    dark_e_per_s=0.0002,
    electrons_per_muon=0.5,
    altitude_m=4213.0,
    filters=0,
    amplifiers=(1, 4),
    fwhm_px=(4.5, 8.0),
    optics=("moffat", "moffat", "kolmogorov", "trailed"),
    fields=_FIELDS,
    source="Gemini Observatory's GMOS detector pages (Hamamatsu CCDs: 15 um, 0.0807 arcsec; one of three CCDs); "
    "thickness (+- 10 um), diffusion and electrons per muon tuned to 620 recorded rays, see benchmarks/rays.py",
)
_GMOS_S = dataclasses.replace(
    _GMOS_N,
    name="GMOS-S",
    telescope_id="Gemini-South",
    pixel_scale_arcsec=0.0800,
    gain_e_per_adu=1.8,
    read_noise_e=4.0,
    saturation_e=110_000.0,
    electrons_per_muon=0.7,
    altitude_m=2722.0,
)


def _binned(camera, factor):
    """``camera`` read out in blocks of ``factor`` x ``factor`` pixels."""
    return dataclasses.replace(
        camera,
        shape=tuple(side // factor for side in camera.shape),
        binning=factor,
        pixel_scale_arcsec=factor * camera.pixel_scale_arcsec,
        pixel_um=factor * camera.pixel_um,
        fwhm_px=tuple(width / factor for width in camera.fwhm_px),
    )


CAMERAS |= {
    "gmosn_1x1": _GMOS_N,
    "gmosn_2x2": _binned(_GMOS_N, 2),
    "gmoss_1x1": _GMOS_S,
    "gmoss_2x2": _binned(_GMOS_S, 2),
    "acs_wfc": Camera(
        name="ACS/WFC",
        telescope_class="2.4 m",
        telescope_id="HST",
        shape=(2048, 4096),
        binning=1,
        pixel_scale_arcsec=0.05,
        pixel_um=15.0,
        thickness_um=15.0,
        diffusion_um=5.0,
        gain_e_per_adu=2.0,
        read_noise_e=4.2,
        saturation_e=84_700.0,
        dark_e_per_s=0.006,
        electrons_per_muon=0.0,
        altitude_m=540_000.0,
        filters=0,
        site="orbit",
        amplifiers=(1, 2),
        fwhm_px=(1.8, 2.2),
        optics=("airy",),
        fields=("galaxies", "cluster", "resolved_galaxy"),
        source="ACS Instrument Handbook, STScI (one of two chips; F606W); 0.96 rays/s/cm2: Miles et al. 2020, "
        "arXiv:2006.00909; fields: Zhang & Bloom 2020, doi:10.3847/1538-4357/ab3fa6",
    ),
    "nres": Camera(
        name="NRES",
        telescope_class="1 m",
        telescope_id="nres",
        shape=(4096, 4096),
        binning=1,
        pixel_scale_arcsec=1.0,
        pixel_um=15.0,
        thickness_um=30.0,
        diffusion_um=6.0,
        gain_e_per_adu=1.0,
        read_noise_e=5.0,
        saturation_e=60_000.0,
        dark_e_per_s=0.001,
        electrons_per_muon=0.4,
        altitude_m=2200.0,
        filters=0,
        kind="echelle",
        fwhm_px=(2.8, 4.0),
        source="paper section 4.4 (four spectrographs, 15 minutes or longer); 4096 x 4096 pixels: LCO; "
        "noise, gain and thickness are estimates",
    ),
    "longslit": Camera(
        name="long slit",
        telescope_class="any",
        telescope_id="any",
        shape=(512, 2048),
        binning=1,
        pixel_scale_arcsec=0.4,
        pixel_um=15.0,
        thickness_um=200.0,
        diffusion_um=8.4,
        gain_e_per_adu=1.2,
        read_noise_e=4.0,
        saturation_e=65_000.0,
        dark_e_per_s=0.001,
        electrons_per_muon=1.4,
        altitude_m=1283.0,
        filters=0,
        kind="slit",
        amplifiers=(1, 2),
        fwhm_px=(1.8, 4.0),
        source="a deep-depletion CCD behind a slit, as at the Shane 3 m telescope (Lick Observatory); estimates, "
        "diffusion and electrons per muon scaled from GMOS-N and the ITL darks of benchmarks/rays.py",
    ),
}


def get_camera(key):
    """Return the `Camera` called ``key``.

    Raises
    ------
    InputError
        When there is none; the message lists those there are.
    """
    try:
        return CAMERAS[key]
    except KeyError:
        raise InputError(f"instrument {key!r} is unknown: use one of {', '.join(CAMERAS)}") from None
