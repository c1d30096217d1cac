import gzip
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from crcore.errors import InputError
from crcore.instruments import CAMERAS
from crcore.morphology import measure
from crcore.paths import ROOT, user_data
from crcore.simulate.recorded import (
    Selection,
    compare_with_recorded,
    inject_rays,
    read_rays,
    simulate_recording,
    write_rays,
)

RAYS = [np.array([[50.0, 0.0], [60.0, 70.0]]), np.array([[900.0]]), np.arange(1.0, 6.0).reshape(1, 5)]


def write_spans(path, rows, *, columns=("fp_id", "x0", "y0", "pixel_values")):
    values = np.empty(len(rows), dtype=object)
    values[:] = [np.array(r[3], dtype=np.int32) for r in rows]
    data = [np.array([r[k] for r in rows], dtype=np.int16) for k in range(3)] + [values]
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name=c, format="PJ()" if k == 3 else "I", array=d)
            for k, (c, d) in enumerate(zip(columns, data, strict=True))
        ]
    )
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


@pytest.fixture(scope="module")
def folder():
    data = user_data()
    if data is None or not (Path(data) / "rays").is_dir():
        pytest.skip("no recorded rays: set CRCORE_DATA to a folder with rays/")
    return Path(data) / "rays"


@pytest.fixture(scope="module")
def benchmark_rays():
    spec = importlib.util.spec_from_file_location("benchmark_rays", ROOT / "benchmarks" / "rays.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


SPANS = [(7, 100, 20, [5, 6]), (7, 99, 21, [7]), (9, 3, 3, [800]), (7, 101, 22, [8, 9, 10])]


def one_line(info):
    text = str(info.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def test_written_rays_are_read_again(tmp_path):
    write_rays(tmp_path / "mine.npz", RAYS)
    again = read_rays(tmp_path / "mine.npz")
    assert len(again) == len(RAYS)
    for got, ray in zip(again, RAYS, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, ray)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.npz"]


def test_no_rays_are_written_and_read_again(tmp_path):
    write_rays(tmp_path / "none.npz", [])
    assert read_rays(tmp_path / "none.npz") == []


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 3)), np.array([[1.0, np.nan]])])
def test_what_is_no_ray_is_not_written(tmp_path, bad):
    with pytest.raises(InputError, match="ray 1") as info:
        write_rays(tmp_path / "bad.npz", [RAYS[0], bad])
    one_line(info)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("zipped", [False, True])
def test_spans_become_footprints(tmp_path, zipped):
    path = write_spans(tmp_path / "spans.fits", SPANS)
    if zipped:
        path = tmp_path / "any.name"
        path.write_bytes(gzip.compress((tmp_path / "spans.fits").read_bytes()))
    first, second = read_rays(path)
    assert first.tolist() == [[0, 5, 6, 0, 0], [7, 0, 0, 0, 0], [0, 0, 8, 9, 10]]
    assert second.tolist() == [[800]]
    assert first.dtype == np.float32


@pytest.mark.parametrize(
    ("pixels", "shape", "said"),
    [
        (np.ones(6), np.array([[2, 2]]), "sums up to 4"),
        (np.ones(4), np.array([[-2, -2]]), "sizes"),
        (np.ones(4), np.array([[0, 2], [2, 2]]), "sizes"),
        (np.ones(4), np.array([2, 2]), "whole numbers"),
        (np.ones(4), np.array([[2.0, 2.0]]), "whole numbers"),
        (np.ones((2, 2)), np.array([[2, 2]]), "row of numbers"),
        (np.array(["a"] * 4), np.array([[2, 2]]), "row of numbers"),
        (np.array([1, 2, np.nan, 3]), np.array([[2, 2]]), "finite"),
        (np.ones(4), np.array([[2**31 - 1, 2**31 - 1]]), "sizes"),
        (np.array([None] * 4), np.array([[2, 2]]), "damaged or no .npz of numbers"),
    ],
)
def test_npz_that_is_no_recording_is_refused(tmp_path, pixels, shape, said):
    np.savez(tmp_path / "bad.npz", pixels=pixels, shape=shape)
    with pytest.raises(InputError, match=said) as info:
        read_rays(tmp_path / "bad.npz")
    assert "bad.npz" in one_line(info)


def test_npz_without_an_array_is_refused(tmp_path):
    np.savez(tmp_path / "bad.npz", pixels=np.ones(3))
    with pytest.raises(InputError, match="no array 'shape'"):
        read_rays(tmp_path / "bad.npz")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["npz", "fits", "gz"])
def test_truncated_files_are_refused(tmp_path, kind, kept):
    path = tmp_path / f"rays.{kind}"
    if kind == "npz":
        write_rays(path, [np.random.default_rng(1).random((40, 40))])
    else:
        write_spans(tmp_path / "all.fits", [(k % 90, k % 50, k % 40, [k] * 20) for k in range(300)])
        content = (tmp_path / "all.fits").read_bytes()
        path.write_bytes(gzip.compress(content) if kind == "gz" else content)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError) as info:
        read_rays(path)
    one_line(info)


@pytest.mark.parametrize("content", [b"", b"fp_id,x0\n1,2\n", b"PK\x03\x04 no archive", b"\x1f\x8b no gzip"])
def test_other_content_is_refused(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="other.npz") as info:
        read_rays(path)
    one_line(info)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(InputError, match="cannot be read") as info:
            read_rays(path)
        one_line(info)


def test_table_with_other_columns_is_refused(tmp_path):
    path = write_spans(tmp_path / "t.fits", SPANS, columns=("fp_id", "x", "y0", "pixel_values"))
    with pytest.raises(InputError, match="no column 'x0'"):
        read_rays(path)


def test_table_with_a_damaged_header_is_refused(tmp_path):
    path = write_spans(tmp_path / "t.fits", SPANS)
    path.write_bytes(path.read_bytes().replace(b"TTYPE4  = 'pix", b"TTYPE4  = \x01pix"))
    with pytest.raises(InputError) as info:
        read_rays(path)
    one_line(info)


def test_fits_without_a_table_is_refused(tmp_path):
    fits.writeto(tmp_path / "image.fits", np.zeros((4, 4)))
    with pytest.raises(InputError, match="no table"):
        read_rays(tmp_path / "image.fits")


def test_injected_rays_keep_their_charge_away_from_the_edge():
    ray = np.arange(1.0, 13.0).reshape(3, 4)
    rng = np.random.default_rng(3)
    whole = [charge for charge, _ in (inject_rays((60, 60), [ray], 1, rng) for _ in range(300))]
    sums = np.array([c.sum() for c in whole])
    assert sums.max() == ray.sum()
    assert (sums == ray.sum()).mean() > 0.8
    assert (sums < ray.sum()).any()  # some are cut at the edge
    assert sums.min() > 0
    turned = {tuple(c[c > 0]) for c in whole if c.sum() == ray.sum()}
    assert len(turned) == 8


def test_rays_are_drawn_with_replacement_and_the_same_for_the_same_seed():
    rays = [np.full((1, 1), v) for v in (1.0, 10.0, 100.0)]
    charge, n = inject_rays((40, 50), rays, 200, np.random.default_rng(4))
    assert (charge.shape, charge.dtype, n) == ((40, 50), np.float32, 200)
    counts = [round(charge.sum() // 10**k) % 10 for k in range(3)]
    assert charge.sum() > 200  # all three kinds
    assert len(counts) == 3
    np.testing.assert_array_equal(charge, inject_rays((40, 50), rays, 200, np.random.default_rng(4))[0])


def test_rays_larger_than_the_frame_are_cut():
    charge, _ = inject_rays((5, 7), [np.ones((30, 30))], 1, np.random.default_rng(5))
    assert charge.shape == (5, 7)
    assert charge.any()


def test_nothing_to_inject():
    charge, n = inject_rays((4, 4), [], 0, np.random.default_rng(6))
    assert n == 0
    assert not charge.any()
    with pytest.raises(InputError, match="no recorded rays"):
        inject_rays((4, 4), [], 3, np.random.default_rng(6))


def test_selection_takes_what_is_above_threshold_and_bright_enough():
    charge = np.zeros((20, 20), dtype=np.float32)
    charge[2, 2:6] = 100
    charge[2, 6] = 9000
    charge[2, 7] = 10  # below the threshold
    charge[10, 10] = 100  # no bright pixel
    charge[15, 15] = 500  # one pixel only
    selection = Selection(noise_e=0.0, threshold_e=50.0, peak_e=300.0, least_pixels=2, saturation_e=8000.0)
    (found,) = selection.find(charge, np.random.default_rng(7))
    assert found.tolist() == [[100, 100, 100, 100, 8000]]


def test_simulation_agrees_with_itself_and_not_with_a_thinner_chip():
    camera = replace(CAMERAS["gmosn_1x1"], thickness_um=100.0)
    selection = Selection(noise_e=4.0, threshold_e=20.0, peak_e=200.0)
    how = {"exposure_s": 1200.0, "shape": (512, 512), "frames": 16}
    recorded = simulate_recording(camera, selection, rng=np.random.default_rng(8), **how)
    rows, _, _ = compare_with_recorded(recorded, camera, selection, rng=np.random.default_rng(9), **how)
    thin = replace(camera, thickness_um=15.0)
    others, a, b = compare_with_recorded(recorded, thin, selection, rng=np.random.default_rng(9), **how)
    assert len(a) == rows[0]["n_a"] == len(recorded)
    assert len(b) == others[0]["n_b"]
    assert max(r["ks"] for r in rows) < 0.15
    charge = {r["column"]: r for r in others}["charge_e"]
    assert charge["ks"] > 0.4
    assert charge["b_median"] < charge["a_median"] / 3


@pytest.mark.parametrize(("name", "n"), [("itl_darks_2017.fits.gz", 1764), ("gmosn_bias_frames_00-28.npz", 620)])
def test_real_recordings_are_read_whole(folder, name, n):
    rays = read_rays(folder / name)
    assert len(rays) == n
    for ray in rays:
        assert ray.dtype == np.float32
        # the frame around a ray is as tight as can be
        assert all(np.any(side) for side in (ray[0], ray[-1], ray[:, 0], ray[:, -1]))
        assert ray.min() >= 0


def test_real_muons_say_that_pixels_are_10_um_and_values_electrons(folder):
    # long straight tracks, the thickness being small beside them: Landau's median, 1.58 xi above its peak
    rays = read_rays(folder / "itl_darks_2017.fits.gz")
    table = measure(rays)
    long = (table["length_px"] > 35) & (table["straightness"] > 0.93)
    assert long.sum() > 20
    path_um = np.hypot(10.0 * (table["length_px"][long] - 1), 100.0)
    xi = 17.8 * path_um  # eV
    expected = xi * (np.log(2 * 0.511e6 * xi / 31.05**2) + 0.2 + 1.58) / 3.65
    assert np.median(table["charge_e"][long] / expected) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("number", [0, 1])
def test_simulated_rays_are_shaped_like_real_ones(folder, number, benchmark_rays):
    name, recording = list(benchmark_rays.RECORDINGS.items())[number]
    rows, recorded, simulated = compare_with_recorded(
        read_rays(folder / recording.file),
        recording.camera,
        recording.selection,
        exposure_s=recording.exposure_s * (recording.rate_factor or 1.0),
        rng=np.random.default_rng(10),
        shape=recording.shape,
        frames=recording.frames,
        tilt_rad=recording.tilt_rad,
    )
    assert max(r["ks"] for r in rows) < 0.13, name
    assert np.mean([r["ks"] for r in rows]) < 0.08, name
    if recording.rate_factor:
        assert len(simulated) == pytest.approx(len(recorded), rel=0.15)
