"""The cameras of the paper (Table 1) and what the simulator needs to know of them."""

from dataclasses import dataclass

from crcore.errors import InputError

__all__ = ["INSTRUMENTS", "Instrument", "get_instrument"]


@dataclass(frozen=True)
class Instrument:
    """One camera, with the units in the names.

    Attributes
    ----------
    name, telescope_class, telescope_id : str
        Name in the paper's Table 1, telescope class, and an LCO ``TELID``.
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

    @property
    def field_of_view_arcmin(self):
        """Width and height on the sky (arcmin), long side first."""
        return tuple(side * self.pixel_scale_arcsec / 60 for side in sorted(self.shape, reverse=True))

    def area_cm2(self, shape=None):
        """Detector area of a frame of ``shape`` pixels (default: the whole detector), in cm²."""
        rows, columns = shape or self.shape
        return rows * columns * (self.pixel_um * 1e-4) ** 2


_SITES = "Brown et al. 2013, doi:10.1086/673168; camera pages of Las Cumbres Observatory"

INSTRUMENTS = {
    "sbig6303": Instrument(
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
        electrons_per_muon=2.0,
        altitude_m=2070.0,
        filters=9,
        source=f"paper Table 1; Kodak KAF-6303E data sheet (9 um pixels, full well 100 ke-); {_SITES}",
    ),
    "sinistro": Instrument(
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
        electrons_per_muon=0.5,
        altitude_m=2200.0,
        filters=21,
        source=f"paper Table 1; Fairchild CCD-486 BI data sheet (15 um pixels, thinned); {_SITES}",
    ),
    "spectral": Instrument(
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
        electrons_per_muon=0.5,
        altitude_m=3055.0,
        filters=18,
        source=f"paper Table 1; Fairchild CCD-486 BI data sheet, 2x2 binned; {_SITES}",
    ),
}


def get_instrument(key):
    """Return the `Instrument` called ``key``.

    Raises
    ------
    InputError
        When there is none; the message lists those there are.
    """
    try:
        return INSTRUMENTS[key]
    except KeyError:
        raise InputError(f"instrument {key!r} is unknown: use one of {', '.join(INSTRUMENTS)}") from None
