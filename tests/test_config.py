import pytest

from crcore.config import from_mapping, read_yaml
from crcore.errors import InputError
from crcore.profiles import load_profile, profile_names
from crcore.recipe import Recipe


def test_every_profile_reads():
    assert profile_names() == ["laptop", "paper", "smoke"]
    for name in profile_names():
        profile = load_profile(name)
        assert {"Cosmic-CoNN", "deepCR"} <= set(profile.training)


def test_the_paper_profile_has_the_papers_numbers():
    recipe = load_profile("paper").training["Cosmic-CoNN"]
    assert (recipe.stamp_px, recipe.batch, recipe.lr, recipe.alpha_epochs, recipe.network.groups) == (
        1024,
        10,
        1e-3,
        100,
        8,
    )


def test_an_unknown_profile_lists_those_there_are():
    with pytest.raises(InputError, match="laptop, paper, smoke"):
        load_profile("desktop")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"bach": 4}, "did you mean 'batch'"),
        ({"network": {"widht": 8}}, "network: unknown key 'widht'.*'width'"),
        ({"batch": "four"}, "batch = 'four': expected int"),
        ({"batch": True}, "expected int"),
        ({"network": 3}, "network: found 3"),
    ],
)
def test_wrong_settings_are_explained(mapping, message):
    with pytest.raises(InputError, match=message):
        from_mapping(Recipe, mapping, "recipe")


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert from_mapping(Recipe, {"lr": "1e-4"}).lr == 1e-4


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", ""])
def test_files_that_are_no_settings_are_refused(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="x.yaml"):
        read_yaml(path)
