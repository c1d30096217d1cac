import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from crcore import results
from crcore.dataset import read_sequence
from crcore.errors import InputError
from crcore.instruments import CAMERAS, Camera
from crcore.labeling import KINDS, LabelingConfig
from crcore.labelled import SOURCE, UNDECIDED
from crcore.simulate import datasets, movers, observe
from crcore.simulate.datasets import SimulationConfig, labeling_for, simulate_dataset
from crcore.simulate.recorded import write_rays

LABELING = LabelingConfig(border_px=8)
CONFIG = SimulationConfig(
    seed=7,
    shape=(72, 80),
    exposure_s=(600.0, 900.0),
    rate_factor=20.0,
    sequences={"sinistro": (1, 1, 1), "sbig6303": (1, 0, 0), "nres": (0, 1, 0), "random": (2, 0, 0)},
)
SMALL = SimulationConfig(
    seed=3,
    shape=(40, 40),
    exposure_s=(100.0, 101.0),
    rate_factor=10.0,
    crossings=False,
    sequences={"sinistro": (1, 0, 0)},
)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def times(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("masked_fits/*"))}


def failing(monkeypatch, numbers):
    """Let labeling refuse its calls with these numbers (from 1); returns the list of calls."""
    label, calls = datasets.label_sequence, []

    def refuse(frames, config, truth):
        calls.append(frames)
        if len(calls) in numbers:
            raise InputError(f"{frames[0].name}: too crowded, call {len(calls)}")
        return label(frames, config, truth=truth)

    monkeypatch.setattr(datasets, "label_sequence", refuse)
    return calls


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    return folder, simulate_dataset(folder, CONFIG, LABELING)


def test_dataset_has_the_asked_sequences_in_each_split(dataset):
    folder, rows = dataset
    counts = {}
    for row in rows:
        counts[row["instrument"], row["split"]] = counts.get((row["instrument"], row["split"]), 0) + 1
        assert (folder / row["file"]).is_file()
        assert row["file"].startswith(f"{row['split']}/{row['instrument']}/masked_fits/")
    assert counts == {
        ("sinistro", "train"): 1,
        ("sinistro", "valid"): 1,
        ("sinistro", "test"): 1,
        ("sbig6303", "train"): 1,
        ("nres", "valid"): 1,
        ("random", "train"): 2,
    }


def test_manifest_on_disk_is_what_is_returned(dataset):
    folder, rows = dataset
    assert results.read_rows(folder / "manifest.csv") == rows


def test_manifest_tells_the_truth_about_each_file(dataset):
    folder, rows = dataset
    for row in rows:
        sequence = read_sequence(folder / row["file"])
        header = sequence.headers[0]
        assert row["sha256"] == sha256(folder / row["file"])
        assert row["cr_pixels"] == sequence.cr.sum()
        assert row["pixels"] == (sequence.ignore == 0).sum()
        assert row["sources"] == len(sequence.catalog)
        assert row["exposure_s"] == header["EXPTIME"]
        assert (row["filter"], row["field"]) == (header["FILTER"], header["FIELD"])
        assert row["date"] == header["DATE-OBS"][:10]
        inside = (sequence.ignore & 3) == 0
        rays = (sequence.truth == 1) & inside
        assert row["true_pixels"] == rays.sum()
        assert row["true_on_sources"] == (rays & ((sequence.ignore & 4) > 0)).sum()
        assert row["data"] == "simulated"
        assert row["rays"] > 0
        assert sequence.simulated


def test_manifest_says_how_each_sequence_was_made(dataset):
    _, rows = dataset
    seeds = [[int(part) for part in row["seed"].split()] for row in rows]
    assert all(len(seed) == 4 and seed[0] == CONFIG.seed and 0 <= seed[3] < 5 for seed in seeds)
    assert len({tuple(seed) for seed in seeds}) == len(rows)
    assert {row["revision"] for row in rows} == {results.provenance()["revision"]}
    assert len({row["key"] for row in rows}) == 1
    for row, seed in zip(rows, seeds, strict=True):
        assert (row["refused"] != "") == (seed[3] > 0)


def test_exposure_times_are_whole_seconds_in_the_asked_range(dataset):
    rows = dataset[1]
    images = [row["exposure_s"] for row in rows if row["instrument"] != "nres"]
    assert all(600 <= t <= 900 and t == round(t) for t in images)
    assert len(set(images)) > 1


def test_spectra_are_exposed_for_15_minutes_or_longer(dataset):
    (row,) = (row for row in dataset[1] if row["instrument"] == "nres")
    assert row["exposure_s"] == 900
    assert row["field"] == "echelle"


def test_no_field_is_in_two_sequences_let_alone_two_splits(dataset):
    folder, rows = dataset
    sequences = [read_sequence(folder / row["file"]) for row in rows]
    pointings = [(s.headers[0]["CRVAL1"], s.headers[0]["CRVAL2"]) for s in sequences if "CRVAL1" in s.headers[0]]
    assert len(set(pointings)) == len(pointings) == len(rows) - 1
    assert len({s.headers[0]["MOLUID"] for s in sequences}) == len(rows)
    assert len({row["sha256"] for row in rows}) == len(rows)
    assert all(not np.array_equal(a.data[0], b.data[0]) for k, a in enumerate(sequences) for b in sequences[:k])


def test_random_is_another_camera_each_time(dataset):
    folder, rows = dataset
    headers = [read_sequence(folder / row["file"]).headers[0] for row in rows if row["instrument"] == "random"]
    assert headers[0]["RDNOISE"] != headers[1]["RDNOISE"]
    assert headers[0]["PIXSCALE"] != headers[1]["PIXSCALE"]
    assert {row["class"] for row in rows if row["instrument"] == "random"} == {"random"}


def test_random_camera_is_that_of_its_seed(dataset):
    folder, rows = dataset
    row = next(row for row in rows if row["instrument"] == "random")
    camera = Camera.random(np.random.default_rng([int(part) for part in row["seed"].split()]))
    assert read_sequence(folder / row["file"]).headers[0]["RDNOISE"] == camera.read_noise_e


def test_second_call_rewrites_no_sequence(dataset):
    folder, rows = dataset
    before, manifest = times(folder), (folder / "manifest.csv").read_bytes()
    assert simulate_dataset(folder, CONFIG, LABELING) == rows
    assert times(folder) == before
    assert (folder / "manifest.csv").read_bytes() == manifest


def test_two_processes_make_the_same_as_one(tmp_path):
    config = replace(SMALL, sequences={"random": (1, 0, 0), "sinistro": (0, 1, 0)})
    one = simulate_dataset(tmp_path / "one", config, LABELING)
    seen = []

    def progress(jobs):
        for job in jobs:
            seen.append(job)
            yield job

    two = simulate_dataset(tmp_path / "two", config, LABELING, workers=2, progress=progress)
    assert two == one
    assert len(seen) == 2
    assert [row["sha256"] for row in two] == [sha256(tmp_path / "two" / row["file"]) for row in two]


def test_killed_run_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    config = replace(SMALL, sequences={"sinistro": (1, 1, 0)})
    write, written = datasets.write_sequence, []

    def stop_after_one(path, sequence):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, sequence)

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "write_sequence", stop_after_one)
        with pytest.raises(KeyboardInterrupt):
            simulate_dataset(tmp_path, config, LABELING)
    early = times(tmp_path)
    assert len([p for p in early if p.suffix == ".fits"]) == 1
    assert not (tmp_path / "manifest.csv").exists()
    rows = simulate_dataset(tmp_path, config, LABELING)
    assert [row["split"] for row in rows] == ["train", "valid"]
    assert all((tmp_path / row["file"]).exists() for row in rows)
    assert {p: t for p, t in times(tmp_path).items() if p in early} == early


def test_a_sequence_whose_row_was_not_written_is_made_anew(tmp_path):
    (row,) = simulate_dataset(tmp_path, SMALL, LABELING)
    path = tmp_path / row["file"]
    path.with_suffix(".json").unlink()
    path.write_bytes(b"half")
    assert simulate_dataset(tmp_path, SMALL, LABELING) == [row]
    assert sha256(path) == row["sha256"]


def test_same_seed_makes_the_same_bytes_in_another_folder(tmp_path):
    other = replace(SMALL, seed=SMALL.seed + 1)
    one, two, three = (
        simulate_dataset(tmp_path / name, config, LABELING)[0]["sha256"]
        for name, config in (("one", SMALL), ("two", SMALL), ("three", other))
    )
    assert one == two
    assert one != three


def test_other_settings_make_the_files_anew(tmp_path):
    first = simulate_dataset(tmp_path, SMALL, LABELING)
    second = simulate_dataset(tmp_path, SMALL, LabelingConfig(border_px=9))
    assert first[0]["key"] != second[0]["key"]
    assert second[0]["sha256"] == sha256(tmp_path / second[0]["file"]) != first[0]["sha256"]


def test_a_field_that_cannot_be_labelled_is_refused_and_another_drawn(tmp_path, monkeypatch):
    (plain,) = simulate_dataset(tmp_path / "plain", SMALL, LABELING)
    calls = failing(monkeypatch, {1})
    (row,) = simulate_dataset(tmp_path / "refused", SMALL, LABELING)
    assert len(calls) == 2
    assert not np.array_equal(calls[0][0].data, calls[1][0].data)
    assert plain["refused"] == ""
    assert row["refused"].endswith("too crowded, call 1")
    assert plain["seed"].endswith(" 0 0")
    assert row["seed"] == plain["seed"][:-1] + "1"
    assert row["sha256"] == sha256(tmp_path / "refused" / row["file"]) != plain["sha256"]
    assert results.read_rows(tmp_path / "refused" / "manifest.csv") == [row]


def test_every_refusal_is_told(tmp_path, monkeypatch):
    failing(monkeypatch, {1, 2, 3, 4})
    (row,) = simulate_dataset(tmp_path, SMALL, LABELING)
    assert row["seed"].endswith(" 0 4")
    assert row["refused"].count("too crowded") == 4


def test_five_fields_that_cannot_be_labelled_are_reported(tmp_path, monkeypatch):
    calls = failing(monkeypatch, set(range(1, 100)))
    with pytest.raises(InputError, match="sinistro, sequence 0: five fields in a row .*too crowded, call 5$"):
        simulate_dataset(tmp_path, SMALL, LABELING)
    assert len(calls) == 5
    assert not list(tmp_path.rglob("*.fits"))
    assert not (tmp_path / "manifest.csv").exists()


def test_errors_of_the_program_are_not_taken_for_refusals(tmp_path, monkeypatch):
    def broken(*args, **options):
        raise TypeError("a bug")

    monkeypatch.setattr(datasets, "label_sequence", broken)
    with pytest.raises(TypeError, match="a bug"):
        simulate_dataset(tmp_path, SMALL, LABELING)


@pytest.mark.parametrize("crossings", [True, False])
def test_nothing_crosses_when_told(tmp_path, monkeypatch, crossings):
    drawn = []
    monkeypatch.setattr(observe, "ASTEROID_SHARE", 1.0)
    for name in ("add_streak", "add_asteroid"):
        monkeypatch.setattr(movers, name, lambda *args, **options: drawn.append(args))
    simulate_dataset(tmp_path, replace(SMALL, crossings=crossings, streak_share=1.0), LABELING)
    assert bool(drawn) == crossings


def test_progress_sees_every_sequence_and_the_end(tmp_path):
    seen = []

    def progress(jobs):
        yield from jobs
        seen.append(len(jobs))

    simulate_dataset(tmp_path, replace(SMALL, sequences={"sinistro": (1, 0, 1)}), LABELING, progress=progress)
    assert seen == [2]


def test_cameras_are_labelled_as_the_paper_does():
    assert labeling_for(CAMERAS["sinistro"], LABELING) is LABELING
    assert labeling_for(CAMERAS["acs_wfc"], LABELING) is LABELING
    assert labeling_for(CAMERAS["sinistro"]) == KINDS["imaging"]
    for key in ("nres", "longslit"):
        assert labeling_for(CAMERAS[key], LABELING) is KINDS["spectroscopy"]
    for key in ("gmosn_1x1", "gmoss_2x2"):
        assert labeling_for(CAMERAS[key], LABELING) is KINDS["gemini"]


def test_unknown_instrument_is_reported_with_those_there_are():
    with pytest.raises(InputError, match="webcam.*sbig6303, sinistro, spectral"):
        SimulationConfig(sequences={"webcam": (1, 0, 0)})


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": (64,)},
        {"shape": (64, 0)},
        {"exposure_s": (100,)},
        {"exposure_s": (-1, 100)},
        {"sequences": {"sinistro": (1, 1)}},
        {"sequences": {"random": 3}},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SimulationConfig(**settings)


def test_recorded_rays_stand_in_for_simulated_ones(tmp_path):
    write_rays(tmp_path / "rays.npz", [np.full((1, 1), 40_000.0)])  # no simulated ray has one pixel each time
    config = replace(SMALL, rate_factor=600.0, recorded=str(tmp_path / "rays.npz"), recorded_share=1.0)
    (row,) = simulate_dataset(tmp_path / "recorded", config, LABELING)
    assert row["ray_source"] == "recorded"
    for truth in read_sequence(tmp_path / "recorded" / row["file"]).truth:
        sizes = np.bincount(ndimage.label(truth == 1)[0].ravel())[1:]
        assert len(sizes) > 0
        assert (sizes == 1).all()


def test_recorded_rays_are_part_of_what_makes_a_sequence(tmp_path):
    keys = []
    for charge in (40_000.0, 50_000.0):
        write_rays(tmp_path / "rays.npz", [np.full((1, 3), charge)])
        config = replace(SMALL, recorded=str(tmp_path / "rays.npz"), recorded_share=0.0)
        (row,) = simulate_dataset(tmp_path / "out", config, LABELING)
        assert row["ray_source"] == "simulated"
        keys.append(row["key"])
    assert keys[0] != keys[1]


@pytest.mark.parametrize("options", [{"recorded": "none.npz"}, {"recorded_share": 1.5}])
def test_recorded_rays_that_are_not_there_stop_before_anything_starts(tmp_path, options):
    with pytest.raises(InputError, match=r"none\.npz|recorded_share"):
        simulate_dataset(tmp_path, replace(SMALL, **options), LABELING)
    assert not list(tmp_path.iterdir())


def test_labels_by_truth_need_one_exposure_and_know_rays_on_sources(tmp_path):
    config = replace(
        SMALL, visits=1, labels="truth", rate_factor=100.0, sequences={"sinistro": (1, 0, 0), "random_orbit": (1, 0, 0)}
    )
    rows = simulate_dataset(tmp_path, config)
    assert [row["instrument"] for row in rows] == ["random_orbit", "sinistro"]
    for row in rows:
        sequence = read_sequence(tmp_path / row["file"])
        assert sequence.data.shape == (1, 40, 40)
        found = sequence.cr[0] == 1
        assert found[sequence.truth[0] == 0].mean() < 0.02  # noise beside a ray
        agree = (found & (sequence.truth[0] == 1)).sum()
        assert agree > 0.6 * max((sequence.truth[0] == 1).sum(), found.sum())
        judged = sequence.judged(0)
        assert not judged[(sequence.ignore[0] & UNDECIDED) > 0].any()
        on_source = sequence.ignore[0] == SOURCE
        assert judged[on_source].all()
    assert sum(row["cr_pixels"] for row in rows) > 20


@pytest.mark.parametrize(
    "wrong",
    [
        *({"labels": "magic"}, {"visits": 2}, {"visits": 0, "labels": "truth"}),
        *({"prnu": 0.5}, {"prnu": -0.1}, {"streak_share": 1.5}, {"galaxy_factor": -1.0}),
    ],
)
def test_labels_and_visits_must_fit(wrong):
    with pytest.raises(InputError, match=r"labels|visits|prnu|streak_share|galaxy_factor"):
        SimulationConfig(**wrong)
