"""The paper's real sets: which are there, how to get the others, and who judges on them."""

from dataclasses import dataclass
from pathlib import Path

from crcore.errors import InputError
from crcore.evaluation import TestSet
from crcore.fits_input import find_fits
from crcore.readers import convert, read_labelled

__all__ = ["FETCHED", "Fetched", "fetched_sets", "report"]


@dataclass(frozen=True)
class Fetched:
    """A real set that the paper uses: how to get it, what it costs, and who judges on it.

    Attributes
    ----------
    name, folder, command, size, notebook, otherwise, masks : str
        ``otherwise`` says what runs without it, ``masks`` where they come from.
    """

    name: str
    folder: str
    command: str
    size: str
    notebook: str
    otherwise: str
    masks: str = "they come with the files"


FETCHED = (
    Fetched("LCO CR dataset, test set", "lco-cr/test_set", "crcore fetch lco-cr --subset test", "as its record says",
            "06_lco", "simulated LCO sequences"),
    Fetched("Gemini GMOS, reduced by DRAGONS", "gemini", "crcore fetch gemini instrument=GMOS-N",
            "98 frames in the paper", "07_gemini", "simulated GMOS sequences", "reduce them with DRAGONS"),
    Fetched("HST ACS/WFC F606W", "hst", "crcore fetch hst filters=F606W", "0.17 GB a frame: two chips, errors, DQ",
            "08_hst", "simulated ACS/WFC sequences"),
    Fetched("LCO NRES", "nres", "crcore fetch lco-archive start=2019-01-01 INSTRUME=nres01 -o data/sets/nres",
            "--dry-run says how large", "09_nres", "simulated echelle sequences",
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
    """
    sets = []
    for known in FETCHED:
        place = Path(root) / known.folder
        if known.notebook != notebook or not place.is_dir():
            continue
        paths = convert(place, Path(build) / known.folder.replace("/", "-"), say=say)
        if paths:
            sets.append(TestSet(f"{known.name}, real", "real", tuple(paths[: most or None])))
    return sets


def _judged(place):
    """True where a folder holds a file in one of the layouts."""
    for path in [*find_fits(place), *place.rglob("*.npz")][:20]:
        try:
            return bool(read_labelled(path))
        except InputError:
            continue
    return False
