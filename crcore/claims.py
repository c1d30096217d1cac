"""The ledger: every published number beside ours, with a verdict and one sentence of reason.

A claim is measured by the function of its number; a claim without one is listed as not
measured, never left out. Verdicts follow from the numbers by the rules below.
"""

import csv
from dataclasses import asdict, dataclass
from functools import partial

from crcore import claims_learning
from crcore.finding import Finding
from crcore.paths import CLAIMS
from crcore.tables import Table, format_percent

__all__ = ["VERDICTS", "Evidence", "ledger", "ledger_table"]

VERDICTS = (
    "reproduced",
    "same direction",
    "not reproduced",
    "differs in data",
    "not testable here",
    "not measured yet",
)

#: largest difference, in percentage points, at which a percentage counts as reproduced
TOLERANCE_POINTS = 2.0


@dataclass(frozen=True)
class Evidence:
    """What the notebooks found, as the ledger reads it.

    Attributes
    ----------
    labeling, dataset, learning, training, ablation, lco, toolkit : dict
        ``values`` of the notebooks' ``result.json``.
    scores : list of dict
        Rows of notebook 06.
    """

    labeling: dict
    dataset: dict
    learning: dict
    training: dict
    ablation: dict
    lco: dict
    toolkit: dict
    scores: list


def ledger(evidence):
    """All claims of ``data/claims.csv`` with our findings; a list of dictionaries, in order."""
    rows = []
    with CLAIMS.open(newline="") as stream:  # as text: 0.00001 and 99.90 stay as they were published
        published = list(csv.DictReader(stream))
    for claim in published:
        measure = _MEASURES.get(claim["id"])
        finding = measure(evidence) if measure else None
        if finding is None:
            finding = Finding("", "", "not measured yet", "No notebook measures it so far.")
        if finding.verdict not in VERDICTS:
            raise ValueError(f"{claim['id']}: verdict {finding.verdict!r} is not one of {VERDICTS}")
        found = asdict(finding)
        rows.append(
            {
                **claim,
                "ours": found["ours"],
                "our_data": found["data"],
                "verdict": found["verdict"],
                "reason": found["reason"],
            }
        )
    return rows


def ledger_table(rows):
    """The ledger as a `crcore.tables.Table`."""
    return Table(
        "The ledger: each published statement beside what we find, on the data that the row names.",
        ("Claim", "Where", "Statement", "Method", "Published", "Ours", "Our data", "Verdict", "Reason"),
        tuple(
            (
                r["id"],
                r["where"],
                r["claim"],
                r["method"],
                f"{r['published']} {r['unit']}".removesuffix(" -"),
                r["ours"],
                r["our_data"],
                r["verdict"],
                r["reason"],
            )
            for r in rows
        ),
    )


def summary(rows):
    """How often each verdict was given; a dictionary in the order of `VERDICTS`."""
    return {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}


def _score(evidence, detector, set_name, key):
    for row in evidence.scores:
        if row["detector"] == detector and row["set"] == set_name and row["against"] == "labels":
            return row[key]
    return None


def _flux(evidence):
    flux = evidence.toolkit["rays_per_s_cm2"]
    return Finding(
        f"{flux:.3f}",
        "real: SAAO 1.0 m, 150 s",
        "reproduced" if 1 / 3 < flux / 1e-5 < 3 else "not reproduced",
        f"{evidence.toolkit['rays']} rays in one real exposure, pixels of 24 um assumed; muons alone make about 0.02; "
        "the paper's own pixel ratio of 1:10000 needs a rate of that order.",
    )


def _pixel_ratio(evidence):
    ratio = evidence.dataset["pixels_per_cr_pixel"]
    return Finding(
        f"1:{ratio:.0f}",
        "simulated LCO",
        "differs in data",
        f"Rays were simulated at {evidence.dataset['rate_factor']:g} times the natural rate: the ratio follows.",
    )


def _lost_to_sources(evidence):
    share = evidence.dataset["lost_share"]
    return Finding(
        format_percent(share),
        "simulated LCO",
        "reproduced" if abs(100 * share / 1.21 - 1) < 0.25 else "differs in data",
        "Share of true ray pixels that lie on sources and are rejected; it follows the density of sources, "
        "which is drawn broadly here.",
    )


def _camera(evidence, name, published):
    scale, width, height, filters = evidence.dataset["cameras"][name]
    agrees = abs(width - published[0]) <= 1 and abs(height - published[1]) <= 1
    return Finding(
        f"{scale:.3f} / {width:.1f}x{height:.1f} / {filters:.0f}",
        "simulated camera",
        "reproduced" if agrees else "not reproduced",
        "Pixels times scale give the field."
        if agrees
        else "The detector has 3072 x 2048 pixels: its field is not square.",
    )


def _months(evidence):
    n = evidence.dataset["months"]
    return Finding(
        f"{n} months of 14",
        "simulated LCO",
        "differs in data",
        "Dates are drawn evenly; the figure has the paper's form.",
    )


def _tpr(evidence, detector, set_name, published):
    found = [_score(evidence, detector, set_name, k) for k in ("tpr_at_0.01%", "tpr_at_0.1%", "precision_at_95%")]
    if found[0] is None:
        return Finding("", "", "not testable here", "The detector is not installed.")
    found = found[: len(published)]
    worst = max(abs(100 * f - p) for f, p in zip(found, published, strict=True))
    return Finding(
        " / ".join(format_percent(f) for f in found),
        set_name,
        "reproduced" if worst <= TOLERANCE_POINTS else "differs in data",
        f"Largest difference {worst:.1f} percentage points; on simulated frames a difference decides nothing.",
    )


def _lead(evidence, key, published):
    ours, theirs = (_score(evidence, f"{d} (retrained)", "LCO, simulated", key) for d in ("Cosmic-CoNN", "deepCR"))
    if ours is None or theirs is None:
        return None
    lead = 100 * (ours - theirs)
    if min(ours, theirs) < 0.5:
        return Finding(
            f"{lead:+.1f}",
            "simulated LCO",
            "not testable here",
            "One of the networks is trained too little to compare.",
        )
    near = 0.5 < lead / published < 2
    verdict = "reproduced" if near else "same direction" if lead > 1 else "not reproduced"
    return Finding(
        f"{lead:+.1f}",
        "simulated LCO",
        verdict,
        f"{100 * ours:.1f}% against {100 * theirs:.1f}%, one training run each; both retrained here.",
    )


def _feature(evidence, key, ours, reason):
    worked = bool(evidence.toolkit.get(key))
    return Finding(ours, "real: SAAO 1.0 m, 150 s", "reproduced" if worked else "not reproduced", reason)


def _rules(evidence):
    c = evidence.labeling["config"]
    ours = (
        f"{c['seed_score']}; {c['dilation_px']} px; {c['grow_score']}; under {c['min_pixels']} pixels; "
        f"{c['border_px']} px"
    )
    same = (c["seed_score"], c["dilation_px"], c["grow_score"], c["min_pixels"], c["border_px"]) == (
        5.0,
        5,
        2.5,
        2,
        100,
    )
    return Finding(
        ours,
        "labeling code",
        "reproduced" if same else "differs in data",
        "The rules as run." if same else "Frames are too small for the paper's border in this profile.",
    )


def _sequences(evidence):
    return Finding(
        f"{evidence.labeling['sequences']} sequences of 3 of one molecule",
        "simulated LCO",
        "reproduced"
        if evidence.labeling["sequences"] and evidence.labeling["min_exposure_s"] >= 100
        else "not reproduced",
        f"Shortest exposure {evidence.labeling['min_exposure_s']:.0f} s; the same code groups real frames.",
    )


def _scrappy(evidence):
    settings = evidence.lco["astroscrappy"]
    if not settings:
        return Finding("", "", "not testable here", "Astro-SCRAPPY is not installed.")
    steps = settings["sigclips"]
    same = settings["objlim"] == {"0m4": 0.5, "1m0": 2.0, "2m0": 2.0} and settings["sigfrac"] == 0.1
    return Finding(
        f"objlim {settings['objlim']}; sigfrac {settings['sigfrac']}; sigclip {min(steps):g} to {max(steps):g}",
        "simulated LCO",
        "reproduced" if same and (min(steps), max(steps)) == (1, 20) else "not reproduced",
        "The settings as run.",
    )


_MEASURES = claims_learning.MEASURES | {
    "C01": _flux,
    "C03": _pixel_ratio,
    "C06": _lost_to_sources,
    "C07": partial(_camera, name="SBIG 6303", published=(29, 29)),
    "C08": partial(_camera, name="Sinistro", published=(26, 26)),
    "C09": partial(_camera, name="Spectral", published=(10, 10)),
    "C10": _months,
    "C21": partial(_tpr, detector="Astro-SCRAPPY", set_name="LCO 0.4 m, simulated", published=(76.04, 85.17)),
    "C22": partial(_tpr, detector="Astro-SCRAPPY", set_name="LCO 1 m, simulated", published=(95.03, 96.41)),
    "C23": partial(_tpr, detector="Astro-SCRAPPY", set_name="LCO 2 m, simulated", published=(99.21, 99.56)),
    "C24": partial(_tpr, detector="deepCR (retrained)", set_name="LCO, simulated", published=(99.65, 99.97, 89.46)),
    "C25": partial(_tpr, detector="Cosmic-CoNN (released)", set_name="LCO, simulated", published=(99.91, 99.99, 93.70)),
    "C37": partial(_lead, key="precision_at_95%", published=4),
    "C38": partial(_lead, key="precision_at_99%", published=11),
    "C48": partial(
        _feature,
        key="command_attaches",
        ours="yes: CRMASK, and CRPROB if asked for",
        reason="crcore detect writes a copy with both extensions; the notebook reads them back.",
    ),
    "C58": partial(
        _feature,
        key="snippet_runs",
        ours="yes",
        reason="The printed lines run, for a frame of any shape; the map lies in [0, 1].",
    ),
    "C59": partial(
        _feature,
        key="chooses_by_memory",
        ours="yes: by memory for networks with group normalisation; a GPU first",
        reason="The choice is shown for 4 and 100 GB; GPUs come first in the code, and none was here to run it on.",
    ),
    "C61": partial(
        _feature,
        key="confidence",
        ours="yes: precision_at(frame, x, y)",
        reason="The precision of a position's score is read off the model's own curve; the paper's frame is not here.",
    ),
    "C62": _sequences,
    "C63": _rules,
    "C64": _scrappy,
}
