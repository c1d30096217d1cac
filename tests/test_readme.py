from crcore.paths import ROOT
from crcore.readme import filled


def test_the_readmes_numbers_are_those_of_the_committed_figures():
    text = (ROOT / "README.md").read_text()
    assert filled(text) == text


def test_links_in_the_documentation_lead_somewhere():
    import re

    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "figures" / "README.md",
    ]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
