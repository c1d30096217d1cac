"""The smoke profile of all notebooks, through the same driver as ./run_all.sh; and their style."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

from crcore import notebooks
from crcore.notebooks import execute, notebook_names
from crcore.paths import NOTEBOOKS, ROOT, Build
from crcore.results import read_json, read_rows

BUILD = Build("smoke")


def run_all(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "CRCORE_DATA"}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )


@pytest.fixture(scope="module")
def smoke():
    done = run_all("smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(params=notebook_names())
def notebook(request):
    return nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_a_notebook_has_one_parameters_cell_and_no_outputs(notebook):
    tags = [c.metadata.get("tags", []) for c in code_cells(notebook)]
    assert sum("parameters" in t for t in tags) == 1
    assert not any(c.outputs or c.execution_count for c in code_cells(notebook))


def test_a_notebook_is_thin_and_ends_with_an_exercise(notebook):
    lines = [
        line for c in code_cells(notebook) for line in c.source.splitlines() if line.strip() and line.strip()[0] != "#"
    ]
    assert len(lines) <= 80
    prose = " ".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert "**Exercise.**" in prose
    assert len(prose.split()) > 2 * len(lines)


def test_the_smoke_profile_runs_every_notebook(smoke):
    for name in notebook_names():
        result = read_json(BUILD.results / name / "result.json")
        assert result["profile"] == "smoke"
        assert result["made"]["versions"]["torch"]
        assert (BUILD.notebooks / f"{name}.ipynb").exists()
        for product in result["products"]:
            path = BUILD.figures / product["file"]
            if path.suffix == ".png":
                assert path.stat().st_size > 5000  # more than an empty canvas
            else:
                assert path.read_text().count("\n| ") >= 3  # a head, its rule, and at least one row
            assert product["data"]


def test_every_score_names_its_data(smoke):
    rows = read_rows(BUILD.results / "06_lco" / "scores.csv")
    assert {r["data"] for r in rows} == {"simulated"}
    assert {"Astro-SCRAPPY", "Cosmic-CoNN (released)", "deepCR (released)", "ground_imaging"} <= {
        r["detector"] for r in rows
    }


def test_the_released_network_does_its_work_on_simulated_frames(smoke):
    rows = read_rows(BUILD.results / "06_lco" / "scores.csv")
    released = next(
        r
        for r in rows
        if r["detector"] == "Cosmic-CoNN (released)" and r["set"] == "LCO, simulated" and r["against"] == "labels"
    )
    assert released["tpr_at_0.01%"] > 0.85


def test_a_second_run_does_nothing(smoke):
    before = {n: (BUILD.notebooks / f"{n}.ipynb").stat().st_mtime_ns for n in notebook_names()}
    again = run_all("smoke")
    assert again.returncode == 0
    assert "started" not in again.stdout
    assert {n: (BUILD.notebooks / f"{n}.ipynb").stat().st_mtime_ns for n in notebook_names()} == before


def test_an_unknown_profile_is_one_line_and_status_2():
    done = run_all("desktop")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("crcore: profile 'desktop' is unknown")


def test_a_failing_notebook_is_one_line_with_its_copy(tmp_path, monkeypatch, capfd):
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('the sky fell\\nhere')")])
    broken.metadata.update(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    nbformat.write(broken, tmp_path / "99_broken.ipynb")
    monkeypatch.setattr("crcore.notebooks.NOTEBOOKS", tmp_path)
    monkeypatch.setattr("crcore.paths.ROOT", tmp_path)
    monkeypatch.setattr(Build, "root", property(lambda self: tmp_path / "build"))
    assert execute("99_broken", "smoke") == 1
    said = capfd.readouterr().err
    error = [line for line in said.splitlines() if "the sky fell" in line]  # a kernel that is stopped may write, too
    assert len(error) == 1
    assert "99_broken: FAILED: ValueError: the sky fell" in error[0]
    assert said.count("ValueError") == 1
    assert (tmp_path / "build" / "notebooks" / "99_broken.failed.ipynb").exists()
    assert not (tmp_path / "build" / "notebooks" / "99_broken.ipynb").exists()


def test_the_summary_names_what_failed_and_what_is_gone(tmp_path, monkeypatch, capsys):
    from crcore.results import write_json

    monkeypatch.setattr(Build, "root", property(lambda self: tmp_path))
    monkeypatch.setattr(notebooks, "notebook_names", lambda: ["01_a", "02_b", "03_c"])
    for name, figure in (("01_a", "one.png"), ("02_b", "lost.png")):
        made = {"seconds": 2.0, "revision": "x"}
        write_json(
            tmp_path / "results" / name / "result.json",
            {"made": made, "products": [{"file": figure, "shows": "a thing", "data": "simulated"}]},
        )
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("{}")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "one.png").write_bytes(b"png")
    assert notebooks.finish("smoke") == 1
    said = capsys.readouterr()
    assert "1 of 3 notebooks stand" in said.out
    assert "lost.png is gone" in said.err
    assert "03_c: not run" in said.err
    assert not (tmp_path / "figures" / "README.md").exists()
    (tmp_path / "figures" / "lost.png").write_bytes(b"png")
    monkeypatch.setattr(notebooks, "notebook_names", lambda: ["01_a", "02_b"])
    assert notebooks.finish("smoke") == 0
    assert "![one](one.png)" in (tmp_path / "figures" / "README.md").read_text()


def test_a_table_is_published_where_its_index_points(tmp_path):
    made = tmp_path / "made" / "tables"
    made.mkdir(parents=True)
    for suffix in ("md", "csv", "tex"):
        (made / f"one.{suffix}").write_text(suffix)
    products = [{"file": "tables/one.md", "shows": "a thing", "data": "simulated", "notebook": "n", "revision": "x"}]
    public = tmp_path / "public"
    notebooks._publish(tmp_path / "made", public, products)
    notebooks._write_index(public / "README.md", products, "laptop")
    links = re.findall(r"\]\(([^)]+)\)", (public / "README.md").read_text())
    assert sorted(links) == ["tables/one.csv", "tables/one.md", "tables/one.tex"]
    assert all((public / link).exists() for link in links)


def test_the_index_keeps_what_an_earlier_run_made_and_is_still_there(tmp_path):
    for name in ("real", "gone", "again"):
        (tmp_path / f"{name}.png").write_bytes(b"png")
    made = {"shows": "a thing", "data": "real", "notebook": "n", "revision": "first"}
    notebooks._write_index(
        tmp_path / "README.md", [{**made, "file": f"{n}.png"} for n in ("real", "gone", "again")], "x"
    )
    (tmp_path / "gone.png").unlink()
    for _ in range(2):
        notebooks._write_index(tmp_path / "README.md", [{**made, "file": "again.png", "revision": "second"}], "x")
    text = (tmp_path / "README.md").read_text()
    assert (text.count("## real\n"), text.count("## gone\n"), text.count("## again\n")) == (1, 0, 1)
    assert text.count("Revision: first.") == 1
    assert text.count("Revision: second.") == 1


def test_every_variant_of_table_3_has_its_precisions(smoke):
    rows = read_rows(BUILD.results / "05_ablation" / "scores.csv")
    names = {row["curve"] for row in read_rows(BUILD.results / "04_training" / "curves.csv")}
    assert {row["detector"] for row in rows} == {f"{name} (retrained)" for name in names}
    cells = [
        line.split("|")[1:-1]
        for line in (BUILD.figures / "tables" / "table3.md").read_text().splitlines()
        if "|" in line
    ][2:]
    assert len(cells) == len(names)
    assert all("%" in row[k] for row in cells for k in (4, 6, 8))
