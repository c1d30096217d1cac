"""From labelled sequences to Table 2 and the ledger."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest

from crcore import claims, contenders, evaluation, judging, tables
from crcore.claims_learning import MEASURES
from crcore.dataset import read_sequence
from crcore.detection import Detection
from crcore.labeling import LabelingConfig
from crcore.release import labelled_files
from crcore.results import read_rows
from crcore.simulate.datasets import SimulationConfig


class Oracle:
    """Knows the labels by looking far above the sky; only for tests."""

    name = "oracle"

    def __call__(self, frame):
        level = frame.data - np.median(frame.data)
        prob = np.clip(level / 1e4, 0, 1).astype(np.float32)
        return Detection(prob, frame.bad.copy(), 0.5, self.name)


class Bold(Oracle):
    """Flags all that is 300 electrons above the sky."""

    def __call__(self, frame):
        level = frame.data - np.median(frame.data)
        return Detection(np.clip(level / 600, 0, 1).astype(np.float32), frame.bad.copy(), 0.5, self.name)


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


def score(detector, where, value, low, high):
    row = {"detector": detector, "set": where, "against": "labels", "frames": 9}
    for name in ("tpr_at_0.01%", "tpr_at_0.1%", "precision_at_95%", "precision_at_99%"):
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def kinds(worms):
    return {
        "worms": worms,
        "n_worms": 40,
        "faint": 0.5,
        "n_faint": 2,
        "tracks": 1.0,
        "n_tracks": 9,
        "bright": 1.0,
        "n_bright": 9,
    }


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
        lco={
            "astroscrappy": {
                f"LCO {c}": {"objlim": objlim, "sigfrac": 0.1, "sigclips": [1.0, 20.0], "background": False}
                for c, objlim in (("0.4 m", 0.5), ("1 m", 2.0), ("2 m", 2.0))
            },
            "by_kind": {},
            "seconds_2k": {"Cosmic-CoNN (released)": 12.0, "generic": 0.4},
        },
        gemini={
            "by_kind": {
                name: kinds(worms)
                for name, worms in (("ground_imaging", 0.8), ("deepCR_ground_imaging", 0.2), ("Astro-SCRAPPY", 0.1))
            }
        },
        hst={"rays_per_s_cm2": 0.9},
        spectra={"seconds_4k": {}},
        generic={"own_camera": {"generic": 0.99, "generic, fine-tuned": 0.97}},
        toolkit={"rays": 4, "rays_per_s_cm2": 0.02, "command_attaches": True, "snippet_runs": False},
        scores=[
            score("ground_imaging", "LCO, simulated", 0.9980, low=0.995, high=0.999),
            score("deepCR_ground_imaging", "LCO, simulated", 0.96, low=0.95, high=0.97),
            score("HST_ACS_WFC", "HST resolved galaxy, simulated", 0.61, low=0.58, high=0.64),
            score("deepCR_HST_ACS_WFC", "HST resolved galaxy, simulated", 0.60, low=0.57, high=0.63),
        ],
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
    assert verdicts["C25"] == "differs in data"  # its precision is six points off
    assert verdicts["C26"] == "not testable here"  # nobody was judged on Gemini
    assert verdicts["C37"] == "reproduced"  # 3.8 points, published 4, intervals apart
    assert verdicts["C38"] == "same direction"  # 3.8 points, published 11
    assert verdicts["C42"] == "not testable here"  # a point, within the scatter of frames
    assert verdicts["C39"] == "not testable here"  # two faint pixels
    assert verdicts["C41"] == "reproduced"
    assert verdicts["C46"] == "reproduced"
    assert verdicts["C44"] == "not measured yet"
    assert verdicts["C60"] == "not reproduced"
    by_id = {r["id"]: r for r in rows}
    assert by_id["C25"]["interval"] == "99.5–99.9 / 99.5–99.9 / 99.5–99.9"
    assert by_id["C25"]["command"] == "python -m crcore.notebooks run 06_lco laptop"
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
        ("C26", ("deepCR", "Gemini 1x1")),
        ("C27", ("Cosmic-CoNN", "Gemini 1x1")),
        ("C28", ("deepCR", "Gemini 2x2")),
        ("C29", ("Cosmic-CoNN", "Gemini 2x2")),
        ("C30", ("deepCR", "HST extragalactic")),
        ("C31", ("Cosmic-CoNN", "HST extragalactic")),
        ("C32", ("deepCR", "HST globular cluster")),
        ("C33", ("Cosmic-CoNN", "HST globular cluster")),
        ("C34", ("deepCR", "HST resolved galaxy")),
        ("C35", ("Cosmic-CoNN", "HST resolved galaxy")),
        ("C36", ("Cosmic-CoNN", "LCO NRES")),
    ):
        numbers = [n for n in published[claim].replace(";", " /").split(" / ") if n]
        ours = [n.rstrip("%") for n in tables.PUBLISHED_TABLE2[key] if n != "–"]
        assert [float(n) for n in numbers] == [float(n) for n in ours]


def test_the_stamp_with_most_wrong_pixels_is_shown(tiny_dataset):
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


def test_scores_are_kept_by_content(tiny_dataset, tmp_path):
    class Counted(Bold):
        identity, calls = ("counted", 1), 0

        def __call__(self, frame):
            type(self).calls += 1
            return super().__call__(frame)

    sets = evaluation.test_sets(labelled_files(tiny_dataset, "test"), "simulated")
    first, scores = evaluation.evaluate({"counted": Counted()}, sets, cache=tmp_path, rng=np.random.default_rng(1))
    calls, kept = Counted.calls, {}
    again, same = evaluation.evaluate(
        {"counted": Counted()}, sets, cache=tmp_path, rng=np.random.default_rng(1), keep=kept
    )
    assert Counted.calls == calls > 0
    assert first == again
    assert kept[sets[0].paths[0]]["counted"].any()
    Counted.identity = ("counted", 2)  # another setting is another detector
    evaluation.evaluate({"counted": Counted()}, sets, cache=tmp_path)
    assert Counted.calls == 2 * calls


def test_rows_have_intervals_rays_and_frames(scored, tiny_dataset):
    sets = evaluation.test_sets(labelled_files(tiny_dataset, "test"), "simulated")
    rows, scores = evaluation.evaluate({"oracle": Bold()}, sets, rng=np.random.default_rng(1))
    row = next(r for r in rows if r["against"] == "labels")
    assert row["average_precision_low"] <= row["average_precision"] <= row["average_precision_high"]
    assert 0 < row["completeness"] <= row["completeness_halo"] <= 1
    assert row["seconds_per_mpixel"] > 0
    assert len(scores["oracle", sets[0].name, "labels"].frames) == row["frames"] == 3
    pooled = scores["oracle", sets[0].name, "labels"].pixels
    assert pooled.positives == row["cr_pixels"]


def test_faint_and_bright_pixels_are_told_apart(tiny_dataset):
    sets = evaluation.test_sets(labelled_files(tiny_dataset, "train"), "simulated")
    kept = {}
    evaluation.evaluate({"bold": Bold(), "blind": Blind()}, sets, keep=kept)
    found = judging.recall_by_kind(kept, sets)
    labelled = sum(int(((s.cr[0] > 0) & s.judged(0)).sum()) for s in map(read_sequence, sets[0].paths))
    assert found["bold"]["n_faint"] + found["bold"]["n_bright"] == labelled
    assert found["bold"]["n_faint"] > 0
    assert found["blind"]["bright"] == 0
    assert found["bold"]["faint"] < found["bold"]["bright"]


def test_a_set_for_each_kind_of_field_and_frames_to_tune_on(tmp_path):
    config = SimulationConfig(shape=(96, 96), exposure_s=(300.0, 301.0), sequences={"acs_wfc": [0, 1, 1]})
    sets, tuning = judging.simulated_sets(tmp_path, config, LabelingConfig(border_px=8), fields=("galaxies", "cluster"))
    assert [s.name for s in sets] == ["HST extragalactic, simulated", "HST globular cluster, simulated"]
    assert [read_sequence(s.paths[0]).headers[0]["FIELD"] for s in sets] == ["galaxies", "cluster"]
    assert len(tuning) == 2
    assert not set(tuning) & {path for s in sets for path in s.paths}


def test_scrappy_is_tuned_for_each_camera(tiny_dataset):
    pytest.importorskip("astroscrappy")
    paths = labelled_files(tiny_dataset, "valid")
    tuned = contenders.tuned_scrappy(paths, (2.0, 5.0), side_px=64, steps=2)
    sequence = read_sequence(paths[0])
    camera = evaluation.camera_of(sequence.headers[0])
    assert set(tuned.settings) == {camera, "other"}
    assert tuned.settings[camera]["objlim"] in contenders.OBJLIMS
    assert tuned(sequence.frame(0)).prob.shape == sequence.data[0].shape
    paper = contenders.paper_scrappy((2.0, 5.0))
    assert {c: s["objlim"] for c, s in paper.settings.items()} == {
        "LCO 0.4 m": 0.5,
        "LCO 1 m": 2.0,
        "LCO 2 m": 2.0,
        "other": 2.0,
    }


def test_a_rival_that_is_not_there_is_a_named_gap():
    pytest.importorskip("astroscrappy")
    found, missing = contenders.contenders(["generic"], "lco", sigclips=(2.0, 5.0), every=True)
    assert "generic" in found
    if importlib.util.find_spec("maximask_and_maxitrack") is None:
        assert "crcore[maximask]" in missing["MaxiMask (released)"]
    assert set(found) | set(missing) == {
        "generic", "Cosmic-CoNN (released)", "deepCR (released)", "Astro-SCRAPPY", "deepCR WFC3 (released)",
        "deepCR DECam (released)", "MaxiMask (released)", "lacosmic", "dfcosmic",
    }  # fmt: skip


def test_a_lead_within_the_scatter_of_frames_decides_nothing():
    from crcore.claims_judging import MEASURES as JUDGED

    pair = [
        score("ground_imaging", "LCO, simulated", 0.84, low=0.82, high=0.87),
        score("deepCR_ground_imaging", "LCO, simulated", 0.80, low=0.77, high=0.86),
    ]
    evidence = SimpleNamespace(scores=pair)
    assert JUDGED["C37"](evidence).verdict == "not testable here"
    pair[1] |= {"precision_at_95%": float("nan")}
    assert JUDGED["C37"](evidence).verdict == "not testable here"
    assert JUDGED["C24"](evidence).verdict == "not testable here"  # a score that is no number is no score


def test_the_authors_network_on_real_frames_decides_its_own_claim():
    from crcore.claims_judging import MEASURES as JUDGED

    real = score("Cosmic-CoNN (released)", "LCO 0.4 m, real", 0.9985, low=0.99, high=1.0)
    assert JUDGED["C25"](SimpleNamespace(scores=[real])).verdict == "not reproduced"  # its precision is 6 points off
    real["precision_at_95%"] = 0.93
    assert JUDGED["C25"](SimpleNamespace(scores=[real])).verdict == "reproduced"


def test_a_share_within_its_scatter_decides_nothing():
    from crcore.claims_judging import MEASURES as JUDGED

    found = {name: kinds(worms) for name, worms in (("ground_imaging", 0.5), ("deepCR_ground_imaging", 0.49))}
    finding_ = JUDGED["C41"](SimpleNamespace(gemini={"by_kind": found}))
    assert finding_.verdict == "not testable here"
    assert "not there: deepCR (released), Astro-SCRAPPY" in finding_.reason
