import numpy as np
import pytest

from crcore import ablation, zoo
from crcore.ablation import Grid, effects, epochs_to, goal_dice, recall_by_distance, run_grid, summarise, variant
from crcore.dataset import read_sequence
from crcore.errors import InputError
from crcore.labeling import LabelingConfig
from crcore.labelled import SOURCE
from crcore.networks import NetworkConfig, build
from crcore.recipe import Recipe
from crcore.release import labelled_files
from crcore.simulate.datasets import SimulationConfig

RECIPE = Recipe(
    network=NetworkConfig(width=8), stamp_px=32, batch=2, epochs=5, samples_per_epoch=4, alpha_epochs=1, bf16=False
)


def test_variants_see_as_many_pixels():
    small = variant(RECIPE, {"stamp_px": 16})
    assert (small.batch, small.samples_per_epoch) == (8, 16)
    assert small.samples_per_epoch * small.stamp_px**2 == RECIPE.samples_per_epoch * RECIPE.stamp_px**2


def test_batch_normalisation_comes_in_two_phases():
    assert variant(RECIPE, {"norm": "batch"}).freeze_epoch == 2
    assert variant(RECIPE, {"norm": "group"}) == RECIPE


def test_a_grid_has_all_combinations():
    grid = Grid(SimulationConfig(), recipe=RECIPE, factors={"norm": ["group", "batch"], "loss": ["bce", "dice"]})
    found = [(r.network.norm, r.loss) for _, r in grid.variants()]
    assert found == [("group", "bce"), ("group", "dice"), ("batch", "bce"), ("batch", "dice")]


def test_goal_is_the_papers_where_it_is_reached():
    assert goal_dice([{"dice": 0.9}, {"dice": 0.95}]) == 0.85
    assert goal_dice([{"dice": 0.4}, {"dice": 0.5}]) == pytest.approx(0.45)


def test_epochs_are_counted_to_the_first_above_the_goal():
    log = [{"epoch": 2, "dice": 0.3}, {"epoch": 4, "dice": 0.6}, {"epoch": 6, "dice": 0.5}]
    assert epochs_to(log, 0.45) == 4
    assert epochs_to(log, 0.7) is None


def grid_rows():
    """Group is 0.1 above batch on LCO and 0.3 on Gemini; tiles of 64 cost group 0.05."""
    rows = []
    for seed in (1, 2, 3):
        for norm in ("group", "batch"):
            for tile in (64, 1024):
                for where, lead in (("LCO", 0.1), ("Gemini", 0.3)):
                    value = 0.5 + seed / 100 + (norm == "group") * (lead - 0.05 * (tile == 64))
                    row = {"stamp_px": 256, "norm": norm, "loss": "bce", "seed": seed, "tile_px": tile, "set": where}
                    rows.append(row | {"precision_at_95%": value})
    return rows


def test_effects_are_differences_of_runs_that_agree_in_all_else():
    found = effects([*grid_rows(), *[r | {"stamp_px": 64, "loss": "dice"} for r in grid_rows()]])
    norm = found["norm: group - batch"]
    assert norm["LCO"] == pytest.approx({"mean": 0.1, "error": 0.0, "seeds": 3})
    assert norm["Gemini"]["mean"] == pytest.approx(0.3)
    assert norm["unseen less LCO"]["mean"] == pytest.approx(0.2)
    assert found["tile_px: 1024 - 64"]["LCO"]["mean"] == pytest.approx(0.025)


def test_error_of_an_effect_is_students_over_seeds():
    rows = [
        r | {"precision_at_95%": r["precision_at_95%"] + 0.01 * r["seed"] * (r["norm"] == "group")} for r in grid_rows()
    ]
    effect = effects(rows)["norm: group - batch"]["LCO"]
    assert effect["mean"] == pytest.approx(0.12)
    assert effect["error"] == pytest.approx(4.303 * 0.01 / np.sqrt(3), rel=1e-3)


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ({"nrm": [1]}, "'nrm' is no setting"),
        ({"norm": "group"}, "a list of values"),
        ({"stamp_px": [64]}, "equal pixels"),
    ],
)
def test_factors_that_cannot_be_are_refused(factors, said):
    with pytest.raises(InputError, match=said):
        Grid(SimulationConfig(), factors=factors)


def test_summary_is_mean_and_range_over_seeds():
    row = next(
        r for r in summarise(grid_rows(), ("norm", "tile_px", "set"), "precision_at_95%") if r["norm"] == "batch"
    )
    assert (row["mean"], row["low"], row["high"], row["n"]) == (pytest.approx(0.52), 0.51, 0.53, 3)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    simulation = SimulationConfig(
        seed=7, shape=(96, 96), rate_factor=30.0, crossings=False,
        sequences={"sinistro": (1, 1, 1), "gmosn_1x1": (0, 0, 1)},
    )  # fmt: skip
    grid = Grid(
        simulation, LabelingConfig(border_px=8), RECIPE, {"norm": ["group", "batch"]}, seeds=1, tiles_px=(32, 96)
    )
    said = []
    return folder, grid, run_grid(grid, folder, workers=1, say=said.append), said


def test_every_run_is_scored_on_every_set_in_every_tile(ran):
    _, _, rows, said = ran
    assert len(said) == 2
    found = {(r["norm"], r["tile_px"], r["set"]) for r in rows}
    sets = {"LCO, simulated", "gmosn_1x1, simulated"}
    assert found == {(n, t, s) for n in ("group", "batch") for t in (32, 96) for s in sets}
    assert all(np.isfinite(r["average_precision"]) and r["seed"] == 1 and r["seconds"] > 0 for r in rows)


def test_batch_normalisation_does_not_depend_on_the_tile(ran):
    scores = {(r["tile_px"], r["set"]): r["average_precision"] for r in ran[2] if r["norm"] == "batch"}
    assert scores[32, "LCO, simulated"] == pytest.approx(scores[96, "LCO, simulated"], rel=1e-3)


def test_finished_runs_are_kept(ran, monkeypatch):
    folder, grid, rows, _ = ran
    monkeypatch.setattr(ablation, "train", None)  # would fail if it were called
    again = run_grid(grid, folder, workers=1, say=lambda line: None)
    assert [r["average_precision"] for r in again] == [r["average_precision"] for r in rows]


def test_a_run_that_fails_is_named_after_the_others_are_done(ran, monkeypatch):
    folder, grid, _, _ = ran
    broken = Grid(grid.simulation, grid.labeling, RECIPE, {"norm": ["group", "layer"]}, seeds=1, tiles_px=(32, 96))
    said = []
    with pytest.raises(InputError, match=r"1 of 2 runs failed, the first: \{'norm': 'layer'\}, seed 1"):
        run_grid(broken, folder, workers=1, say=said.append)
    assert len(said) == 2


def test_command_writes_the_table_and_how_it_was_made(ran, tmp_path, monkeypatch):
    _, _, rows, _ = ran
    monkeypatch.setattr(ablation, "run_grid", lambda grid, folder, **options: rows)
    path = tmp_path / "grid.yaml"
    path.write_text("simulation: {seed: 7}\nfactors: {norm: [group, batch]}\nseeds: 1\n")
    assert ablation.main([str(path), "-o", str(tmp_path / "out"), "--table", str(tmp_path / "a.csv")]) == 0
    assert "--table" in (tmp_path / "a.json").read_text()
    assert (tmp_path / "a.csv").read_text().count("\n") == 1 + len(rows)
    path.write_text("simulatoin: {}\n")
    assert ablation.main([str(path), "-o", str(tmp_path / "out")]) == 2


def test_recall_is_told_apart_by_distance_to_sources(tiny_dataset):
    paths = labelled_files(tiny_dataset)
    network = build(NetworkConfig(width=8)).eval()
    sure = zoo.Model("sure", network, NetworkConfig(width=8), "noise", threshold=0.0)
    never = zoo.Model("never", network, NetworkConfig(width=8), "noise", threshold=1.0)
    found = recall_by_distance({"sure": sure, "never": never}, paths, near_px=10, far_px=11)
    sequences = [read_sequence(path) for path in paths]
    rays = sum(int(((s.cr > 0) & (s.ignore == 0)).sum()) for s in sequences)
    assert any((s.ignore & SOURCE).any() for s in sequences)
    near = 0
    for s in sequences:
        for cr, ignore in zip(s.cr, s.ignore, strict=True):
            y, x = np.nonzero((ignore & SOURCE) > 0)
            for v, u in np.argwhere((cr > 0) & (ignore == 0)):
                near += bool(len(y)) and bool(np.hypot(y - v, x - u).min() <= 10)
    assert found["sure"]["pixels_near"] == near > 0
    assert 0.9 * rays <= found["sure"]["pixels_near"] + found["sure"]["pixels_far"] <= rays
    assert found["sure"]["far"] == 1.0
    assert found["never"]["near"] == found["never"]["far"] == 0.0
