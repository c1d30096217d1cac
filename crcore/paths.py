"""Every path of the project."""

import os
from dataclasses import dataclass
from pathlib import Path

from crcore.errors import InputError

__all__ = ["CLAIMS", "CONFIG", "DATA_RESULTS", "FIGURES", "NOTEBOOKS", "ROOT", "Build", "user_data"]

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
CLAIMS = ROOT / "data" / "claims.csv"
#: results of runs too long for a profile, committed with the command that makes them again
DATA_RESULTS = ROOT / "data" / "results"


@dataclass(frozen=True)
class Build:
    """Where one profile's products go: ``build/<profile>/...``."""

    profile: str

    @property
    def root(self):
        """Folder of everything of this profile."""
        return ROOT / "build" / self.profile

    @property
    def data(self):
        """Simulated frames and datasets."""
        return self.root / "data"

    @property
    def results(self):
        """Tables of numbers, one folder a notebook."""
        return self.root / "results"

    @property
    def figures(self):
        """Pictures and printable tables."""
        return self.root / "figures"

    @property
    def notebooks(self):
        """Executed notebooks."""
        return self.root / "notebooks"

    @property
    def training(self):
        """Checkpoints and logs."""
        return self.root / "training"


def user_data():
    """The folder that ``CRCORE_DATA`` names, or None when it is not set.

    Raises
    ------
    InputError
        When it names no folder.
    """
    value = os.environ.get("CRCORE_DATA", "").strip()
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_absolute():
        # Notebooks run in a folder of their own: a relative path is meant from where the user stands.
        folder = Path(os.environ.get("CRCORE_START", ".")) / folder
    if not folder.is_dir():
        raise InputError(f"CRCORE_DATA = {value}: no such folder: correct it or unset it")
    return folder.resolve()
