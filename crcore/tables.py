"""Tables of the paper: CSV, Markdown and LaTeX from the same rows."""

import csv
import io
from dataclasses import dataclass
from statistics import median

from crcore.instruments import CAMERAS, LCO

__all__ = [
    "PUBLISHED_TABLE2",
    "Table",
    "dataset_table",
    "format_percent",
    "imagers",
    "method_of",
    "table1",
    "table2",
    "table3",
]


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Attributes
    ----------
    caption : str
        What the table shows and from which data.
    columns : tuple of str
    rows : tuple of tuple of str
    """

    caption: str
    columns: tuple
    rows: tuple

    def renderings(self):
        """The table as ``{"csv": ..., "md": ..., "tex": ...}``."""
        return {"csv": self._csv(), "md": self.markdown(), "tex": self._latex()}

    def _csv(self):
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([self.columns, *self.rows])
        return stream.getvalue()

    def markdown(self):
        """The table in Markdown, caption first."""
        lines = [self.caption, "", "| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def _repr_markdown_(self):
        return self.markdown()

    def _latex(self):
        def escape(text):
            text = str(text).replace("\\", r"\textbackslash ")
            for a in "%&_#$":
                text = text.replace(a, "\\" + a)
            return text.replace("–", "--").replace("′", "$'$").replace("×", r"$\times$")

        body = [" & ".join(escape(c) for c in row) + r" \\" for row in self.rows]
        head = " & ".join(escape(c) for c in self.columns) + r" \\"
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{escape(self.caption)}}}",
                rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}",
                r"\hline",
                head,
                r"\hline",
                *body,
                r"\hline",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def format_percent(value, digits=2):
    """A fraction as a percentage, cut rather than rounded in our favour; a dash where there is none."""
    if value is None or value != value:
        return "–"
    cut = int(value * 100 * 10**digits + 1e-9) / 10**digits
    return f"{cut:.{digits}f}%"


def table1():
    """Table 1: the imagers, from the simulator's own numbers."""
    rows = []
    for camera in (CAMERAS[name] for name in LCO):
        width, height = camera.field_of_view_arcmin
        rows.append(
            (
                camera.name,
                camera.telescope_class,
                f"{camera.pixel_scale_arcsec:.3f}",
                f"{camera.binning}×{camera.binning}",
                f"{width:.0f}′ × {height:.0f}′",
                str(camera.filters),
            )
        )
    return Table(
        "Table 1. LCO imagers as simulated; the field follows from pixels and scale.",
        ("Imager", "Class", "Pixel scale (arcsec)", "Binning", "Field", "Filters"),
        tuple(rows),
    )


def imagers(survey):
    """Table 1 of labelled files, from `crcore.dataset.survey`: one row for each class and size of image."""
    groups = {}
    for row in survey:
        groups.setdefault((row["class"] or "–", row["shape"]), []).append(row)
    rows = []
    for (name, (height, width)), mine in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        scales = [r["scale_arcsec"] for r in mine if r["scale_arcsec"]]
        scale = median(scales) if scales else None
        field = f"{width * scale / 60:.0f}′ × {height * scale / 60:.0f}′" if scale else "–"
        cameras = sorted({r["camera"] for r in mine})
        rows.append(
            (
                name,
                ", ".join(cameras[:4]) + (f" and {len(cameras) - 4} more" if len(cameras) > 4 else ""),
                f"{width} × {height}",
                f"{scale:.2f}" if scale else "–",
                field,
                str(len({r["filter"] for r in mine})),
                str(sum(r["exposures"] for r in mine)),
            )
        )
    return Table(
        "Table 1 from real frames that are labelled here; images as labelled, after trimming.",
        ("Class", "Cameras", "Image", "Pixel scale (arcsec)", "Field", "Filters", "Exposures"),
        tuple(rows),
    )


def dataset_table(summary):
    """What a dataset holds, from `crcore.dataset.summarise`."""
    rows = tuple(
        (
            r["camera"],
            r["data"],
            str(r["exposures"]),
            r["seconds"],
            str(r["pixels"]),
            str(r["cr_pixels"]),
            f"1:{r['pixels'] / r['cr_pixels']:.0f}" if r["cr_pixels"] else "–",
        )
        for r in summary
    )
    return Table(
        "Labelled exposures. Pixels are those that the labels do not ignore.",
        ("Camera", "Data", "Exposures", "Seconds", "Pixels", "CR pixels", "Ratio"),
        rows,
    )


#: (method, set) of Table 2: published TPR at 0.01 % and 0.1 % FPR, precision at 95 % recall (claims C21-C36)
PUBLISHED_TABLE2 = {
    ("Astro-SCRAPPY", "LCO 0.4 m"): ("76.04%", "85.17%", "–"),
    ("Astro-SCRAPPY", "LCO 1 m"): ("95.03%", "96.41%", "–"),
    ("Astro-SCRAPPY", "LCO 2 m"): ("99.21%", "99.56%", "–"),
    ("deepCR", "LCO"): ("99.65%", "99.97%", "89.46%"),
    ("Cosmic-CoNN", "LCO"): ("99.91%", "99.99%", "93.70%"),
    ("deepCR", "Gemini 1x1"): ("85.49%", "99.43%", "76.27%"),
    ("Cosmic-CoNN", "Gemini 1x1"): ("96.40%", "99.83%", "92.03%"),
    ("deepCR", "Gemini 2x2"): ("87.58%", "98.97%", "81.87%"),
    ("Cosmic-CoNN", "Gemini 2x2"): ("97.60%", "99.88%", "96.69%"),
    ("deepCR", "HST extragalactic"): ("80.07%", "92.80%", "82.22%"),
    ("Cosmic-CoNN", "HST extragalactic"): ("80.62%", "93.43%", "85.11%"),
    ("deepCR", "HST globular cluster"): ("83.44%", "95.55%", "82.20%"),
    ("Cosmic-CoNN", "HST globular cluster"): ("85.51%", "96.51%", "86.75%"),
    ("deepCR", "HST resolved galaxy"): ("53.34%", "73.76%", "66.31%"),
    ("Cosmic-CoNN", "HST resolved galaxy"): ("61.97%", "80.31%", "69.08%"),
    ("Cosmic-CoNN", "LCO NRES"): ("97.40%", "99.86%", "94.4%"),
}

#: our networks that are the method of a row of Table 2, trained here
RETRAINED = {
    "ground_imaging": "Cosmic-CoNN",
    "HST_ACS_WFC": "Cosmic-CoNN",
    "NRES": "Cosmic-CoNN",
    "deepCR_ground_imaging": "deepCR",
    "deepCR_HST_ACS_WFC": "deepCR",
    "deepCR_NRES": "deepCR",
}


def method_of(detector):
    """The method of Table 2 that a detector stands for, or None."""
    if detector in RETRAINED:
        return RETRAINED[detector]
    if "WFC3" in detector or "DECam" in detector:
        return None  # trained for other cameras than the paper compares
    return next((m for m in ("Astro-SCRAPPY", "deepCR", "Cosmic-CoNN") if detector.startswith(m)), None)


def table2(rows, *, caption="Table 2"):
    """Table 2: published numbers beside ours, with 95 % intervals by frame.

    Parameters
    ----------
    rows : list of dict
        From `crcore.evaluation.evaluate`; those scored against labels are shown.
    caption : str, optional
        Its beginning.

    Returns
    -------
    Table
    """
    columns = ("tpr_at_0.01%", "tpr_at_0.1%", "precision_at_95%")
    lines = []
    for row in rows:
        if row["against"] != "labels":
            continue
        where = row["set"].removesuffix(", simulated").removesuffix(", real")
        published = PUBLISHED_TABLE2.get((method_of(row["detector"]), where), ("–", "–", "–"))
        cells = [cell for name, known in zip(columns, published, strict=True) for cell in (known, _interval(row, name))]
        head = (row["set"], row["data"], row["detector"], str(row["frames"]), str(row["cr_pixels"]))
        lines.append((*head, *cells, f"{row['average_precision']:.4f}"))
    return Table(
        f"{caption}: published (on the paper's data) beside ours, on the data that each row names, with 95 % limits, "
        "by frame. Scored against labels made as appendix A says; precision at one ray pixel for 10,000 others.",
        (
            "Set", "Data", "Detector", "Frames", "CR pixels",
            "TPR at 0.01% FPR, published", "TPR at 0.01% FPR, ours",
            "TPR at 0.1% FPR, published", "TPR at 0.1% FPR, ours",
            "Precision at 95% recall, published", "Precision at 95% recall, ours",
            "Average precision, ours",
        ),
        tuple(lines),
    )  # fmt: skip


def _interval(row, name):
    """A percentage with its interval, where there is one."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low in (None, "") or low != low:
        return format_percent(row[name])
    return f"{format_percent(row[name])} [{format_percent(low, 1)[:-1]}, {format_percent(high, 1)[:-1]}]"


#: rows of Table 3: epochs to a Dice of 0.85; precision at 95 % recall on LCO, Gemini 1x1, Gemini 2x2 (claims C50-C57)
PUBLISHED_TABLE3 = {
    "Cosmic-CoNN": ("170", "94.47%", "88.56%", "94.57%"),
    "Cosmic-CoNN BN": ("640", "94.08%", "80.79%", "82.6%"),
    "Cosmic-CoNN BCE": ("300", "93.52%", "82.72%", "93.36%"),
    "small stamps": ("800", "92.52%", "76.65%", "90.18%"),
}


def table3(rows, epochs, goal, sets):
    """Table 3: each variant's published numbers beside ours.

    Parameters
    ----------
    rows : list of dict
        From `crcore.evaluation.evaluate`, scored against labels.
    epochs : dict
        Variant to the first epoch whose Dice exceeds ``goal``, or None.
    goal : float
        See `crcore.ablation.goal_dice`.
    sets : sequence of str
        Names of the three test sets.

    Returns
    -------
    Table
    """
    lines = []
    for name, epoch in epochs.items():
        published = PUBLISHED_TABLE3.get("small stamps" if name.endswith("²") else name, ("–",) * 4)
        line = [name, published[0], "never" if epoch is None else str(epoch)]
        for set_name, value in zip(sets, published[1:], strict=True):
            ours = next((r for r in rows if r["detector"] == f"{name} (retrained)" and r["set"] == set_name), None)
            line += [value, format_percent(None if ours is None else ours["precision_at_95%"])]
        lines.append(tuple(line))
    heads = [head for name in sets for head in (f"{name.removesuffix(', simulated')}, published", "ours")]
    return Table(
        f"Table 3. Epochs to a validation Dice of 0.85 (published) and {goal:.2f} (ours: narrow networks, minutes, one "
        "run each), and precision at 95% recall on simulated frames, at one ray pixel for 10,000 others.",
        ("Variant", "Epochs, published", "ours", *heads),
        tuple(lines),
    )
