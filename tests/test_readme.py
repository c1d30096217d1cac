import re
import subprocess

import pytest

from crcore.paths import ROOT
from crcore.readme import filled


def committed(path):
    """A file as it was committed: a run of one's own changes figures/, and may."""
    inside = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    if inside.returncode:
        pytest.skip("no git checkout: committed numbers cannot be compared")
    run = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{path} is not committed"
    return run.stdout


def test_the_readmes_numbers_are_those_of_the_committed_figures(tmp_path):
    (tmp_path / "tables").mkdir()
    for name in ("tables/table2.csv", "run.json"):
        (tmp_path / name).write_text(committed(f"figures/{name}"))
    (tmp_path / "generic_unseen.csv").write_text(committed("data/results/generic_unseen.csv"))
    text = committed("README.md")
    assert filled(text, tmp_path, tmp_path) == text


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"@[A-Z]+@", (ROOT / "README.md").read_text())


def test_links_in_the_documentation_lead_somewhere():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "figures" / "README.md",
    ]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
