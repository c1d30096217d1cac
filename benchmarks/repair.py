"""Repaired pixels judged by the photometry of stars: bias, scatter, and whether the errors are honest.

Usage: python benchmarks/repair.py [--stars N] [--seed N]     (about 15 seconds on one core)

Isolated Moffat stars with Poisson and read noise; each is crossed by one simulated ray of a Sinistro (muons and Compton
electrons as on the ground) that hits a random place within 1.5 FWHM of its middle. The mask is perfect: every pixel
with more charge than half its noise, faint rims included; what is below stays in, as it would. Fluxes are sums in
circles of 1.5 FWHM about the true places, less the true sky, compared with the sums of the same stars without noise,
so that neither centring nor sky nor aperture enters. Prints Markdown.
"""

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
import sep

from crcore.instruments import CAMERAS
from crcore.repair import METHODS, repair
from crcore.simulate.rays import charge_map, compton_electrons, muons

SKY, READ_NOISE, BETA = 300.0, 8.0, 3.0
FWHM_PX, PEAK_SNR = (2.0, 3.0, 4.5), (20, 100, 500)
STAMP = 41  # pixels of a side, one star in each
SUBPIXELS = 5
RAYS = 600
LEAST_E = 5 * np.sqrt(SKY + READ_NOISE**2)  # the brightest pixel of a ray that a detector would find on the sky
CASES = ("no ray", "ray unrepaired", *METHODS)


@dataclass(frozen=True)
class Field:
    """Stars on a grid of stamps: noise-free, observed, hit by rays; ``mask`` of the rays; ``x``, ``y`` of the stars."""

    model: np.ndarray
    clean: np.ndarray
    hit: np.ndarray
    mask: np.ndarray
    x: np.ndarray
    y: np.ndarray


def ray_library(n, rng):
    """Charge (STAMP, STAMP) of single rays that start in the middle of a stamp, each bright enough to be found."""
    camera = CAMERAS["sinistro"]
    silicon = {"size_um": (camera.pixel_um, camera.pixel_um), "thickness_um": camera.thickness_um, "rng": rng}
    rays = []
    while len(rays) < n:
        if rng.random() < 1 / (1 + camera.electrons_per_muon):
            tracks = muons(1, tilt_rad=np.arccos(rng.uniform(0.5, 1.0)), **silicon)
        else:
            tracks = compton_electrons(1, **silicon)
        for track in tracks:  # they cross the pixel at the corner: to the middle
            track.x_um[:] += STAMP // 2 * camera.pixel_um
            track.y_um[:] += STAMP // 2 * camera.pixel_um
        charge = charge_map(
            tracks,
            (STAMP, STAMP),
            pixel_um=camera.pixel_um,
            thickness_um=camera.thickness_um,
            diffusion_um=camera.diffusion_um,
        )
        if charge.max() > LEAST_E:
            rays.append(np.round(charge))
    return rays


def moffat(fwhm, dx, dy):
    """A star (STAMP, STAMP) of central intensity 1, ``dx`` and ``dy`` off the middle, integrated over pixels."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    place = (np.arange(STAMP * SUBPIXELS) + 0.5) / SUBPIXELS - STAMP / 2
    fine = (1 + ((place[:, None] - dy) ** 2 + (place - dx) ** 2) / alpha**2) ** -int(BETA)
    return fine.reshape(STAMP, SUBPIXELS, STAMP, SUBPIXELS).mean(axis=(1, 3))


def central_intensity(fwhm, snr):
    """Of a star whose brightest pixel, with the star in its middle, has this ratio of signal to noise."""
    peak = (snr**2 + np.sqrt(snr**4 + 4 * snr**2 * (SKY + READ_NOISE**2))) / 2
    return peak / moffat(fwhm, 0, 0).max()


def placed(ray, radius, dx, dy, rng):
    """The ray moved so that one of its electrons is freed at a random place of the aperture; what leaves is lost."""
    at = rng.choice(ray.size, p=ray.ravel() / ray.sum(dtype=float))
    row, column = np.unravel_index(at, ray.shape)
    distance, angle = radius * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    to_row = round(STAMP // 2 + dy + distance * np.sin(angle))
    to_column = round(STAMP // 2 + dx + distance * np.cos(angle))
    wide = np.pad(ray, STAMP)
    return wide[STAMP + row - to_row :, STAMP + column - to_column :][:STAMP, :STAMP]


def field(fwhm, snr, n_side, rays, rng):
    """``n_side`` squared stars."""
    offsets = rng.uniform(-0.5, 0.5, (n_side, n_side, 2))
    star = central_intensity(fwhm, snr)
    model, charge = np.empty((2, n_side, n_side, STAMP, STAMP))
    for place in np.ndindex(n_side, n_side):
        dx, dy = offsets[place]
        model[place] = SKY + star * moffat(fwhm, dx, dy)
        charge[place] = placed(rays[rng.integers(len(rays))], 1.5 * fwhm, dx, dy, rng)
    model, charge = (a.swapaxes(1, 2).reshape(2 * (n_side * STAMP,)) for a in (model, charge))
    clean = rng.poisson(model) + rng.normal(0, READ_NOISE, model.shape)
    mask = charge > 0.5 * np.sqrt(model + READ_NOISE**2)
    middles = np.arange(n_side) * STAMP + STAMP // 2
    x, y = middles + offsets[..., 0], middles[:, None] + offsets[..., 1]
    return Field(model, clean, clean + charge, mask, x.ravel(), y.ravel())


def photometry(f, image, variance, radius):
    """Each star's deviation from its true flux, in per cent of it and in units of the estimated error; (n,) each."""
    flux, error, _ = sep.sum_circle(np.ascontiguousarray(image - SKY, dtype=float), f.x, f.y, radius, var=variance)
    truth, _, _ = sep.sum_circle(f.model - SKY, f.x, f.y, radius)
    return 100 * (flux / truth - 1), (flux - truth) / error


def judged(f, radius):
    """`photometry` of each of `CASES`, and of the repaired images with a variance that is ``not inflated``."""
    nothing = np.zeros_like(f.mask)
    images = {
        "no ray": repair(f.clean, nothing, read_noise=READ_NOISE),
        "ray unrepaired": repair(f.hit, nothing, read_noise=READ_NOISE),
    }
    images |= {method: repair(f.hit, f.mask, read_noise=READ_NOISE, method=method) for method in METHODS}
    results = {case: photometry(f, r.data, r.variance.astype(float), radius) for case, r in images.items()}
    for method in METHODS:
        image = images[method].data
        results[f"{method}, not inflated"] = photometry(f, image, ordinary_variance(image), radius)
    return results


def ordinary_variance(image):
    """As if every pixel had been measured."""
    return np.maximum(image, 0).astype(float) + READ_NOISE**2


def brightest_replaced(f):
    """True for stars whose brightest pixel is under the mask; (n,)."""
    return f.mask[np.round(f.y).astype(int), np.round(f.x).astype(int)]


def bias(deviation):
    """Median with its standard error (half of what the ranks n/2 -+ sqrt(n)/2 span), and half of the central 68 %."""
    ordered, n = np.sort(deviation), len(deviation)
    if n < 10:
        return "too few"
    low, high = ordered[int((n - np.sqrt(n)) / 2)], ordered[int((n + np.sqrt(n)) / 2)]
    p16, p84 = np.percentile(ordered, (16, 84))
    return f"{np.median(ordered):+.3f} ± {(high - low) / 2:.3f} ({(p84 - p16) / 2:.2f})"


def rms(chi):
    return f"{np.sqrt(np.mean(chi**2)):.2f}"


def table(title, columns, rows):
    print(f"\n{title}\n\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    print("\n".join("| " + " | ".join(str(c) for c in row) + " |" for row in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=1600, help="about how many stars of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rays, n_side = ray_library(RAYS, rng), max(4, round(np.sqrt(arguments.stars)))
    all_stars, cores, errors = [], [], []
    for fwhm, snr in itertools.product(FWHM_PX, PEAK_SNR):
        f = field(fwhm, snr, n_side, rays, rng)
        results, core = judged(f, 1.5 * fwhm), brightest_replaced(f)
        all_stars.append([fwhm, snr, *(bias(results[case][0]) for case in CASES)])
        cores.append([fwhm, snr, core.sum(), *(bias(results[case][0][core]) for case in CASES[1:])])
        errors.append([fwhm, snr, *(rms(chi) for _, chi in results.values())])
    kind = ("FWHM (px)", "peak S/N")
    print(f"{n_side**2} stars of each kind; sky {SKY:g} e-, read noise {READ_NOISE:g} e-; circles of 1.5 FWHM.")
    form = "median ± its standard error (half of the central 68 %)"
    table(f"**Bias of the flux in per cent, all stars**: {form}", (*kind, *CASES), all_stars)
    table("**The same where the star's brightest pixel is replaced**", (*kind, "stars", *CASES[1:]), cores)
    table("**RMS of chi** (deviation over estimated error; 1 is honest)", (*kind, *results), errors)


if __name__ == "__main__":
    main()
