import itertools
import random

import numpy as np
import pytest

from crcore.dataset import assign_splits


def manifest(nights, per_night, *, runs=1, site="coj"):
    """Rows of ``nights`` nights with ``per_night`` sequences each, in ``runs`` runs of visits."""
    return [
        {"site": site, "camera": "fa16", "night": f"2019{100 + n}", "run": f"run{k % runs}", "file": f"{site}{n}-{k}"}
        for n in range(nights)
        for k in range(per_night)
    ]


def split_of(rows):
    assign_splits(rows)
    return {row["file"]: row["split"] for row in rows}


def test_no_night_is_parted():
    rows = manifest(30, 7) + manifest(30, 3, site="lsc")
    assign_splits(rows)
    groups = {}
    for row in rows:
        groups.setdefault((row["site"], row["night"]), set()).add(row["split"])
    assert all(len(splits) == 1 for splits in groups.values())
    assert {s for splits in groups.values() for s in splits} == {"train", "valid", "test"}
    assert {row["split_by"] for row in rows} == {"night"}


@pytest.mark.parametrize("site", ["coj", "lsc", "ogg"])
def test_shares_are_about_right(site):
    rows = manifest(100, 4, site=site)
    assign_splits(rows)
    share = {s: np.mean([row["split"] == s for row in rows]) for s in ("test", "valid", "train")}
    assert share["test"] == pytest.approx(0.2, abs=0.011)
    assert share["valid"] == pytest.approx(0.16, abs=0.011)
    assert share["train"] == pytest.approx(0.64, abs=0.02)
    rows = manifest(100, 4, site=site)
    assign_splits(rows, valid=0.0, test=0.5)
    assert np.mean([row["split"] == "test" for row in rows]) == pytest.approx(0.5, abs=0.011)
    assert not any(row["split"] == "valid" for row in rows)


def test_splits_do_not_depend_on_the_order_of_rows():
    rows = manifest(40, 5)
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    once = split_of([dict(r) for r in rows])
    assert split_of([dict(r) for r in shuffled]) == once
    assert split_of([dict(r) for r in rows]) == once
    by_night = [once[f"coj{n}-0"] for n in range(40)]
    changes = sum(a != b for a, b in itertools.pairwise(by_night))
    assert changes > 5  # no split is one season


@pytest.mark.parametrize("nights", [1, 2])
def test_fewer_than_three_nights_are_parted_by_run(nights):
    rows = manifest(nights, 20, runs=5)
    assign_splits(rows)
    assert {row["split_by"] for row in rows} == {"run"}
    assert {row["split"] for row in rows} == {"train", "valid", "test"}
    groups = {}
    for row in rows:
        groups.setdefault((row["night"], row["run"]), set()).add(row["split"])
    assert all(len(splits) == 1 for splits in groups.values())


def test_what_cannot_be_parted_is_for_training():
    rows = manifest(1, 6, runs=2)
    assign_splits(rows)
    assert {row["split"] for row in rows} == {"train"}


def test_three_nights_give_one_to_each_split():
    rows = manifest(3, 4)
    assign_splits(rows)
    assert sorted({row["night"]: row["split"] for row in rows}.values()) == ["test", "train", "valid"]


def test_what_an_earlier_call_decided_stays_when_nights_are_added():
    rows = manifest(10, 3)
    assign_splits(rows)
    before = {row["file"]: row["split"] for row in rows}
    rows += manifest(10, 3, site="lsc")
    assign_splits(rows)
    assert {row["file"]: row["split"] for row in rows if row["file"] in before} == before
    assert all(row["split"] for row in rows)


def split_rows(nights, runs_a_night, files_a_run=2):
    return [
        {"site": "cpt", "camera": "fa16", "night": f"2019{n:04}", "run": f"{n}-{r}"}
        for n in range(nights)
        for r in range(runs_a_night)
        for _ in range(files_a_run)
    ]


def shares(rows):
    return {s: sum(r["split"] == s for r in rows) / len(rows) for s in ("train", "valid", "test")}


@pytest.mark.parametrize(("nights", "runs", "by"), [(40, 3, "night"), (3, 2, "night"), (2, 30, "run"), (1, 8, "run")])
def test_splits_part_neither_a_night_nor_a_run(nights, runs, by):
    rows = split_rows(nights, runs)
    assign_splits(rows)
    assert {r["split_by"] for r in rows} == {by}
    for group in {r[by] for r in rows}:
        assert len({r["split"] for r in rows if r[by] == group}) == 1
    assert set(shares(rows)) == {r["split"] for r in rows}


def test_splits_have_the_shares_of_the_paper_and_do_not_depend_on_the_order():
    rows = split_rows(100, 2)
    assign_splits(rows)
    assert shares(rows)["test"] == pytest.approx(0.20, abs=0.02)
    assert shares(rows)["valid"] == pytest.approx(0.16, abs=0.02)
    again = split_rows(100, 2)[::-1]
    assign_splits(again)
    assert [r["split"] for r in again[::-1]] == [r["split"] for r in rows]


@pytest.mark.parametrize("runs", [1, 2])
def test_too_few_runs_are_all_for_training(runs):
    rows = split_rows(1, runs)
    assign_splits(rows)
    assert {r["split"] for r in rows} == {"train"}
