"""Labelled sequences on disk, in the layout of the LCO CR dataset, with a manifest.

One file a sequence: primary header, ``SCI`` x n, ``VALID_MASK``, ``CAT``, ``CR`` x n,
``IGNORE`` x n (doi:10.5281/zenodo.5034763). As in the released files all ``CR`` and
``IGNORE`` extensions carry ``EXTVER`` 0, so they are addressed by position: the i-th
``CR`` is number 3 + n + i. Simulated sequences carry ``TRUTH`` x n after these.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from crcore import results
from crcore.errors import InputError
from crcore.frame import BROKEN_FITS, open_fits
from crcore.instruments import get_instrument
from crcore.labeling import BORDER, NO_DATA, SOURCE, LabelingConfig, Sequence, label_sequence
from crcore.simulate.observe import simulate_sequence

__all__ = [
    "SimulationConfig",
    "find_reference",
    "open_cached",
    "read_sequence",
    "simulate_dataset",
    "summarise",
    "summarise_files",
    "write_frame",
    "write_sequence",
]


#: the modules that decide what a simulated sequence is
_CODE = ("alignment", "dataset", "frame", "instruments", "labeling", "simulate")

_MANIFEST = (
    "file",
    "split",
    "instrument",
    "data",
    "class",
    "exposure_s",
    "date",
    "filter",
    "rays",
    "cr_pixels",
    "true_pixels",
    "true_on_sources",
    "lost_to_sources",
    "sources",
    "pixels",
    "key",
    "sha256",
)


@dataclass(frozen=True)
class SimulationConfig:
    """How much to simulate.

    Attributes
    ----------
    seed : int
        Root of all randomness; sequence k of an instrument has its own stream.
    shape : tuple of int
        Rows and columns of each frame.
    exposure_s : tuple of float
        Range from which exposure times are drawn (logarithmically).
    rate_factor : float
        Multiplies the natural rate of rays.
    sequences : dict
        For each instrument, the numbers of sequences for training, validation and test.
    """

    seed: int = 2021
    shape: tuple[int, int] = (768, 768)
    exposure_s: tuple[float, float] = (100.0, 900.0)
    rate_factor: float = 1.0
    sequences: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, length in (("shape", 2), ("exposure_s", 2)):
            value = getattr(self, name)
            if len(value) != length or not all(isinstance(v, int | float) and v > 0 for v in value):
                raise InputError(f"{name} = {value}: {length} positive numbers are needed")
        for name, counts in self.sequences.items():
            get_instrument(name)
            if not isinstance(counts, list | tuple) or len(counts) != 3 or not all(isinstance(c, int) for c in counts):
                raise InputError(f"sequences: {name}: {counts}: numbers for training, validation and test are needed")


def _science_hdu(data, header):
    """A float image compressed to 1/64 of its noise, the same bytes for the same data.

    Tiles of 16 rows: a tile without any spread, as a row of no data, would fall back to
    gzip, which writes down the time.
    """
    return fits.CompImageHDU(
        data,
        header=header.copy(),
        name="SCI",
        compression_type="RICE_1",
        tile_shape=(min(16, data.shape[0]), data.shape[1]),
        quantize_level=64,
        quantize_method=1,
        dither_seed=fits.hdu.compressed.DITHER_SEED_CHECKSUM,
    )


def write_frame(path, frame):
    """Write a `Frame` like an LCO ``e91`` file: tile-compressed ``SCI`` and ``BPM``."""
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(),
            _science_hdu(frame.data, frame.header),
            fits.CompImageHDU(frame.bad.astype(np.uint8), name="BPM"),
        ]
    )
    with results.atomic(path) as part:
        hdus.writeto(part, overwrite=True, output_verify="silentfix")


def write_sequence(path, sequence):
    """Write a labelled sequence, whole or not at all.

    Parameters
    ----------
    path : path-like
        Usually ``.../masked_fits/<name>_3frms_masks.fits``.
    sequence : crcore.labeling.Sequence
    """
    n = len(sequence.data)
    primary = fits.PrimaryHDU()
    primary.header["FRMTOTAL"] = n
    for key in ("SIMULATE", "CAMERA", "TELID"):
        if key in sequence.headers[0]:
            primary.header[key] = sequence.headers[0][key]
    hdus = [primary]
    for i in range(n):
        header = sequence.headers[i].copy()
        header["FILENAME"] = sequence.names[i]
        hdu = _science_hdu(sequence.data[i], header)
        hdu.header["EXTVER"] = i
        hdus.append(hdu)
    valid = ((sequence.ignore[0] & NO_DATA) == 0).astype(np.uint8)
    hdus.append(fits.CompImageHDU(valid, name="VALID_MASK"))
    hdus.append(fits.BinTableHDU(sequence.catalog, name="CAT"))
    masks = [("CR", sequence.cr), ("IGNORE", sequence.ignore)]
    if sequence.truth is not None:
        masks.append(("TRUTH", sequence.truth))
    for name, stack in masks:
        for mask in stack:
            hdu = fits.CompImageHDU(np.ascontiguousarray(mask, dtype=np.uint8), name=name)
            hdu.header["EXTVER"] = 0
            hdus.append(hdu)
    with results.atomic(path) as part:
        fits.HDUList(hdus).writeto(part, overwrite=True, output_verify="silentfix")


def read_sequence(path):
    """Read a labelled sequence in the layout of the LCO CR dataset.

    Raises
    ------
    InputError
        When the file is not one.
    """
    path = Path(path)
    try:
        with open_fits(path) as hdus:
            n = int(hdus[0].header.get("FRMTOTAL") or hdus[1].header["FRMTOTAL"])
            stacks = [np.stack([hdus[start + i].data for i in range(n)]) for start in (1, 3 + n, 3 + 2 * n)]
            truth = None
            if len(hdus) >= 3 + 4 * n and hdus[3 + 3 * n].name == "TRUTH":
                truth = np.stack([hdus[3 + 3 * n + i].data for i in range(n)]).astype(np.uint8)
            headers = tuple(hdus[1 + i].header.copy() for i in range(n))
            catalog = Table(hdus[2 + n].data)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except BROKEN_FITS as error:
        raise InputError(f"{path}: is no labelled sequence ({error}): see data/README.md for the layout") from None
    data, cr, ignore = stacks
    names = tuple(str(h.get("FILENAME", h.get("ORIGNAME", f"{path.name}[{i}]"))) for i, h in enumerate(headers))
    return Sequence(
        np.ascontiguousarray(data, dtype=np.float32),
        cr.astype(np.uint8),
        ignore.astype(np.uint8),
        headers,
        names,
        catalog,
        {},
        truth,
    )


def find_reference(folder, name):
    """The reference mask of a frame below ``folder/truth``, or None.

    A file there belongs to the frame when it has its name, with or without something
    before it that ends in ``-`` or ``_``. Bit 1 of its
    first image marks rays, bit 2 pixels that are undecided.

    Returns
    -------
    numpy.ndarray or None
        uint8, (H, W): 1 ray, 2 undecided.
    """
    folder, name = Path(folder) / "truth", str(name)
    for path in sorted(folder.glob("*")):
        head = path.name.removesuffix(name)
        if path.name.endswith(name) and (not head or head[-1] in "-_"):
            with open_fits(path) as hdus:
                for hdu in hdus:
                    if hdu.is_image and hdu.data is not None and hdu.data.dtype.kind in "ui":
                        return np.where(hdu.data & 2, 2, hdu.data & 1).astype(np.uint8)
    return None


def simulate_dataset(folder, config, labeling=LabelingConfig(), *, progress=None):  # noqa: B008
    """Simulate sequences of every instrument, label them and write them below ``folder``.

    A sequence that is already there with the same settings and code is kept, so that a
    killed run goes on where it was. The split into training, validation and test is by
    sequence; each sequence is a field of its own.

    Parameters
    ----------
    folder : path-like
        Gets ``<split>/<instrument>/masked_fits/*.fits`` and ``manifest.csv``.
    config : SimulationConfig
        How much.
    labeling : LabelingConfig, optional
        Thresholds.
    progress : callable, optional
        Wraps the list of jobs, as ``tqdm`` does.

    Returns
    -------
    list of dict
        The manifest: one row a sequence.
    """
    folder = Path(folder)
    settings = {"simulation": dataclasses.asdict(config), "labeling": dataclasses.asdict(labeling)}
    key = hashlib.sha256(repr((settings, results.code_hash(*_CODE))).encode()).hexdigest()[:16]
    jobs = []
    for code, (name, counts) in enumerate(sorted(config.sequences.items())):
        instrument = get_instrument(name)
        k = 0
        for split, count in zip(("train", "valid", "test"), counts, strict=True):
            for _ in range(count):
                jobs.append((split, name, instrument, k, np.random.SeedSequence([config.seed, code, k])))
                k += 1
    rows = [_simulate_one(folder, *job, config, labeling, key) for job in (progress(jobs) if progress else jobs)]
    results.write_rows(folder / "manifest.csv", rows)
    return rows


def _simulate_one(folder, split, name, instrument, k, seeds, config, labeling, key):
    path = folder / split / name / "masked_fits" / f"{name}-{k:04d}_3frms_masks.fits"
    card = path.with_suffix(".json")
    if path.exists() and card.exists():
        row = results.read_json(card)
        if row["key"] == key:
            return {column: row[column] for column in _MANIFEST}
    rng = np.random.default_rng(seeds)
    exposure = float(np.round(np.exp(rng.uniform(*np.log(config.exposure_s)))))
    observed = simulate_sequence(
        instrument,
        shape=config.shape,
        exposure_s=exposure,
        rng=rng,
        rate_factor=config.rate_factor,
        identifier=10_000 * (1 + sorted(config.sequences).index(name)) + k,
    )
    sequence = label_sequence(observed.frames, labeling, truth=observed.truth)
    write_sequence(path, sequence)
    header = sequence.headers[0]
    inside = (sequence.ignore & (BORDER | NO_DATA)) == 0
    rays = (sequence.truth == 1) & inside
    row = {
        "file": str(path.relative_to(folder)),
        "split": split,
        "instrument": name,
        "data": "simulated",
        "class": instrument.telescope_class,
        "exposure_s": exposure,
        "date": header["DATE-OBS"][:10],
        "filter": header["FILTER"],
        "rays": int(sum(observed.n_rays)),
        "cr_pixels": sequence.facts["cr_pixels"],
        "true_pixels": int(rays.sum()),
        "true_on_sources": int((rays & ((sequence.ignore & SOURCE) > 0)).sum()),
        "lost_to_sources": sequence.facts["lost_to_sources"],
        "sources": len(sequence.catalog),
        "pixels": int((sequence.ignore == 0).sum()),
        "key": key,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    results.write_json(card, row)
    return row


def summarise(rows):
    """Sums of a manifest of simulated sequences, one row for each telescope class."""
    summary = []
    for name in sorted({r["class"] for r in rows}):
        mine = [r for r in rows if r["class"] == name]
        summary.append(
            {
                "camera": f"LCO {name}",
                "data": "simulated",
                "exposures": 3 * len(mine),
                "seconds": f"{min(r['exposure_s'] for r in mine):.0f} to {max(r['exposure_s'] for r in mine):.0f}",
                "pixels": sum(r["pixels"] for r in mine),
                "cr_pixels": sum(r["cr_pixels"] for r in mine),
            }
        )
    return summary


def summarise_files(paths, data):
    """The same for labelled files, one row for each camera and filter."""
    groups = {}
    for path in paths:
        sequence = read_sequence(path)
        header = sequence.headers[0]
        groups.setdefault(f"{header.get('INSTRUME')} {header.get('FILTER')}", []).append(
            (len(sequence.data), float(header["EXPTIME"]), int((sequence.ignore == 0).sum()), int(sequence.cr.sum()))
        )
    return [
        {
            "camera": name,
            "data": data,
            "exposures": sum(g[0] for g in group),
            "seconds": f"{min(g[1] for g in group):.0f} to {max(g[1] for g in group):.0f}",
            "pixels": sum(g[2] for g in group),
            "cr_pixels": sum(g[3] for g in group),
        }
        for name, group in sorted(groups.items())
    ]


def open_cached(path):
    """The arrays of a labelled sequence, memory-mapped from a cache beside the file.

    Decompressing FITS for each stamp would take most of the training time. The cache is
    made anew when the file changes.

    Returns
    -------
    dict
        ``data`` (n, H, W) float32; ``cr``, ``ignore`` (n, H, W) uint8; ``median`` (H, W) float32.
    """
    path = Path(path)
    cache = path.parent.parent / "cache" / path.stem
    stamp = cache / "stamp.json"
    state = {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
    if not stamp.exists() or results.read_json(stamp) != state:
        sequence = read_sequence(path)
        arrays = {"data": sequence.data, "cr": sequence.cr, "ignore": sequence.ignore, "median": sequence.median}
        for name, array in arrays.items():
            with results.atomic(cache / f"{name}.npy") as part:
                np.save(part, array)
        results.write_json(stamp, state)
    return {name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in ("data", "cr", "ignore", "median")}
