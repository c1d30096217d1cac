"""From labelled sequences to scores and Table 2."""

import numpy as np
import pytest

from crcore import evaluation, judging, tables, tables_generic
from crcore.dataset import read_sequence
from crcore.detection import Detection
from crcore.release import labelled_files


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


def test_seconds_are_given_for_both_kinds_of_frames(monkeypatch):
    seen = []

    def few(models, domain, **options):
        seen.append((*models, domain))
        return {name: Oracle() for name in (*models, "Cosmic-CoNN (released)", "Astro-SCRAPPY")}, {}

    monkeypatch.setattr(judging, "contenders", few)
    seconds = judging.seconds_by_camera(most_px=64)
    assert {where: list(taken) for where, taken in seconds.items()} == {
        "sinistro 64": ["generic", "ground_imaging", "Cosmic-CoNN (released)", "Astro-SCRAPPY"],
        "nres 64": ["generic", "NRES", "Cosmic-CoNN (released)"],
    }
    assert all(0 <= value < 1 for taken in seconds.values() for value in taken.values())
    assert seen == [("generic", "ground_imaging", "lco"), ("generic", "NRES", "spectra")]


def test_what_mattered_shows_a_dash_where_there_was_no_real_frame():
    rows = [
        {"variant": "as it is", "parameters": 117, "simulated": 0.9512},
        {
            **{"variant": "half", "parameters": 30, "simulated": 0.9, "harmed": "3.1 of 5410"},
            **{name: "0.900 [0.880, 0.910] (R 0.80, P 0.90)" for name in ("lowell", "lco", "slit")},
        },
    ]
    first, second = tables_generic.variants_table(rows).rows
    assert first == ("as it is", "117", "0.951", "–", "–", "–", "–")
    assert second[3] == "0.900 [0.880, 0.910]"
    assert second[-1] == "3.1"


def test_real_frames_that_no_network_saw_keep_their_intervals():
    rows = [
        {
            "detector": "generic",
            "lowell": "0.943 [0.937, 0.949] (R 0.79, P 0.97)",
            "gmos rays": "0.998 [0.997, 0.999] (R 0.98, P 0.99)",
            "harmed": "5.5 of 5410",
            "seconds_per_mpixel": 0.09,
        }
    ]
    table = tables_generic.real_frames_table(rows)
    assert table.columns[1:3] == ("Lowell, real", "GMOS rays in real skies")
    assert table.rows == (("generic", "0.943 [0.937, 0.949]", "0.998 [0.997, 0.999]", "5.5"),)


def test_a_fast_detector_is_timed_after_a_call_that_warms_it_up(monkeypatch):
    clock = iter([0.0, 5.0, 5.0, 5.1, 6.0, 6.3, 7.0, 7.2, 10.0, 17.0])
    monkeypatch.setattr(judging.time, "perf_counter", lambda: next(clock))
    calls = []
    taken = judging.seconds_on({"fast": calls.append, "slow": calls.append}, "frame")
    assert taken == pytest.approx({"fast": 0.2, "slow": 7.0})
    assert len(calls) == 5


def test_the_most_sparing_other_detector_is_named_width_by_width():
    def row(detector, width, harmed, difference=("", "", ""), low=1.0, high=2.0):
        keys = ("first_less_this", "difference_low", "difference_high")
        found = {"fwhm_px": width, "recall": 0.9, "detector": detector, "threshold": 0.5, "stars": 1000}
        found |= {"harmed": harmed, "per_1000": float(harmed), "low": low, "high": high}
        return found | dict(zip(keys, difference, strict=True))

    rows = [
        *(row("generic", 1.5, 4), row("a", 1.5, 9, (-5.0, -7.0, -3.0)), row("b", 1.5, 6, (-2.0, -4.0, 1.0))),
        *(row("generic", 2.0, 1), row("b", 2.0, 3, (-2.0, "", ""), low="", high="")),
        row("generic", 3.0, 0),  # nobody else finds as much
        row("b", 5.0, 0, (0.0, 0.0, 0.0)),
    ]
    assert tables_generic.harm_table(rows).rows == (
        ("1.5", "90%", "4.0 [1.0, 2.0]", "6.0 [1.0, 2.0]", "b", "-2.0 [-4.0, +1.0]"),
        ("2", "90%", "1.0 [1.0, 2.0]", "3.0", "b", "-2.0"),
    )


def test_the_best_other_detector_is_named_set_by_set():
    def row(detector, score, less="", low="", high=""):
        return {
            "set": "LCO 1 m, simulated", "against": "truth", "frames": 24, "detector": detector,
            "average_precision": score, "low": score - 0.002, "high": score + 0.001,
            "first_less_this": less, "difference_low": low, "difference_high": high,
        }  # fmt: skip

    rows = [row("a", 0.98, 0.01, 0.004, 0.02), row("b", 0.985, 0.005, -0.001, 0.011), row("generic", 0.99)]
    table = tables_generic.simulated_sets_table(rows)
    assert table.columns[3] == "generic"
    assert table.rows == (
        ("LCO 1 m, simulated", "truth", "24", "0.9900 [0.9880, 0.9910]", "0.9850 [0.9830, 0.9860]", "b",
         "+0.0050 [-0.0010, +0.0110]"),
    )  # fmt: skip
