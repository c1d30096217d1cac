"""The ledger: every published number beside ours, with a verdict and one sentence of reason.

A claim is measured by the function of its number; a claim without one is listed as not
measured, never left out. Verdicts follow from the numbers by the rules below.
"""

import csv
from dataclasses import asdict, dataclass
from functools import partial

from crcore import claims_judging, claims_learning
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

#: the notebook that measures a claim, by the section or figure that makes it
_NOTEBOOKS = {
    "01_labeling": ("C62", "C63"),
    "02_dataset": ("C03", "C04", "C05", "C06", "C07", "C08", "C09", "C10"),
    "03_network_and_loss": ("C11", "C12", "C13", "C14", "C15", "C16"),
    "05_ablation": ("C17", "C18", "C19", "C50", "C51", "C52", "C53", "C54", "C55", "C56", "C57"),
    "04_training": ("C20", "C65"),
    "06_lco": ("C21", "C22", "C23", "C24", "C25", "C37", "C38", "C39", "C47", "C64"),
    "07_gemini": ("C26", "C27", "C28", "C29", "C40", "C41"),
    "08_hst": ("C02", "C30", "C31", "C32", "C33", "C34", "C35", "C42"),
    "09_nres": ("C36", "C43", "C45"),
    "10_toolkit": ("C01", "C44", "C46", "C48", "C49", "C58", "C59", "C61"),
    "11_generic_detector": ("C60",),
}
_WHERE = {claim: notebook for notebook, claims in _NOTEBOOKS.items() for claim in claims}


@dataclass(frozen=True)
class Evidence:
    """What the notebooks found, as the ledger reads it.

    Attributes
    ----------
    labeling, dataset, learning, training, ablation, lco, gemini, hst, spectra, toolkit, generic : dict
        ``values`` of the notebooks' ``result.json``.
    scores : list of dict
        Rows of notebooks 06 to 09.
    profile : str
        That they were made with.
    """

    labeling: dict
    dataset: dict
    learning: dict
    training: dict
    ablation: dict
    lco: dict
    gemini: dict
    hst: dict
    spectra: dict
    toolkit: dict
    generic: dict
    scores: list
    profile: str = "laptop"


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
                "interval": found["interval"],
                "our_data": found["data"],
                "command": f"python -m crcore.notebooks run {_WHERE[claim['id']]} {evidence.profile}",
                "verdict": found["verdict"],
                "reason": found["reason"],
            }
        )
    return rows


def ledger_table(rows):
    """The ledger as a `crcore.tables.Table`."""
    return Table(
        "The ledger: each published statement beside what we find, on the data that the row names.",
        (
            "Claim",
            "Where",
            "Statement",
            "Method",
            "Published",
            "Ours",
            "95 % interval",
            "Our data",
            "Notebook",
            "Verdict",
            "Reason",
        ),
        tuple(
            (
                r["id"],
                r["where"],
                r["claim"],
                r["method"],
                f"{r['published']} {r['unit']}".removesuffix(" -"),
                r["ours"],
                r["interval"] or "–",
                r["our_data"],
                _WHERE[r["id"]],
                r["verdict"],
                r["reason"],
            )
            for r in rows
        ),
    )


def summary(rows):
    """How often each verdict was given; a dictionary in the order of `VERDICTS`."""
    return {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}


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
    lco = {camera: s for camera, s in settings.items() if camera.startswith("LCO")}
    steps = [step for s in lco.values() for step in s["sigclips"]]
    objlim = {camera: s["objlim"] for camera, s in lco.items()}
    same = objlim == {"LCO 0.4 m": 0.5, "LCO 1 m": 2.0, "LCO 2 m": 2.0} and {s["sigfrac"] for s in lco.values()} == {
        0.1
    }
    return Finding(
        f"objlim {', '.join(f'{v:g} ({c})' for c, v in objlim.items())}; sigfrac 0.1; "
        f"sigclip {min(steps):g} to {max(steps):g}",
        "LCO, simulated and real",
        "reproduced" if same and (min(steps), max(steps)) == (1, 20) else "not reproduced",
        "The settings as run; tuned ones stand beside them in Table 2.",
    )


_MEASURES = (
    claims_learning.MEASURES
    | claims_judging.MEASURES
    | {
        "C01": _flux,
        "C03": _pixel_ratio,
        "C06": _lost_to_sources,
        "C07": partial(_camera, name="SBIG 6303", published=(29, 29)),
        "C08": partial(_camera, name="Sinistro", published=(26, 26)),
        "C09": partial(_camera, name="Spectral", published=(10, 10)),
        "C10": _months,
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
            reason="A position's precision is read off the model's own curve; the paper's frame is not here.",
        ),
        "C62": _sequences,
        "C63": _rules,
        "C64": _scrappy,
    }
)
