import dataclasses

import pytest

from crcore import InputError, tables_generic
from crcore.leave_one_out import leave_one_out, main
from crcore.simulate.datasets import SimulationConfig, simulate_dataset


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    config = SimulationConfig(
        seed=6,
        shape=(96, 96),
        exposure_s=(600.0, 900.0),
        rate_factor=20.0,
        visits=1,
        labels="truth",
        sequences={"sinistro": (2, 1, 0), "nres": (1, 1, 0)},
    )
    simulate_dataset(folder, config)
    return folder


def test_each_group_is_judged_by_a_network_that_never_saw_it(two_cameras, tiny_recipe, tmp_path):
    recipe = dataclasses.replace(tiny_recipe, epochs=1, validate_every=1)
    groups = {"one": ("sinistro",), "two": ("nres",), "none of these": ("acs_wfc",)}
    said = []
    rows = leave_one_out(recipe, two_cameras, tmp_path, groups=groups, say=said.append)
    assert [(row["left_out"], row["set"]) for row in rows] == [
        ("", "one, simulated"),
        ("", "two, simulated"),
        ("one", "one, simulated"),
        ("two", "two, simulated"),
    ]
    assert all(0 < row["average_precision"] <= 1 and row["cr_pixels"] > 20 for row in rows)
    assert len(said) == 3
    table = tables_generic.left_out_table(rows)
    assert [line[0] for line in table.rows] == ["one, simulated", "two, simulated"]
    assert all("[" in cell for line in table.rows for cell in line[2:])


def test_something_must_be_left_to_train_on(two_cameras, tiny_recipe, tmp_path):
    with pytest.raises(InputError, match="nothing is left"):
        leave_one_out(
            dataclasses.replace(tiny_recipe, epochs=1, validate_every=1),
            two_cameras,
            tmp_path,
            groups={"all": ("sinistro", "nres")},
            say=lambda line: None,
        )


def test_a_folder_without_a_dataset_is_explained(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("network: {width: 8}\n")
    assert main([str(recipe), "-d", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "crcore simulate" in capsys.readouterr().err
