"""Exposures and sequences: the sky and the rays, through seeing, detector and electronics."""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from scipy import ndimage

from crcore.frame import Frame
from crcore.simulate import rays, sky

__all__ = ["SimulatedSequence", "expose", "ray_truth", "simulate_sequence"]

#: bits of a simulated frame's truth mask
TRUTH_RAY, TRUTH_FAINT = 1, 2


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
    """

    frames: tuple[Frame, ...]
    truth: tuple[np.ndarray, ...]
    n_rays: tuple[int, ...]


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


def expose(expected_e, charge_e, instrument, rng, *, hot_e=None):
    """Turn expected electrons and ray charge into what the camera writes, in electrons.

    Poisson noise, full wells that bleed along columns, read noise, whole ADU.

    Parameters
    ----------
    expected_e, charge_e : numpy.ndarray, shape (H, W)
        Light (and dark current), and charge of the rays.
    instrument : crcore.instruments.Instrument
    rng : numpy.random.Generator
    hot_e : numpy.ndarray, optional
        Extra charge of hot pixels.

    Returns
    -------
    numpy.ndarray
        float32, (H, W), electrons; bias subtracted.
    """
    light = expected_e if hot_e is None else expected_e + hot_e
    collected = rng.poisson(light).astype(np.float32) + charge_e
    collected = _bleed(collected, instrument.saturation_e)
    signal = collected + rng.normal(0.0, instrument.read_noise_e, collected.shape).astype(np.float32)
    adu = np.round(signal / np.float32(instrument.gain_e_per_adu))
    return (adu * np.float32(instrument.gain_e_per_adu)).astype(np.float32)


def saturation_level(instrument):
    """What headers call saturated (electrons): the full well less noise and rounding, so full pixels exceed it."""
    return instrument.saturation_e - 5 * instrument.read_noise_e - instrument.gain_e_per_adu


def _bleed(charge, full_well):
    """Spill charge above the full well up and down its column until it fits."""
    over = charge > full_well
    for column in np.flatnonzero(over.any(axis=0)):
        line = charge[:, column]
        for direction in (1, -1):
            excess = 0.0
            share = np.maximum(line - full_well, 0.0) / 2
            order = range(len(line)) if direction == 1 else range(len(line) - 1, -1, -1)
            for row in order:
                if excess > 0 and line[row] < full_well:
                    moved = min(excess, full_well - line[row])
                    line[row] += moved
                    excess -= moved
                excess += share[row]
        charge[:, column] = np.minimum(line, full_well)
    return charge


def simulate_sequence(instrument, *, shape, exposure_s, rng, n_frames=3, identifier=0, rate_factor=1.0):
    """Observe a random field several times in a row, as one LCO molecule does.

    Parameters
    ----------
    instrument : crcore.instruments.Instrument
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

    Returns
    -------
    SimulatedSequence
    """
    sky_rate = 10 ** rng.uniform(-1.0, 0.9) * (instrument.pixel_scale_arcsec / 0.4) ** 2  # e/s/px, dark to bright time
    field = sky.random_field(
        shape,
        sky_e=sky_rate * exposure_s,
        stars_per_mpix=10 ** rng.uniform(1.8, 3.5),
        galaxies_per_mpix=10 ** rng.uniform(0.5, 1.6),
        rng=rng,
    )
    # KAF chips and small telescopes: the optics of the 0.4 m never give under 1.8".
    seeing = max(rng.lognormal(np.log(1.7), 0.25), 1.8 if instrument.telescope_class == "0.4 m" else 0.9)
    beta = rng.uniform(2.6, 4.5)
    ellipticity = rng.normal(0, 0.03, 2)
    hot = _hot_pixels(shape, instrument, exposure_s, rng)
    tilt = np.arccos(rng.uniform(0.5, 1.0))
    # Fig 2 spans November 2018 to December 2019.
    start = Time("2018-11-01T00:00:00", scale="utc") + TimeDelta(float(rng.uniform(0, 425 * 86400)), format="sec")
    pointing = (float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(-0.9, 0.9)))))
    filter_name = str(rng.choice(["gp", "rp", "ip", "B", "V"]))
    frames, truths, counts = [], [], []
    drift = np.zeros(2)
    for number in range(1, n_frames + 1):
        fwhm_px = seeing * rng.lognormal(0, 0.05) / instrument.pixel_scale_arcsec
        psf = sky.draw_psf(fwhm_px, beta=beta, ellipticity=tuple(ellipticity + rng.normal(0, 0.01, 2)))
        shift = np.round(drift * sky.PHASES) / sky.PHASES
        expected = sky.render(
            field,
            shape,
            psf=psf,
            shift_px=tuple(shift),
            transparency=rng.normal(1, 0.01),
            sky_factor=rng.normal(1, 0.02),
        )
        expected += instrument.dark_e_per_s * exposure_s
        charge, n_rays = rays.rays_in_exposure(
            instrument, shape, exposure_s, rng, rate_factor=rate_factor, tilt_rad=tilt
        )
        data = expose(expected, charge, instrument, rng, hot_e=hot)
        noise = np.sqrt(expected + instrument.read_noise_e**2)
        header = _header(
            instrument,
            shape=shape,
            exposure_s=exposure_s,
            number=number,
            total=n_frames,
            identifier=identifier,
            when=start + TimeDelta((number - 1) * (exposure_s + 30.0), format="sec"),
            pointing=pointing,
            shift=shift,
            filter_name=filter_name,
            fwhm_arcsec=fwhm_px * instrument.pixel_scale_arcsec,
        )
        frames.append(
            Frame(
                data,
                read_noise=instrument.read_noise_e,
                saturation=saturation_level(instrument),
                bad=np.zeros(shape, dtype=bool),
                header=header,
                name=header["ORIGNAME"],
            )
        )
        truths.append(ray_truth(charge, noise))
        counts.append(n_rays)
        drift = drift + rng.normal(0, 0.7, 2)
    return SimulatedSequence(tuple(frames), tuple(truths), tuple(counts))


def _hot_pixels(shape, instrument, exposure_s, rng):
    """Charge of hot pixels: the same pixels in every exposure, 1 in 30,000, up to thousands of electrons."""
    hot = np.zeros(shape, dtype=np.float32)
    n = rng.poisson(shape[0] * shape[1] / 30_000)
    where = rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)
    hot[where] = exposure_s * 10 ** rng.uniform(-0.5, 1.2, n) * instrument.read_noise_e / 10
    return hot


def _header(
    instrument, *, shape, exposure_s, number, total, identifier, when, pointing, shift, filter_name, fwhm_arcsec
):
    """The keywords of an LCO ``e91`` frame that labeling and detection read."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = pointing
    wcs.wcs.crpix = [shape[1] / 2 + 0.5 + shift[1], shape[0] / 2 + 0.5 + shift[0]]
    scale = instrument.pixel_scale_arcsec / 3600
    wcs.wcs.cd = [[-scale, 0.0], [0.0, scale]]
    camera = f"sim-{instrument.telescope_id}"
    header = fits.Header()
    header["SIMULATE"] = (True, "simulated by crcore: not an observation")
    header["ORIGNAME"] = f"{camera}-{identifier:05d}-{number:04d}-e91"
    header["INSTRUME"] = (camera, "simulated camera")
    header["CAMERA"] = (instrument.name, "instrument that is simulated")
    header["SITEID"] = "sim"
    header["TELID"] = instrument.telescope_id
    header["OBJECT"] = f"simulated field {identifier}"
    header["OBSTYPE"] = "EXPOSE"
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
    header["WCSERR"] = (0, "0: the astrometric solution is good")
    header.update(wcs.to_header())
    return header
