"""pyproject.toml, requirements.txt and environment.yml name the same environment."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from crcore.paths import ROOT


def pinned():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pairs), "every line of requirements.txt is a full pin"
    return {canonicalize_name(m[1]): Version(m[2]) for m in pairs}


def direct():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: group for name, group in project["optional-dependencies"].items() if name != "maximask"
    }  # not set up
    lists = [project["dependencies"], *extras.values()]
    return [Requirement(text) for requirements in lists for text in requirements]


def test_every_direct_dependency_is_pinned_within_its_range():
    pins = pinned()
    for requirement in direct():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_torch_is_pinned_to_the_release_with_a_small_cpu_build():
    assert str(pinned()["torch"]) == "2.13.0"


def test_conda_users_get_the_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "-r requirements.txt" in pip
    assert "python=3.11" in environment["dependencies"]


def test_every_direct_dependency_has_its_reason_in_the_documentation():
    text = (ROOT / "docs" / "dependencies.md").read_text().lower()
    missing = [r.name for r in direct() if f"`{r.name.lower()}`" not in text]
    assert not missing
