"""Point-spread functions of telescopes, and the stamps of stars drawn with them (GalSim).

Star positions lie on a grid of 1/8 pixel, so that a point-spread function drawn once
for each of the 64 phases serves every star of an exposure exactly.
GalSim: doi:10.1016/j.ascom.2015.02.002.
"""

from functools import cache

import galsim
import numpy as np

from crcore.errors import InputError

__all__ = ["PHASES", "PSF_KINDS", "REACH", "Stamps", "draw_psf"]

PSF_KINDS = ("moffat", "kolmogorov", "airy", "spikes", "donut", "trailed")

PHASES = 8  #: sub-pixel grid of star positions, per pixel
_HALVES = (8, 16, 32, 64, 128, 192)  # pixels from the middle of a star's stamp to its edge
REACH = max(_HALVES)  #: no star reaches further
_CORE = 32  # stamps up to this size come from one oversampled drawing
_DEFOCUS = 0.7  # waves RMS
# Wings of saturated stars are looked at 1e8 times below their flux: finer than GalSim's defaults.
_ACCURACY = galsim.GSParams(folding_threshold=2e-3, maxk_threshold=1e-4, maximum_fft_size=16384)


def draw_psf(fwhm_px, *, kind="moffat", beta=3.0, ellipticity=(0.0, 0.0), angle_deg=0.0, strength=1.0):
    """A point-spread function (GalSim object, pixel units, unit flux), not yet integrated over pixels.

    Parameters
    ----------
    fwhm_px : float
        Full width at half maximum, pixels.
    kind : str, optional
        One of `PSF_KINDS`: ``"moffat"``, seeing with a telescope's wings (doi:10.1046/j.1365-8711.2001.04937.x);
        ``"kolmogorov"``, turbulence alone; ``"airy"``, a telescope in space with the central obscuration of HST, 0.33;
        ``"spikes"``, Moffat with the diffraction of four vanes; ``"donut"``, out of focus, a ring of 1.75
        ``fwhm_px`` outer diameter; ``"trailed"``, Moffat drawn out by a tracking error.
    beta : float, optional
        Moffat's exponent; 2.5 to 4.5 for seeing.
    ellipticity : tuple of float, optional
        Reduced shear (g1, g2): guiding errors and coma.
    angle_deg : float, optional
        Direction of a spike or of the trail, from x towards y.
    strength : float, optional
        Share of the light that the vanes diffract, 0 to 1; length of the trail in units of ``fwhm_px``.

    Returns
    -------
    galsim.GSObject

    Raises
    ------
    InputError
        When ``kind`` is unknown.

    Examples
    --------
    >>> print(draw_psf(4.0, kind="airy").calculateFWHM().round(2))
    4.0
    """
    if kind not in PSF_KINDS:
        raise InputError(f"point-spread function {kind!r} is unknown: use one of {', '.join(PSF_KINDS)}")
    moffat = galsim.Moffat(beta=beta, fwhm=fwhm_px, trunc=0, gsparams=_ACCURACY)
    if kind == "moffat":
        psf = moffat
    elif kind == "kolmogorov":
        psf = galsim.Kolmogorov(fwhm=fwhm_px, gsparams=_ACCURACY)
    elif kind == "airy":
        jitter = galsim.Gaussian(sigma=0.12)
        psf = galsim.Convolve(galsim.Airy(lam_over_diam=1.0, obscuration=0.33), jitter)
        psf = psf.dilate(fwhm_px / psf.calculateFWHM())
    elif kind == "spikes":
        pupil = _vanes().dilate(0.25 * fwhm_px).rotate(angle_deg * galsim.degrees)
        psf = (1 - strength) * moffat + strength * galsim.Convolve(pupil, moffat.dilate(0.9), propagate_gsparams=False)
    elif kind == "donut":
        # The pupil's edge lands 8 sqrt(3) lam/D off the middle per wave of Noll's Z4 (doi:10.1364/JOSA.66.000207).
        pupil = _defocused().dilate(1.75 * fwhm_px / (16 * np.sqrt(3) * _DEFOCUS))
        psf = galsim.Convolve(pupil, galsim.Moffat(beta=beta, fwhm=0.3 * fwhm_px))
    else:
        line = galsim.Box(strength * fwhm_px, 0.01 * fwhm_px)
        psf = galsim.Convolve(moffat, line, gsparams=_ACCURACY).rotate(angle_deg * galsim.degrees)
    return psf.shear(g1=ellipticity[0], g2=ellipticity[1])


@cache
def _vanes():
    """Diffraction by a pupil with four vanes, one spike along x; lam/D is one unit."""
    return galsim.OpticalPSF(
        lam_over_diam=1.0, obscuration=0.3, nstruts=4, strut_thick=0.03, pad_factor=4.0, oversampling=1.0
    )


@cache
def _defocused():
    """Out of focus by _DEFOCUS; lam/D is one unit."""
    return galsim.OpticalPSF(lam_over_diam=1.0, obscuration=0.45, defocus=_DEFOCUS, pad_factor=4.0, oversampling=1.0)


class Stamps:
    """Stamps of stars in one exposure, integrated over pixels, at each of the 64 phases.

    Parameters
    ----------
    psf : galsim.GSObject
        From `draw_psf`.
    brightest_e : float
        Flux of the brightest star, electrons.
    edge_e : float
        What a stamp may leave out at its edge, electrons per pixel.
    """

    def __init__(self, psf, brightest_e, edge_e):
        self._edge_e = edge_e
        self._core, self._wide = _psf_bank(psf), None
        self._outside = _outside(self._core[0, 0])
        if brightest_e * self._outside[-1] > edge_e:
            self._wide = _sampled(psf, REACH + 3, 0.5)
            self._outside = _outside(
                np.abs(self._wide.drawImage(nx=2 * REACH + 1, ny=2 * REACH + 1, scale=1.0, method="no_pixel").array)
            )
        self._drawn = {}

    def halves(self, flux_e):
        """Pixels from the middle to the edge of the stamp that each star of ``flux_e`` needs."""
        enough = np.searchsorted(-self._outside, -self._edge_e / flux_e)
        light = [self._core[0, 0][_middle(_CORE, half)].sum() for half in _HALVES if half < _CORE]
        return np.array(_HALVES)[np.clip(enough, np.searchsorted(light, 0.98), len(_HALVES) - 1)]

    def stamp(self, half, phase):
        """Light of a star of unit flux ``phase`` (y, x) eighths of a pixel off the middle; (2 half + 1, 2 half + 1)."""
        if half <= _CORE:
            return self._core[phase][_middle(_CORE, half)]
        if (half, phase) not in self._drawn:
            self._drawn[half, phase] = _stamp(self._wide, half, *phase)
            self._drawn[half, phase][_middle(half, _CORE)] = self._core[phase]
        return self._drawn[half, phase]


def _middle(of, half):
    """The 2 ``half`` + 1 rows and columns in the middle of 2 ``of`` + 1."""
    return (slice(of - half, of + half + 1),) * 2


def _psf_bank(psf):
    """The core of the PSF at each phase: array (PHASES, PHASES, 2 _CORE + 1, 2 _CORE + 1)."""
    fine = _sampled(psf, _CORE + 3, 0.25)
    side = 2 * _CORE + 1
    bank = np.empty((PHASES, PHASES, side, side), dtype=np.float32)
    for i, j in np.ndindex(PHASES, PHASES):
        bank[i, j] = _stamp(fine, _CORE, i, j)
    return bank


def _sampled(psf, half, scale):
    """The PSF integrated over pixels, as an image of finer pixels from which stamps of any phase are interpolated."""
    n = int(2 * half / scale) + 1
    image = galsim.Convolve(psf, galsim.Pixel(1.0)).drawImage(nx=n, ny=n, scale=scale, method="no_pixel")
    return galsim.InterpolatedImage(image, x_interpolant="quintic", calculate_stepk=False, calculate_maxk=False)


def _stamp(fine, half, i, j):
    """A stamp at phase (i, j); the largest fades out towards a circle."""
    side = 2 * half + 1
    stamp = fine.drawImage(nx=side, ny=side, scale=1.0, offset=(j / PHASES, i / PHASES), method="no_pixel").array
    if half == REACH:
        along = np.linspace(-1, 1, side, dtype=np.float32)
        stamp *= np.clip(4 - 4 * np.hypot(along[:, None], along), 0, 1)
    return stamp


def _outside(stamp):
    """The largest value at and beyond the edge of each smaller stamp."""
    along = np.abs(np.arange(len(stamp)) - len(stamp) // 2)
    distance = np.maximum(along[:, None], along)
    return np.array([stamp[distance >= half].max() for half in _HALVES if half <= len(stamp) // 2])
