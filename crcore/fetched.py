"""The paper's real sets: which are there, how to get the others, and who judges on them."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from crcore.dataset import lco_class
from crcore.errors import InputError
from crcore.evaluation import TestSet
from crcore.fits_input import find_fits
from crcore.readers import convert, read_labelled
from crcore.release import labelled_files

__all__ = ["FETCHED", "Fetched", "fetched_sets", "lco_sequences", "report"]


#: where in a set's folder 'crcore label' puts its masks
LABELLED = "labelled"


@dataclass(frozen=True)
class Fetched:
    """A real set that the paper uses: how to get it, what it costs, and who judges on it.

    Attributes
    ----------
    name, folder, command, size, notebook, otherwise, masks : str
        ``otherwise`` says what runs without it, ``masks`` where they come from.
    part : callable, optional
        What a header's frames are a part of, by which Table 2 tells them apart; empty for no part.
    """

    name: str
    folder: str
    command: str
    size: str
    notebook: str
    otherwise: str
    masks: str = "they come with the files"
    part: Callable = lambda header: ""


FETCHED = (
    Fetched("New LCO sequences", "lco-archive", "crcore fetch lco-archive start=2019-01-01 end=2019-12-31 --limit 60",
            "--dry-run says how large", "06_lco", "simulated LCO sequences",
            "'crcore label data/sets/lco-archive -o data/sets/lco-archive/labelled' makes them", lco_class),
    Fetched("LCO CR dataset, test set", "lco-cr/test_set", "crcore fetch lco-cr --subset test", "as its record says",
            "06_lco", "simulated LCO sequences", part=lco_class),
    Fetched("Gemini GMOS, reduced by DRAGONS", "gemini", "crcore fetch gemini instrument=GMOS-N",
            "98 frames in the paper", "07_gemini", "simulated GMOS sequences", "reduce them with DRAGONS",
            part=lambda header: "x".join(str(header.get("CCDSUM", "")).split())),
    Fetched("HST ACS/WFC F606W", "hst", "crcore fetch hst filters=F606W", "0.17 GB a frame: two chips, errors, DQ",
            "08_hst", "simulated ACS/WFC sequences"),
    Fetched("LCO NRES", "nres",
            "crcore fetch lco-archive start=2019-01-01 end=2019-12-31 INSTRUME=nres01 OBSTYPE=TARGET RLEVEL=0 "
            "-o data/sets/nres", "raw; --dry-run says how large; the query was not tried", "09_nres",
            "simulated echelle sequences",
            "'crcore label data/sets/nres --kind spectroscopy -o data/sets/nres/labelled' makes them"),
)  # fmt: skip


def report(root=Path("data") / "sets"):
    """Lines that say which of the paper's sets are there, how to get the others, and what runs without them."""
    lines = []
    for known in FETCHED:
        place = Path(root) / known.folder
        if place.is_dir() and _judged(place):
            lines.append(f"{known.name}: {place}, judged by {known.notebook}")
        elif place.is_dir():
            lines.append(
                f"{known.name}: {place} holds no masks yet ({known.masks}); {known.notebook} has {known.otherwise}"
            )
        else:
            lines.append(
                f"{known.name}: missing; get it by '{known.command}' ({known.size}); without it {known.notebook} "
                f"has {known.otherwise}"
            )
    return lines


def lco_sequences(root=Path("data") / "sets"):
    """Labelled sequences of LCO's imagers that were fetched: the published dataset's and new ones; maybe none."""
    return [path for name in ("lco-cr", f"lco-archive/{LABELLED}") for path in _labelled_here(Path(root) / name)]


def _labelled_here(folder):
    with contextlib.suppress(InputError):  # none are there
        return labelled_files(folder)
    return []


def fetched_sets(notebook, build, *, root=Path("data") / "sets", most=0, say=print):
    """Real test sets for a notebook that were fetched, none where there are none.

    Parameters
    ----------
    notebook : str
        Such as "06_lco".
    build : pathlib.Path
        Where converted files go.
    root : path-like, optional
        Where `crcore.fetch` puts sets.
    most : int, optional
        At most so many files; 0 for all.
    say : callable, optional

    Returns
    -------
    list of crcore.evaluation.TestSet
        Each set as a whole, and its parts.
    """
    sets = []
    for known in FETCHED:
        place = Path(root) / known.folder
        if known.notebook != notebook or not place.is_dir():
            continue
        if (place / LABELLED).is_dir():
            paths = _labelled_here(place / LABELLED)
        else:
            paths = convert(place, Path(build) / known.folder.replace("/", "-"), say=say)
        paths = paths[: most or None]
        parts = {f"{known.name}, real": paths} if paths else {}
        for path in paths:
            if part := known.part(fits.getheader(path, 1)):
                parts.setdefault(f"{known.name}, {part}, real", []).append(path)
        sets += [TestSet(name, "real", tuple(members)) for name, members in sorted(parts.items())]
    return sets


def _judged(place):
    """True where a folder holds a file in one of the layouts."""
    if (place / LABELLED).is_dir():
        return bool(_labelled_here(place / LABELLED))
    for path in [*find_fits(place), *place.rglob("*.npz")][:20]:
        try:
            return bool(read_labelled(path))
        except InputError:
            continue
    return False
