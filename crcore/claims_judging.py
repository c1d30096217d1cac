"""What the ledger says of sections 4 and 5: Table 2, Figs 6 to 11, speed, and fine-tuning (section 6)."""

import math
import re
from functools import partial

from crcore.finding import Finding
from crcore.tables import PUBLISHED_TABLE2, format_percent

__all__ = ["MEASURES"]

#: largest difference, in percentage points, at which a percentage counts as reproduced
TOLERANCE_POINTS = 2.0
#: times within this factor of the published ones count as reproduced: processors differ
TOLERANCE_TIMES = 3.0

#: sets of Table 2 as `crcore.fetched` names those that were fetched; no header says which of HST's three fields it is
FETCHED_SETS = {
    "LCO": "LCO CR dataset, test set, real",
    "LCO 0.4 m": "LCO CR dataset, test set, 0.4 m, real",
    "LCO 1 m": "LCO CR dataset, test set, 1 m, real",
    "LCO 2 m": "LCO CR dataset, test set, 2 m, real",
    "Gemini 1x1": "Gemini GMOS, reduced by DRAGONS, 1x1, real",
    "Gemini 2x2": "Gemini GMOS, reduced by DRAGONS, 2x2, real",
    "LCO NRES": "LCO NRES, real",
}

_COLUMNS = ("tpr_at_0.01%", "tpr_at_0.1%", "precision_at_95%")
#: for each domain, our retrained networks by method; the released ones are the authors'
_OURS = {
    "LCO": {"Cosmic-CoNN": "ground_imaging", "deepCR": "deepCR_ground_imaging"},
    "Gemini": {"Cosmic-CoNN": "ground_imaging", "deepCR": "deepCR_ground_imaging"},
    "HST": {"Cosmic-CoNN": "HST_ACS_WFC", "deepCR": "deepCR_HST_ACS_WFC"},
    "LCO NRES": {"Cosmic-CoNN": "NRES", "deepCR": "deepCR_NRES"},
}


def _row(evidence, detector, set_name):
    for row in evidence.scores:
        if row["detector"] == detector and row["set"] == set_name and row["against"] == "labels":
            return row
    return None


def _ours(method, where):
    domain = where if where in _OURS else where.split()[0]
    return _OURS[domain].get(method, method)


def _points(text):
    return float(re.sub(r"[^0-9.]", "", text))


def _on_real_frames(evidence, method, where):
    """Scores on the paper's own data where it was fetched, else of the authors' network on such a camera.

    Only who did not learn from simulated frames can show whether a published number holds on real ones.
    """
    judged = {"Cosmic-CoNN": "Cosmic-CoNN (released)", "Astro-SCRAPPY": "Astro-SCRAPPY"}
    if method not in judged:  # the deepCR that the paper trained for these cameras was not released
        return None
    row = _row(evidence, judged[method], FETCHED_SETS.get(where))
    if row is None and (method, where) == ("Cosmic-CoNN", "LCO"):
        row = _row(evidence, judged[method], "LCO 0.4 m, real")
    return row


def _accuracy(evidence, method, where):
    """A row of Table 2: on real frames where there are some that decide, else simulated."""
    detector = _ours(method, where)
    row = _row(evidence, detector, f"{where}, simulated")
    published = [
        (key, value) for key, value in zip(_COLUMNS, PUBLISHED_TABLE2[method, where], strict=True) if value != "–"
    ]
    real = _on_real_frames(evidence, method, where)
    shown = real or row
    if shown is None or not all(math.isfinite(float(shown[key])) for key, _ in published):
        return Finding("", "", "not testable here", f"{detector} has no score on {where}.")
    worst = max(abs(100 * shown[key] - _points(value)) for key, value in published)
    beside = []
    for found, label in (
        (row if real else None, f"{detector} on simulated frames"),
        (_row(evidence, f"{method} (released)", f"{where}, simulated"), "the authors' network on simulated frames"),
    ):
        if found is not None and found is not shown:
            beside.append(f"{label}: " + " / ".join(format_percent(found[key]) for key, _ in published))
    verdict = "differs in data"
    if real:
        verdict = "reproduced" if worst <= TOLERANCE_POINTS else "not reproduced"
    what = "The authors' own network" if real else f"{detector}, trained here on simulated frames"
    if method == "Astro-SCRAPPY":
        what = "The paper's settings"
    says = "which decides" if real else "which on simulated frames decides nothing"
    return Finding(
        " / ".join(format_percent(shown[key]) for key, _ in published),
        shown["set"],
        verdict,
        f"{what}, {shown['frames']} frames; largest difference {worst:.1f} points, {says}."
        + "".join(f" {part[0].upper()}{part[1:]}." for part in beside),
        interval=" / ".join(_between(shown, key) for key, _ in published),
    )


def _between(row, name):
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low in (None, "") or low != low:
        return "–"
    return f"{100 * low:.1f}–{100 * high:.1f}"


def _lead(evidence, where, key, published):
    """By how many points Cosmic-CoNN leads deepCR, both trained here on the same data; the authors' pair beside it."""
    pair = [_row(evidence, _ours(m, where), f"{where}, simulated") for m in ("Cosmic-CoNN", "deepCR")]
    limits = [float(row[f"{key}{end}"]) for row in pair if row for end in ("", "_low", "_high") if f"{key}{end}" in row]
    if None in pair or len(limits) < 6 or not all(map(math.isfinite, limits)):
        return Finding("", "", "not testable here", "One of the two was not judged, or has no score.")
    one, two = pair
    lead = 100 * (one[key] - two[key])
    apart = one[f"{key}_low"] > two[f"{key}_high"] or two[f"{key}_low"] > one[f"{key}_high"]
    verdict = "not testable here"
    if apart:
        verdict = "not reproduced" if lead < 0 else "reproduced" if 0.5 < lead / published < 2 else "same direction"
    reason = (
        f"{100 * one[key]:.1f}% [{_between(one, key)}] against {100 * two[key]:.1f}% [{_between(two, key)}], "
        "trained here on the same simulated frames" + ("" if apart else ": within the scatter of frames")
    )
    authors = [_row(evidence, f"{m} (released)", f"{where}, simulated") for m in ("Cosmic-CoNN", "deepCR")]
    if None not in authors:
        reason += f"; the authors' networks {100 * (authors[0][key] - authors[1][key]):+.1f}"
        reason += ", of which deepCR's was trained on HST" if where.startswith(("LCO", "Gemini")) else ""
    return Finding(f"{lead:+.1f}", f"{where}, simulated", verdict, reason + ".")


def _share(evidence, notebook, kind, what):
    """Recall of a kind of pixels or rays: Cosmic-CoNN against the others, at each detector's threshold."""
    found = getattr(evidence, notebook).get("by_kind", {})
    wanted = ("deepCR_ground_imaging", "deepCR (released)", "Astro-SCRAPPY")
    others = {name: found[name][kind] for name in wanted if name in found}
    ours = found.get("ground_imaging")
    if not ours or "deepCR_ground_imaging" not in others or ours[f"n_{kind}"] < 30:
        return Finding("", "", "not testable here", f"Too few {what} in the frames, or a network was not judged.")
    share, n = ours[kind], ours[f"n_{kind}"]
    scatter = 2 * math.sqrt(2 * max(share * (1 - share), 0.25 / n) / n)  # of a difference of two shares, 95 %
    nearest = max(others.values())
    verdict = "not testable here"
    if abs(share - nearest) > scatter:
        verdict = "reproduced" if share > nearest else "not reproduced"
    listed = ", ".join(f"{name} {format_percent(value)}" for name, value in others.items())
    gone = ", ".join(name for name in wanted if name not in found)
    released = found.get("Cosmic-CoNN (released)")
    also = f"; the authors' network {format_percent(released[kind])}" if released else ""
    also += f"; not there: {gone}" if gone else ""
    return Finding(
        format_percent(share),
        "simulated",
        verdict,
        f"Found of {n} {what}, each detector at its own threshold, so that a lower one finds more: {listed}{also}.",
        interval=f"± {100 * scatter:.1f}",
    )


def _seconds(evidence, key, published, what):
    taken = evidence.toolkit.get("seconds", {}).get(key, {})
    if not taken:
        return None
    theirs = taken.get("Cosmic-CoNN (released)")
    listed = ", ".join(f"{name} {value:.2g} s" for name, value in taken.items())
    if theirs is None:
        return Finding(listed, what, "not testable here", "The released package is not installed.")
    near = 1 / TOLERANCE_TIMES < theirs / published < TOLERANCE_TIMES
    return Finding(
        f"{theirs:.1f} s",
        what,
        "reproduced" if near else "differs in data",
        f"The authors' network on this machine's processor, without a GPU; beside it: {listed}.",
    )


def _orbit_flux(evidence):
    flux = evidence.hst.get("rays_per_s_cm2")
    if flux is None:
        return None
    return Finding(
        f"{flux:.2f}",
        "HST, simulated",
        "differs in data",
        "Counted in simulated exposures; the simulator was given the published rate, so agreeing proves only "
        "that no ray is lost on the way.",
    )


def _fine_tuned(evidence):
    own = evidence.generic.get("own_camera", {})
    if len(own) != 2:
        return None
    before, after = own["generic"], next(v for n, v in own.items() if n != "generic")
    gain = 100 * (after - before)
    verdict = "not testable here" if abs(gain) < 1 else "reproduced" if gain > 0 else "not reproduced"  # one run each
    return Finding(
        f"{gain:+.1f} points of average precision",
        "a simulated camera, drawn at random",
        verdict,
        f"{before:.3f} before, {after:.3f} after fine-tuning on a few exposures with rays put into them; one run: a "
        "difference below a point decides nothing.",
    )


def _explorer(evidence):
    if not evidence.toolkit.get("explorer"):
        return None
    return Finding(
        "yes",
        "real: SAAO 1.0 m, 150 s",
        "reproduced",
        "crcore app and crcore.explore have all of them; a headless browser tests them.",
    )


def _elsewhere(_evidence, reason):
    return Finding("", "", "not testable here", reason)


_DATASET = "Needs the published dataset; what 'crcore fetch lco-cr' gets is judged, but not counted here."

MEASURES = {
    "C02": _orbit_flux,
    "C04": partial(_elsewhere, reason=_DATASET),
    "C05": partial(_elsewhere, reason=_DATASET),
    "C21": partial(_accuracy, method="Astro-SCRAPPY", where="LCO 0.4 m"),
    "C22": partial(_accuracy, method="Astro-SCRAPPY", where="LCO 1 m"),
    "C23": partial(_accuracy, method="Astro-SCRAPPY", where="LCO 2 m"),
    "C24": partial(_accuracy, method="deepCR", where="LCO"),
    "C25": partial(_accuracy, method="Cosmic-CoNN", where="LCO"),
    "C26": partial(_accuracy, method="deepCR", where="Gemini 1x1"),
    "C27": partial(_accuracy, method="Cosmic-CoNN", where="Gemini 1x1"),
    "C28": partial(_accuracy, method="deepCR", where="Gemini 2x2"),
    "C29": partial(_accuracy, method="Cosmic-CoNN", where="Gemini 2x2"),
    "C30": partial(_accuracy, method="deepCR", where="HST extragalactic"),
    "C31": partial(_accuracy, method="Cosmic-CoNN", where="HST extragalactic"),
    "C32": partial(_accuracy, method="deepCR", where="HST globular cluster"),
    "C33": partial(_accuracy, method="Cosmic-CoNN", where="HST globular cluster"),
    "C34": partial(_accuracy, method="deepCR", where="HST resolved galaxy"),
    "C35": partial(_accuracy, method="Cosmic-CoNN", where="HST resolved galaxy"),
    "C36": partial(_accuracy, method="Cosmic-CoNN", where="LCO NRES"),
    "C37": partial(_lead, where="LCO", key="precision_at_95%", published=4),
    "C38": partial(_lead, where="LCO", key="precision_at_99%", published=11),
    "C39": partial(_share, notebook="lco", kind="faint", what="faint ray pixels"),
    "C40": partial(_elsewhere, reason="Needs Gemini's 98 frames: 'crcore fetch gemini'."),
    "C41": partial(_share, notebook="gemini", kind="worms", what="worms"),
    "C42": partial(_lead, where="HST resolved galaxy", key="tpr_at_0.01%", published=8),
    "C43": partial(_elsewhere, reason="Needs the NRES frames of the LCO archive ('crcore fetch lco-archive')."),
    "C44": partial(_seconds, key="nres 4096", published=25, what="simulated NRES, 4096²"),
    "C45": partial(_elsewhere, reason="The profile-fitting code of Bai et al. was not released."),
    "C46": partial(_seconds, key="sinistro 2048", published=7.5, what="simulated Sinistro, 2048²"),
    "C47": partial(_elsewhere, reason="No GPU was at hand; 'crcore detect' takes one where it is."),
    "C49": _explorer,
    "C60": _fine_tuned,
}  # fmt: skip
