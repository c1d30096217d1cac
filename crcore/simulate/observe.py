"""Exposures and sequences: a sky or a spectrum, and rays, through seeing, detector and electronics."""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from scipy import ndimage

from crcore.frame import Frame
from crcore.simulate import movers, rays, recorded, sky, spectra
from crcore.simulate.detector import expose, random_detector, saturation_level
from crcore.simulate.psf import PHASES, draw_psf

__all__ = ["SimulatedSequence", "ray_truth", "simulate_sequence"]

#: bits of a simulated frame's truth mask
TRUTH_RAY, TRUTH_FAINT = 1, 2

#: collecting area of a telescope class in that of the 1 m
_AREA = {"0.4 m": 0.16, "2 m": 4.0, "2.4 m": 5.8, "8 m": 64.0}
#: shares of exposures that a satellite crosses, and of fields with an asteroid
STREAK_SHARE, ASTEROID_SHARE = 0.02, 0.1
#: width of the narrowest stars out of focus: a ring of a few pixels, without wings, is a spot as rays leave them
DONUT_LEAST_PX = 5.0


@dataclass(frozen=True)
class SimulatedSequence:
    """Exposures of one field with what no telescope can tell.

    Attributes
    ----------
    frames : tuple of crcore.frame.Frame
        The exposures, in electrons, each with its own pointing and seeing.
    truth : tuple of numpy.ndarray
        uint8 masks, one a frame: bit 1 a ray (`ray_truth`), bit 2 its faint tail.
    n_rays : tuple of int
        Particles in each frame.
    charge : tuple of numpy.ndarray
        Charge of the rays in each frame, electrons, float32, (H, W).
    light : tuple of numpy.ndarray
        Expected electrons of everything else before noise, with each pixel's response, float32, (H, W).
    hot : numpy.ndarray or None
        Hot pixels of the chip that stand alone; bool, (H, W).
    """

    frames: tuple[Frame, ...]
    truth: tuple[np.ndarray, ...]
    n_rays: tuple[int, ...]
    charge: tuple[np.ndarray, ...] = ()
    light: tuple[np.ndarray, ...] = ()
    hot: np.ndarray | None = None


def ray_truth(charge_e, noise_e):
    """Which pixels a ray has touched.

    A pixel belongs to a ray when its charge exceeds 2.5 sigma of the noise and it
    is connected (8 neighbours) to one above 5 sigma: the labeling rule of the
    paper's appendix A, applied to the noiseless charge.

    Parameters
    ----------
    charge_e, noise_e : numpy.ndarray, shape (H, W)
        Charge of the rays and RMS noise of the rest, electrons.

    Returns
    -------
    numpy.ndarray
        uint8, (H, W): 1 ray, 2 charge above 0.5 sigma that is too faint to count either way.
    """
    significance = charge_e / noise_e
    low = significance > 2.5
    labels, n = ndimage.label(low, structure=np.ones((3, 3)))
    seeded = np.zeros(n + 1, dtype=bool)
    seeded[labels[significance > 5.0]] = True
    seeded[0] = False
    ray = seeded[labels]
    truth = ray.astype(np.uint8) * TRUTH_RAY
    truth[~ray & (significance > 0.5)] = TRUTH_FAINT
    return truth


def simulate_sequence(
    instrument,
    *,
    shape,
    exposure_s,
    rng,
    n_frames=3,
    identifier=0,
    rate_factor=1.0,
    field=None,
    crossings=True,
    footprints=None,
    prnu=0.0,
    streak_share=STREAK_SHARE,
    galaxy_factor=1.0,
):
    """Observe a random field, or take a random spectrum, several times in a row, as one LCO molecule does.

    Between exposures pointing, seeing, transparency and sky change a little. Chip, field and
    filter stay the same.

    Parameters
    ----------
    instrument : crcore.instruments.Camera
        The camera.
    shape : tuple of int
        Rows and columns of the frames (a sub-frame of the camera's).
    exposure_s : float
        Exposure time of each frame.
    rng : numpy.random.Generator
        Source of all randomness.
    n_frames : int, optional
        Exposures in the sequence.
    identifier : int, optional
        Goes into the headers as molecule number and into the file names.
    rate_factor : float, optional
        Multiplies the natural rate of rays.
    field : str, optional
        Kind of sky (`crcore.simulate.sky.FIELD_KINDS`); one of the camera's by default.
    crossings : bool, optional
        Let satellites, aeroplanes and asteroids cross the field: they are no rays.
    footprints : list of numpy.ndarray, optional
        Recorded rays (`crcore.simulate.recorded`) to inject in place of simulated ones, as many.
    prnu : float, optional
        Response from pixel to pixel that no flat field has taken out, RMS (`crcore.simulate.detector.random_detector`).
    streak_share : float, optional
        Share of the exposures of fields that a satellite or an aeroplane crosses.
    galaxy_factor : float, optional
        Multiplies the number of galaxies of a field.

    Returns
    -------
    SimulatedSequence
    """
    imaging = instrument.kind == "imaging"
    streaks = streak_share if crossings else 0.0
    scene = _Imaging(instrument, shape, exposure_s, field, crossings, streaks, galaxy_factor, rng) if imaging else None
    spectrum = None if imaging else spectra.random_spectrum(instrument, shape, exposure_s=exposure_s, rng=rng)
    chip = random_detector(instrument, shape, rng, prnu)
    tilt = np.arccos(rng.uniform(0.5, 1.0))
    # Fig 2 spans November 2018 to December 2019.
    start = Time("2018-11-01T00:00:00", scale="utc") + TimeDelta(float(rng.uniform(0, 425 * 86400)), format="sec")
    pointing = (float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.9)))))
    filter_name = str(rng.choice(["gp", "rp", "ip", "B", "V"])) if imaging else "air"
    frames, truths, counts, charges, lights = [], [], [], [], []
    drift = np.zeros(2)
    for number in range(1, n_frames + 1):
        begin = (number - 1) * (exposure_s + 30.0)
        shift = np.round(drift * PHASES) / PHASES
        if imaging:
            expected, fwhm_px = scene.expose(shift, begin, rng)
        else:
            fwhm_px = float(np.mean(instrument.fwhm_px))
            expected = spectra.render(
                spectrum,
                shape,
                shift_px=tuple(rng.normal(0, 0.04, 2)),
                throughput=rng.lognormal(0, 0.08),
                seeing_factor=rng.lognormal(0, 0.04),
                sky_factor=rng.normal(1, 0.03),
            )
        expected += instrument.dark_e_per_s * exposure_s
        charge, n_rays = rays.rays_in_exposure(
            instrument, shape, exposure_s, rng, rate_factor=rate_factor, tilt_rad=tilt
        )
        if footprints is not None:
            charge, n_rays = recorded.inject_rays(shape, footprints, n_rays, rng)
        data = expose(expected, charge, chip, rng, exposure_s=exposure_s)
        header = _header(
            instrument,
            shape=shape,
            exposure_s=exposure_s,
            number=number,
            total=n_frames,
            identifier=identifier,
            when=start + TimeDelta(begin, format="sec"),
            pointing=pointing if imaging else None,
            shift=shift,
            filter_name=filter_name,
            fwhm_arcsec=fwhm_px * instrument.pixel_scale_arcsec,
        )
        header["FIELD"] = (scene.kind if imaging else instrument.kind, "kind of field")
        header["OPTICS"] = (scene.optics["kind"] if imaging else "", "kind of point-spread function")
        frames.append(
            Frame(
                data,
                read_noise=instrument.read_noise_e,
                saturation=saturation_level(instrument),
                bad=chip.bad,
                header=header,
                name=header["ORIGNAME"],
            )
        )
        truths.append(ray_truth(charge / chip.flat, chip.noise_e(expected)))
        counts.append(n_rays)
        charges.append(charge)
        lights.append(expected * chip.response)
        drift = drift + rng.normal(0, 0.7, 2)
    return SimulatedSequence(
        tuple(frames), tuple(truths), tuple(counts), tuple(charges), tuple(lights), chip.hot_pixels
    )


class _Imaging:
    """A field, the optics it is seen through, and what crosses it."""

    def __init__(self, camera, shape, exposure_s, kind, crossings, streaks, galaxy_factor, rng):
        self.camera, self.shape, self.exposure_s, self.streaks = camera, shape, exposure_s, streaks
        space = camera.site == "orbit"
        per_px = (camera.pixel_scale_arcsec / 0.4) ** 2 * _AREA.get(camera.telescope_class, 1.0)
        # e/s/px, from dark to bright time; above the atmosphere: zodiacal light.
        sky_rate = 10 ** rng.uniform(-1.5, -0.8) if space else 10 ** rng.uniform(-1.0, 0.9) * per_px
        self.sky_e = min(sky_rate * exposure_s, 0.4 * camera.saturation_e)  # observers stop before
        self.noise_e = float(np.sqrt(self.sky_e + camera.read_noise_e**2))
        self.kind = kind or str(rng.choice(camera.fields))
        self.fwhm_px = float(np.exp(rng.uniform(*np.log(camera.fwhm_px))))
        self.field = sky.random_field(
            shape,
            sky_e=self.sky_e,
            stars_per_mpix=10 ** rng.uniform(1.8, 3.5),
            galaxies_per_mpix=galaxy_factor * 10 ** rng.uniform(0.5, 1.6),
            rng=rng,
            kind=self.kind,
            fwhm_px=self.fwhm_px,
        )
        self.optics = {
            "kind": str(rng.choice(camera.optics)),
            "beta": rng.uniform(2.6, 4.5),
            "angle_deg": rng.uniform(0, 180),
            "strength": rng.uniform(0.3, 1.5),
        }
        if self.optics["kind"] == "donut":  # whose seeing, 0.3 of its width, is no sharper than others'
            self.fwhm_px = max(self.fwhm_px, DONUT_LEAST_PX)
        self.ellipticity = rng.normal(0, 0.03, 2)
        self.wander = 0.01 if space else 0.05  # of the width, from exposure to exposure
        asteroid = crossings and rng.random() < ASTEROID_SHARE
        self.asteroid = movers.random_asteroid(shape, self.noise_e, exposure_s, rng) if asteroid else None

    def expose(self, shift, begin_s, rng):
        """Expected electrons (H, W) of an exposure, and its FWHM in pixels."""
        fwhm_px = self.fwhm_px * rng.lognormal(0, self.wander)
        psf = draw_psf(fwhm_px, ellipticity=tuple(self.ellipticity + rng.normal(0, 0.01, 2)), **self.optics)
        expected = sky.render(
            self.field,
            self.shape,
            psf=psf,
            shift_px=tuple(shift),
            transparency=rng.normal(1, 0.01),
            sky_factor=rng.normal(1, 0.02),
        )
        if self.asteroid is not None:
            movers.add_asteroid(
                expected, self.asteroid, psf, begin_s=begin_s, exposure_s=self.exposure_s, shift_px=shift
            )
        if self.streaks and rng.random() < self.streaks:
            movers.add_streak(expected, movers.random_streak(self.shape, self.noise_e, rng), fwhm_px)
        return expected, fwhm_px


def _header(
    instrument, *, shape, exposure_s, number, total, identifier, when, pointing, shift, filter_name, fwhm_arcsec
):
    """The keywords of an LCO ``e91`` frame that labeling and detection read."""
    camera = f"sim-{instrument.telescope_id}"
    header = fits.Header()
    header["SIMULATE"] = (True, "simulated by crcore: not an observation")
    header["ORIGNAME"] = f"{camera}-{identifier:05d}-{number:04d}-e91"
    header["INSTRUME"] = (camera, "simulated camera")
    header["CAMERA"] = (instrument.name, "instrument that is simulated")
    header["SITEID"] = "sim"
    header["TELID"] = instrument.telescope_id
    header["OBJECT"] = f"simulated field {identifier}"
    header["OBSTYPE"] = "EXPOSE" if pointing else "SPECTRUM"
    header["RLEVEL"] = (91, "electrons, bias and dark subtracted, flat")
    header["FILTER"] = filter_name
    header["EXPTIME"] = (exposure_s, "s")
    header["DATE-OBS"] = when.isot
    header["DAY-OBS"] = when.strftime("%Y%m%d")
    header["MOLUID"] = identifier
    header["MOLFRNUM"] = number
    header["FRMTOTAL"] = total
    header["GAIN"] = (1.0, "electrons per unit of the data")
    header["RDNOISE"] = (instrument.read_noise_e, "electrons")
    header["SATURATE"] = (saturation_level(instrument), "electrons")
    header["L1FWHM"] = (fwhm_arcsec, "arcsec")
    header["PIXSCALE"] = (instrument.pixel_scale_arcsec, "arcsec per pixel")
    if pointing is None:
        return header
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = pointing
    wcs.wcs.crpix = [shape[1] / 2 + 0.5 + shift[1], shape[0] / 2 + 0.5 + shift[0]]
    scale = instrument.pixel_scale_arcsec / 3600
    wcs.wcs.cd = [[-scale, 0.0], [0.0, scale]]
    header["WCSERR"] = (0, "0: the astrometric solution is good")
    header.update(wcs.to_header())
    return header
