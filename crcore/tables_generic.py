"""Tables of the generic model: other cameras, real frames, stars harmed, what mattered."""

from crcore.tables import Table, format_percent

__all__ = ["harm_table", "left_out_table", "rays_table", "real_frames_table", "simulated_sets_table", "variants_table"]


def rays_table(rows):
    """Completeness and purity of whole rays, from rows of `crcore.generic_study.score_by_kind`."""
    columns = ("Set", "Detector", "Threshold", "Found", "Found, spots", "Found, tracks", "Purity", "Pixel recall",
               "Pixel precision")  # fmt: skip
    keys = ("completeness", "completeness_short", "completeness_long", "purity", "recall", "precision")
    body = tuple(
        (row["set"], row["detector"], f"{row['threshold']:.3g}", *(format_percent(row[key]) for key in keys))
        for row in rows
    )
    return Table("Whole rays on cameras drawn at random, at each detector's own threshold (simulated).", columns, body)


def left_out_table(rows):
    """Average precision with and without an instrument in training, from `crcore.leave_one_out.leave_one_out`."""
    seen = {row["set"]: row for row in rows if not row["left_out"]}
    body = tuple(
        (row["set"], str(row["frames"]), *map(_precision, (seen[row["set"]], row)))
        for row in rows
        if row["left_out"] and row["set"] in seen
    )
    columns = ("Set", "Frames", "Trained on all", "Trained without it")
    return Table("Average precision on an instrument with and without it in training (simulated).", columns, body)


def _precision(row):
    low, high = row["average_precision_low"], row["average_precision_high"]
    return f"{row['average_precision']:.3f} [{low:.3f}, {high:.3f}]"


_REAL_SETS = {
    "lowell": "Lowell, real",
    "lco": "LCO, real",
    "gmos rays": "GMOS rays in real skies",
    "itl rays": "ITL rays in real skies",
    "slit": "Kast slit, real",
}


def real_frames_table(rows):
    """Detectors on real frames that no network here was trained on, from ``benchmarks/unseen.py``."""
    sets = [key for key in rows[0] if key not in ("detector", "harmed", "seconds_per_mpixel", "revision")]
    body = tuple(
        (row["detector"], *(str(row[s]).split(" (")[0] for s in sets), str(row["harmed"]).split(" of ")[0])
        for row in rows
    )
    columns = ("Detector", *(_REAL_SETS.get(s, s) for s in sets), "Stars harmed per 1,000 (Lowell)")
    return Table("Average precision on real frames that no network here was trained on.", columns, body)


def simulated_sets_table(rows):
    """The first detector of ``benchmarks/simulated.py`` and, set by set, the best of the others."""
    first = next(row["detector"] for row in rows if row["first_less_this"] == "")
    sets = {}
    for row in rows:
        sets.setdefault((row["set"], row["against"]), []).append(row)
    body = []
    for (name, against), scored in sets.items():
        ours = next(row for row in scored if row["detector"] == first)
        best = max((row for row in scored if row is not ours), key=lambda row: row["average_precision"])
        difference = [best[key] for key in ("first_less_this", "difference_low", "difference_high")]
        body.append((
            name, against, str(ours["frames"]),
            *(f"{row['average_precision']:.4f} [{row['low']:.4f}, {row['high']:.4f}]" for row in (ours, best)),
            best["detector"], "{:+.4f} [{:+.4f}, {:+.4f}]".format(*difference),
        ))  # fmt: skip
    columns = ("Set", "Against", "Frames", first, "Best other", "Which", "Difference, same frames")
    caption = "Average precision on simulated sequences that no network was trained on, with 95 % intervals by frame."
    return Table(caption, columns, tuple(body))


def harm_table(rows, *, recalls=(0.8, 0.9, 0.95, 0.99)):
    """Stars harmed at equal completeness: the first detector of ``benchmarks/harm.py``, and the most sparing other."""
    first = rows[0]["detector"]
    body = []
    for width, recall in dict.fromkeys((row["fwhm_px"], row["recall"]) for row in rows if row["recall"] in recalls):
        found = [row for row in rows if row["fwhm_px"] == width and row["recall"] == recall]
        ours = next((row for row in found if row["detector"] == first), None)
        others = [row for row in found if row["detector"] != first]
        if ours is None or not others:
            continue
        best = min(others, key=lambda row: row["harmed"])
        body.append((f"{width:g}", f"{recall:.0%}", _harmed(ours), _harmed(best), best["detector"], _difference(best)))
    columns = ("FWHM, px", "Ray pixels found", first, "Most sparing other", "Which", "Difference, same fields")
    caption = (
        "Stars harmed per 1,000 where detectors find the same share of the ray pixels (simulated), with 95 % intervals."
    )
    return Table(caption, columns, tuple(body))


def _harmed(row):
    known = row["low"] != ""
    return f"{row['per_1000']:.1f}" + (f" [{row['low']:.1f}, {row['high']:.1f}]" if known else "")


def _difference(row):
    known = row["difference_low"] != ""
    between = f" [{row['difference_low']:+.1f}, {row['difference_high']:+.1f}]" if known else ""
    return f"{row['first_less_this']:+.1f}{between}"


def variants_table(rows):
    """What mattered for the generic model, from ``benchmarks/generic_ablation.py``."""
    columns = (
        "Variant",
        "Parameters",
        "Simulated",
        "Lowell, real",
        "LCO, real",
        "Slit, real",
        "Stars harmed per 1,000",
    )
    body = tuple(
        (
            *(row["variant"], str(row["parameters"]), f"{row['simulated']:.3f}"),
            *(str(row.get(key) or "–").split(" (")[0] for key in ("lowell", "lco", "slit")),
            str(row.get("harmed") or "–").split(" of ")[0],
        )
        for row in rows
    )
    return Table("Average precision after short trainings that differ in one thing.", columns, body)
