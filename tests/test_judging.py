"""From labelled sequences to Table 2 and the ledger."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from crcore import claims, evaluation, tables
from crcore.claims_learning import MEASURES
from crcore.detection import Detection
from crcore.release import labelled_files
from crcore.results import read_rows


class Oracle:
    """Knows the labels by looking far above the sky; only for tests."""

    name = "oracle"

    def __call__(self, frame):
        level = frame.data - np.median(frame.data)
        prob = np.clip(level / 1e4, 0, 1).astype(np.float32)
        return Detection(prob, frame.bad.copy(), 0.5, self.name)


class Blind:
    name = "blind"

    def __call__(self, frame):
        return Detection(np.ones(frame.shape, np.float32), np.ones(frame.shape, bool), 0.5, self.name)


@pytest.fixture(scope="module")
def scored(tiny_dataset):
    sets = evaluation.test_sets(labelled_files(tiny_dataset, "test"), "simulated")
    return (*evaluation.evaluate({"oracle": Oracle(), "blind": Blind()}, sets), sets)


def test_sets_are_named_by_class_and_by_what_they_are(scored):
    assert [s.name for s in scored[2]] == ["LCO 1 m, simulated"]


def test_rows_name_their_data_and_yardstick(scored):
    rows = scored[0]
    assert {r["data"] for r in rows} == {"simulated"}
    assert {r["against"] for r in rows} == {"labels", "truth"}
    assert all(r["frames"] == 3 for r in rows)


def test_ignored_pixels_do_not_count(scored, tiny_dataset):
    from crcore.dataset import read_sequence

    sequence = read_sequence(labelled_files(tiny_dataset, "test")[0])
    row = next(r for r in scored[0] if r["against"] == "labels")
    assert row["pixels"] == (sequence.ignore == 0).sum()
    assert row["cr_pixels"] == sequence.cr.sum()


def test_what_was_not_evaluated_is_not_found(scored):
    row = next(r for r in scored[0] if r["detector"] == "blind" and r["against"] == "labels")
    assert row["recall"] == 0


def test_pooling_adds_up(scored):
    one = next(v for (detector, _, against), v in scored[1].items() if (detector, against) == ("oracle", "labels"))
    pooled = evaluation.pool({("oracle", "a", "labels"): one, ("oracle", "b", "labels"): one}, ["a", "b"], "all")
    assert pooled["oracle", "all", "labels"].pixels.positives == 2 * one.pixels.positives
    assert pooled["oracle", "all", "labels"].pixels.average_precision() == one.pixels.average_precision()


def test_curves_start_low_and_end_high(scored):
    rows = [r for r in evaluation.curve_rows(scored[1]) if r["detector"] == "oracle" and r["against"] == "labels"]
    assert rows[-1]["fpr"] == rows[-1]["tpr"] == 1
    assert all(np.diff([r["tpr"] for r in rows]) >= 0)


def test_table_2_puts_published_beside_ours(scored):
    rows = [{**r, "detector": "Astro-SCRAPPY"} for r in scored[0] if r["detector"] == "oracle"]
    table = tables.table2(rows)
    assert len(table.rows) == 1
    assert "95.03%" in table.rows[0]
    texts = table.renderings()
    assert texts["csv"].count("\n") == 2
    assert r"95.03\%" in texts["tex"]
    assert "| 95.03% |" in texts["md"]


def test_percentages_are_never_rounded_up():
    assert tables.format_percent(0.99999) == "99.99%"
    assert tables.format_percent(0.9991) == "99.91%"
    assert tables.format_percent(float("nan")) == "–"


def learning(**bce):
    """What notebook 03 finds, when all goes as in the paper."""
    ratio = {
        "start": 3000.0,
        "start_low": 2000.0,
        "start_high": 4000.0,
        "end": 100.0,
        "end_low": 90.0,
        "end_high": 110.0,
    }
    weighted = {"start": 150.0, "start_low": 90.0, "start_high": 200.0, "end": 7.0, "end_low": 6.0, "end_high": 8.0}
    found = {"first_rays": 0.5, "early_rays": 0.01, "early_sources": 0.01, "early_sky": 0.01}
    found |= {"late_rays": 0.8, "late_sources": 0.7, "late_sky": 0.01} | bce
    return {
        "ratios": {"bce": ratio | {"seeds": 10}, "median_bce": weighted | {"seeds": 10}},
        "bce": found,
        "rate_factor": 2,
    }


SETS = ("LCO, simulated", "Gemini 1x1, simulated", "Gemini 2x2, simulated")


def ablation(stamp=0.1, norm=0.2, error=0.02, **changes):
    """What notebook 05 finds, as JSON gives it back: keys sorted; differences of precision for the grid."""

    def effect(mean):
        return {name: {"mean": mean, "error": error, "seeds": 3} for name in (SETS[0], "unseen less LCO")}

    def precision(*values):
        return dict(zip(SETS, values, strict=True))

    found = {
        "goal": 0.5,
        "epochs": {"Cosmic-CoNN": 8, "Cosmic-CoNN BN": 20, "Cosmic-CoNN 64²": None, "deepCR": 30},
        "precision": {
            "Cosmic-CoNN (retrained)": precision(0.8, 0.7, 0.7),
            "Cosmic-CoNN BN (retrained)": precision(0.7, 0.5, 0.6),
            "Cosmic-CoNN 64² (retrained)": precision(0.9, 0.5, 0.6),
        },
        "near": near(0.5, 0.8),
        "grid": {"stamp_px: 256 - 64": effect(stamp), "norm: group - batch": effect(norm)},
    } | changes
    return json.loads(json.dumps(found, sort_keys=True))


def near(dice_near, dice_far, pixels=500):
    pixels = {"pixels_near": pixels, "pixels_far": 9000}
    return {
        "Cosmic-CoNN": {"near": 0.8, "far": 0.8} | pixels,
        "Cosmic-CoNN Dice": {"near": dice_near, "far": dice_far} | pixels,
    }


def epochs(baseline, bn, deepcr):
    return ablation(epochs={"Cosmic-CoNN": baseline, "Cosmic-CoNN BN": bn, "deepCR": deepcr})


def training(dice=0.6):
    return {"freeze_epoch": {"Cosmic-CoNN BN": 16, "deepCR": 16}, "best_dice": {"Cosmic-CoNN": dice}}


def finding(number, **evidence):
    parts = {"learning": learning(), "ablation": ablation(), "training": training()}
    return MEASURES[number](SimpleNamespace(**(parts | evidence)))


@pytest.mark.parametrize(
    ("number", "evidence", "expected"),
    [
        ("C11", {}, "differs in data"),
        ("C12", {}, "same direction"),
        ("C13", {}, "reproduced"),
        ("C14", {}, "reproduced"),
        ("C15", {}, "reproduced"),
        ("C15", {"learning": learning(early_sources=0.3)}, "not reproduced"),
        ("C15", {"learning": learning(early_sky=0.9)}, "not reproduced"),
        ("C16", {}, "reproduced"),
        ("C16", {"learning": learning(late_sky=0.6)}, "not reproduced"),
        ("C17", {}, "same direction"),
        ("C17", {"ablation": ablation(near=near(0.8, 0.8))}, "not reproduced"),
        ("C17", {"ablation": ablation(near=near(0.0, 0.0))}, "not testable here"),
        ("C17", {"ablation": ablation(near=near(0.5, 0.8, pixels=20))}, "not testable here"),
        ("C16", {"learning": learning(late_sources=0.02)}, "not reproduced"),
        ("C18", {}, "same direction"),
        ("C18", {"ablation": ablation(stamp=-0.1)}, "not reproduced"),
        ("C18", {"ablation": ablation(stamp=0.01)}, "not testable here"),
        ("C19", {}, "same direction"),
        ("C19", {"ablation": ablation(norm=-0.2)}, "not reproduced"),
        ("C20", {}, "same direction"),
        (
            "C20",
            {"ablation": epochs(8, 20, 10)},
            "not reproduced",
        ),
        (
            "C20",
            {"ablation": epochs(20, 28, 30)},
            "not reproduced",
        ),
        (
            "C20",
            {"ablation": epochs(8, 20, None)},
            "not testable here",
        ),
        ("C51", {"training": training(dice=0.1)}, "not testable here"),
        ("C50", {}, "differs in data"),
        ("C51", {}, "same direction"),
        ("C53", {}, "same direction"),
        ("C55", {}, "same direction"),
        ("C57", {}, "not reproduced"),
        ("C65", {}, "differs in data"),
    ],
)
def test_verdicts_follow_from_the_numbers(number, evidence, expected):
    assert finding(number, **evidence).verdict == expected


def test_precisions_are_printed_in_the_papers_order():
    assert finding("C55").ours == "70.00% / 50.00% / 60.00%"
    assert "LCO -10.0, Gemini 1x1 -20.0, Gemini 2x2 -10.0" in finding("C55").reason


def test_what_was_not_measured_is_said():
    parts = SimpleNamespace(ablation=ablation(grid={}, near={}), training={})
    assert MEASURES["C17"](parts) is MEASURES["C18"](parts) is MEASURES["C19"](parts) is None
    assert MEASURES["C52"](parts) is None


def test_the_ledger_has_all_claims_and_no_others():
    evidence = claims.Evidence(
        labeling={
            "config": {"seed_score": 5.0, "dilation_px": 5, "grow_score": 2.5, "min_pixels": 2, "border_px": 20},
            "sequences": 3,
            "min_exposure_s": 900.0,
        },
        dataset={
            "pixels_per_cr_pixel": 9000,
            "lost_share": 0.02,
            "months": 9,
            "rate_factor": 2,
            "cameras": {
                "SBIG 6303": [0.571, 29.2, 19.5, 9],
                "Sinistro": [0.389, 26.6, 26.6, 21],
                "Spectral": [0.3, 10.2, 10.2, 18],
            },
        },
        learning=learning(),
        training={
            "best_dice": {"Cosmic-CoNN": 0.5, "deepCR": 0.6},
            "freeze_epoch": {"Cosmic-CoNN BN": 16, "deepCR": 16},
        },
        ablation=ablation(),
        lco={"astroscrappy": {"objlim": {"0m4": 0.5, "1m0": 2.0, "2m0": 2.0}, "sigfrac": 0.1, "sigclips": [1.0, 20.0]}},
        toolkit={"rays": 4, "rays_per_s_cm2": 0.02, "command_attaches": True, "snippet_runs": False},
        scores=[],
    )
    rows = claims.ledger(evidence)
    assert [r["id"] for r in rows] == [f"C{i:02d}" for i in range(1, 66)]
    verdicts = {r["id"]: r["verdict"] for r in rows}
    assert verdicts["C08"] == "reproduced"
    assert verdicts["C07"] == "not reproduced"
    assert verdicts["C20"] == "same direction"
    assert verdicts["C48"] == "reproduced"
    assert verdicts["C58"] == "not reproduced"
    assert verdicts["C63"] == "differs in data"
    assert verdicts["C25"] == "not testable here"
    assert verdicts["C64"] == "reproduced"
    assert verdicts["C01"] == "not reproduced"
    assert rows[0]["published"] == "0.00001"
    assert sum(claims.summary(rows).values()) == 65


def test_published_numbers_in_table_2_are_those_of_the_claims():
    published = {r["id"]: str(r["published"]) for r in read_rows(claims.CLAIMS)}
    for claim, key in (
        ("C21", ("Astro-SCRAPPY", "LCO 0.4 m")),
        ("C22", ("Astro-SCRAPPY", "LCO 1 m")),
        ("C23", ("Astro-SCRAPPY", "LCO 2 m")),
        ("C24", ("deepCR", "LCO")),
        ("C25", ("Cosmic-CoNN", "LCO")),
    ):
        numbers = [n for n in published[claim].replace(";", " /").split(" / ") if n]
        ours = [n.rstrip("%") for n in tables.PUBLISHED_LCO[key] if n != "–"]
        assert [float(n) for n in numbers] == [float(n) for n in ours]


def test_the_stamp_with_most_wrong_pixels_is_shown(tiny_dataset):
    from crcore.dataset import read_sequence

    sets = evaluation.test_sets(labelled_files(tiny_dataset, "test"), "simulated")
    kept = {}
    evaluation.evaluate({"oracle": Oracle(), "blind": Blind()}, sets, keep=kept)
    sequence = read_sequence(sets[0].paths[0])
    (panel,) = evaluation.discrepancy_panels(kept, sets, size=40)
    assert panel["image"].shape == (40, 40)
    assert not panel["masks"]["blind"].any()
    oracle = Oracle()(sequence.frame(0)).mask
    wrong = (oracle != (sequence.cr[0] > 0)) & (sequence.ignore[0] == 0)
    wrong = wrong.astype(int) + ((sequence.cr[0] > 0) & (sequence.ignore[0] == 0))  # those that the blind one misses
    sums = np.lib.stride_tricks.sliding_window_view(wrong, (40, 40)).sum(axis=(2, 3))
    here = ((panel["masks"]["oracle"] != panel["truth"]) & panel["use"]).sum() + (panel["truth"] & panel["use"]).sum()
    assert here == sums.max()
