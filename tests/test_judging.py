"""From labelled sequences to Table 2 and the ledger."""

import numpy as np
import pytest

from crcore import claims, evaluation, tables
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
    assert pooled["oracle", "all", "labels"].positives == 2 * one.positives
    assert pooled["oracle", "all", "labels"].average_precision() == one.average_precision()


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
        training={"best_dice": {"Cosmic-CoNN": 0.5, "deepCR": 0.6}},
        lco={"astroscrappy": {"objlim": {"0m4": 0.5, "1m0": 2.0, "2m0": 2.0}, "sigfrac": 0.1, "sigclips": [1.0, 20.0]}},
        toolkit={"rays": 4, "rays_per_s_cm2": 0.02, "command_attaches": True, "snippet_runs": False},
        scores=[],
    )
    rows = claims.ledger(evidence)
    assert [r["id"] for r in rows] == [f"C{i:02d}" for i in range(1, 66)]
    verdicts = {r["id"]: r["verdict"] for r in rows}
    assert verdicts["C08"] == "reproduced"
    assert verdicts["C07"] == "not reproduced"
    assert verdicts["C20"] == "not reproduced"
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
