"""What several test files share: fields of stars, exposures of them, and files of such exposures."""

import matplotlib
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from crcore.errors import InputError
from crcore.frame import Frame
from crcore.labeling import LabelingConfig, label_sequence

matplotlib.use("Agg")

SHAPE = (128, 144)
SKY, READ_NOISE = 200.0, 8.0
SIGMA = np.sqrt(SKY + READ_NOISE**2)  # of a pixel of the sky
SMALL = LabelingConfig(border_px=10)

RAY = ([60, 61, 62, 63], [70, 71, 72, 73])


def star(x, y, peak, fwhm=4.0, shape=SHAPE):
    rows, columns = np.indices(shape)
    return peak * np.exp(-4 * np.log(2) * ((columns - x) ** 2 + (rows - y) ** 2) / fwhm**2)


def field(n, shape=SHAPE, seed=6, peak=(2e3, 2e4), fwhm=4.0):
    """Light of ``n`` stars at random places."""
    rng = np.random.default_rng(seed)
    h, w = shape
    return sum(
        star(rng.uniform(12, w - 12), rng.uniform(12, h - 12), rng.uniform(*peak), fwhm, shape) for _ in range(n)
    )


STARS = sum(star(x, y, peak) for x, y, peak in [(40, 35, 9000), (100, 50, 4000), (75, 100, 2500), (30, 90, 6000)])


def exposures(n=3, light=STARS, seed=0, sky=SKY):
    """Noisy exposures of the same light, in electrons."""
    rng = np.random.default_rng(seed)
    return [rng.poisson(sky + light) + rng.normal(0, READ_NOISE, np.shape(light)) for _ in range(n)]


def sky_header(shift_x=0.0, shift_y=0.0, *, angle=0.0, shape=SHAPE, **cards):
    """A WCS that puts the same sky (shift_x, shift_y) pixels further right and up, turned by ``angle`` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [shape[1] / 2 + shift_x, shape[0] / 2 + shift_y]
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    if angle:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        wcs.wcs.pc = [[c, -s], [s, c]]
    header = wcs.to_header()
    header.update(cards)
    return header


def frames_of(images, header=None):
    """Frames named frame0, frame1, ... of images in electrons."""
    header = sky_header(shape=np.shape(images[0])) if header is None else header
    return [Frame(image, read_noise=READ_NOISE, name=f"frame{i}", header=header) for i, image in enumerate(images)]


def with_ray(images, number=1, peak=30 * SIGMA, pixels=RAY):
    images[number][pixels] += peak
    return images


def moved(image, shift_x, shift_y):
    return np.roll(image, (shift_y, shift_x), axis=(0, 1))


SHIFTS = [(0, 0), (3, -2), (-4, 5)]


def dithered(shifts=SHIFTS, light=STARS):
    """Exposures whose light is displaced by whole pixels."""
    rng = np.random.default_rng(5)
    dark = exposures(len(shifts), np.zeros(np.shape(light)))
    return [i + rng.poisson(moved(light, *s)) for i, s in zip(dark, shifts, strict=True)]


def reported(frames, config=SMALL):
    """The message with which labeling refuses frames: one line."""
    with pytest.raises(InputError) as caught:
        label_sequence(frames, config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def exposure(folder, name, molecule=7, number=1, *, data=None, extra=(), **cards):
    """Write an exposure of a molecule; a card that is None is left out. Returns its path."""
    header = fits.Header({"INSTRUME": "fa16", "FILTER": "rp", "EXPTIME": 300.0, "RDNOISE": READ_NOISE, "GAIN": 1.0})
    if molecule is not None:
        header.update({"MOLUID": molecule, "MOLFRNUM": number})
    header.update(sky_header(shape=SHAPE if data is None else data.shape))
    for key, value in cards.items():
        if value is None:
            header.remove(key, ignore_missing=True)
        else:
            header[key] = value
    data = np.zeros((4, 4), "f4") if data is None else data.astype("f4")
    folder.mkdir(exist_ok=True, parents=True)
    science = fits.ImageHDU(data, header=header, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), science, *extra]).writeto(folder / name)
    return folder / name


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """Three small labelled sequences, one for each split."""
    from crcore.simulate.datasets import SimulationConfig, simulate_dataset

    folder = tmp_path_factory.mktemp("tiny")
    config = SimulationConfig(
        seed=5, shape=(160, 160), exposure_s=(600.0, 900.0), rate_factor=20.0, sequences={"sinistro": (1, 1, 1)}
    )
    simulate_dataset(folder, config, LabelingConfig(border_px=16))
    return folder


@pytest.fixture(scope="session")
def tiny_recipe():
    from crcore.networks import NetworkConfig
    from crcore.recipe import Recipe

    return Recipe(
        network=NetworkConfig(width=8), stamp_px=32, batch=2, epochs=4, samples_per_epoch=4, alpha_epochs=2, seed=3
    )


IMAGE = np.array([[1, 2, 3], [40, 50, 60]])


def write(path, *hdus, **cards):
    for key, value in cards.items():
        hdus[0].header[key] = value
    first = [] if isinstance(hdus[0], fits.PrimaryHDU) else [fits.PrimaryHDU()]
    fits.HDUList([*first, *hdus]).writeto(path)
    return path


def plain(path, data=IMAGE, **cards):
    return write(path, fits.PrimaryHDU(np.asarray(data)), **cards)


THICKNESS = 20.0  # um
ELECTRON_MASS = 0.511e6  # eV


def run_um(track):
    """Projected length of a straight track, from the centres of its first and last step."""
    n = len(track.x_um)
    return np.hypot(np.ptp(track.x_um), np.ptp(track.y_um)) * n / (n - 1)


def path_um(track):
    return np.hypot(run_um(track), THICKNESS)
