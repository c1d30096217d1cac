"""Fill the README's numbers from the last laptop run: ``python -m crcore.readme``."""

import csv
import sys

from crcore import results, tables_generic
from crcore.paths import DATA_RESULTS, FIGURES, ROOT

__all__ = ["filled"]

_REAL, _REAL_END = "<!-- real frames: python -m crcore.readme -->", "<!-- end of real frames -->"
_BEGIN, _END = "<!-- results: python -m crcore.readme -->", "<!-- end of results -->"
_COLUMNS = (
    "Set", "Detector", "TPR at 0.01% FPR, published", "TPR at 0.01% FPR, ours", "Precision at 95% recall, published",
    "Precision at 95% recall, ours",
)  # fmt: skip
#: a glance has no room for these; Table 2 has them
_LEFT_OUT = ("WFC3", "DECam", "(tuned)", "(retrained)")


def filled(text, figures=FIGURES, measured=DATA_RESULTS):
    """The README with the blocks between its markers made from ``figures/`` and ``data/results/``.

    Parameters
    ----------
    text : str
        The README as it is.
    figures : pathlib.Path, optional
        Folder with ``tables/table2.csv`` and ``run.json``.
    measured : pathlib.Path, optional
        Folder with ``generic_unseen.csv``, from ``benchmarks/unseen.py``.

    Returns
    -------
    str
    """
    text = _between(text, _BEGIN, _END, f"{_table(figures)}\n\n{_seconds(figures)}")
    real = tables_generic.real_frames_table(results.read_rows(measured / "generic_unseen.csv"))
    return _between(text, _REAL, _REAL_END, "\n".join(_lines(real.columns, real.rows)))


def _between(text, begin, end, block):
    head, rest = text.split(begin)
    return f"{head}{begin}\n{block}\n{end}{rest.split(end)[1]}"


def _lines(columns, rows):
    """A Markdown table, line by line."""
    return [
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
        *("| " + " | ".join(r) + " |" for r in rows),
    ]


def _table(figures):
    with (figures / "tables" / "table2.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = []
    published = [column for column in _COLUMNS if column.endswith("published")]
    for row in rows:
        if any(word in row["Detector"] for word in _LEFT_OUT):
            continue
        if row["Detector"] == "generic" or any(row[column] != "–" for column in published):
            kept.append([row[column] for column in _COLUMNS])
    return "\n".join(_lines(_COLUMNS, kept))


def _seconds(figures):
    seconds = results.read_json(figures / "run.json")["seconds"]
    each = ", ".join(f"{name} {value:.0f} s" for name, value in sorted(seconds.items()))
    total = sum(seconds.values()) / 60
    return f"The notebooks that made them took {total:.0f} minutes together, some of them two at a time: {each}."


def main():
    """Rewrite the README; returns 0."""
    path = ROOT / "README.md"
    text = filled(path.read_text())
    with results.atomic(path) as part:
        part.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
