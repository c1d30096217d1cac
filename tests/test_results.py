import numpy as np
import pytest

from crcore import results


def test_atomic_writes_the_file_and_makes_its_folder(tmp_path):
    with results.atomic(tmp_path / "new" / "a.txt") as part:
        assert part.parent == tmp_path / "new"
        part.write_text("whole")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "whole"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_atomic_gives_the_temporary_file_the_same_suffixes(tmp_path):
    with results.atomic(tmp_path / "a.b.fits.fz") as part:
        assert part.name.endswith(".fits.fz")
        part.write_text("")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_leaves_no_half_file_and_keeps_the_old_one_on_an_error(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with results.atomic(path) as part:
            part.write_text("ha")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_file_has_the_permissions_of_any_other_file(tmp_path):
    (tmp_path / "plain").touch()
    with results.atomic(tmp_path / "a") as part:
        part.write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_rows_come_back_with_their_types_and_all_digits(tmp_path):
    rows = [
        {"name": "a, b", "n": 3, "x": 0.1 + 0.2, "y": float(np.float64(1 / 3))},
        {"name": 'with "quotes"', "n": -7, "x": 1e-300, "y": np.inf},
    ]
    results.write_rows(tmp_path / "rows.csv", rows)
    again = results.read_rows(tmp_path / "rows.csv")
    assert again == rows
    assert [type(v) for v in again[0].values()] == [str, int, float, float]


def test_numpy_numbers_in_rows_keep_all_digits(tmp_path):
    results.write_rows(tmp_path / "rows.csv", [{"x": np.float64(1 / 3), "n": np.int64(5)}])
    assert results.read_rows(tmp_path / "rows.csv") == [{"x": 1 / 3, "n": 5}]


def test_text_with_an_underscore_stays_text(tmp_path):
    rows = [{"day": "2018_11"}]
    results.write_rows(tmp_path / "rows.csv", rows)
    assert results.read_rows(tmp_path / "rows.csv") == rows


def test_no_rows_come_back_as_none(tmp_path):
    results.write_rows(tmp_path / "rows.csv", [])
    assert results.read_rows(tmp_path / "rows.csv") == []


def test_rows_with_other_keys_are_refused_and_keep_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    results.write_rows(path, [{"a": 1}])
    with pytest.raises(ValueError, match="b"):
        results.write_rows(path, [{"a": 2}, {"b": 3}])
    assert results.read_rows(path) == [{"a": 1}]


def test_json_comes_back(tmp_path):
    content = {"x": [1, 2.5, None], "name": "a"}
    results.write_json(tmp_path / "a.json", content)
    assert results.read_json(tmp_path / "a.json") == content


def test_provenance_says_how_a_result_was_made():
    card = results.provenance(seed=5, seconds=1.26)
    assert (card["seed"], card["seconds"], card["code"]) == (5, 1.3, results.code_hash())
    assert card["versions"]["numpy"] == np.__version__


def test_a_hash_that_looks_like_a_number_stays_text(tmp_path):
    rows = [{"revision": "400e042", "key": "12345678", "sha256": "1e5", "n": 3}]
    results.write_rows(tmp_path / "rows.csv", rows)
    assert results.read_rows(tmp_path / "rows.csv") == rows
