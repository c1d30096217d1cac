"""The explorer's page, driven from Python: what goes wrong is told in the page, which goes on."""

import datetime
import time

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("ipyevents")

from crcore.detection import Detection
from crcore.explorer.controls import UPLOAD_LIMIT
from crcore.explorer.page import Explorer, explore
from crcore.frame import Frame


def write(path, data, **cards):
    fits.PrimaryHDU(data, fits.Header({"GAIN": 1.0, "RDNOISE": 8.0} | cards)).writeto(path)
    return path


def sky(shape=(96, 128), seed=1):
    image = np.random.default_rng(seed).normal(300, 18, shape).astype(np.float32)
    image[40, 20:32] += 3000
    return image


@pytest.fixture
def page(tmp_path):
    page = Explorer()
    page.open_path(write(tmp_path / "frame.fits", sky()), wait=True)
    assert page.session is not None
    return page


def test_a_page_is_made_for_arrays_and_paths(tmp_path):
    assert explore(sky()).children
    assert explore(write(tmp_path / "a.fits", sky())).children
    assert explore().children


def test_what_is_typed_and_dragged_is_one_state(page):
    page.threshold.value = -2.0
    assert page.session.threshold == pytest.approx(0.01)
    assert page.exact.value == pytest.approx(0.01)
    page.exact.value = 0.5
    assert page.threshold.value == pytest.approx(-0.111, abs=0.02)
    page.dilate.value = 1
    assert page.session.dilate == 1
    assert page.moves


@pytest.mark.parametrize("what", ["text", "nan", "missing", "table"])
def test_bad_files_are_told_and_the_frame_before_stays(page, tmp_path, what):
    path, before = tmp_path / f"{what}.fits", page.session
    if what == "text":
        path.write_text("no image")
    elif what == "nan":
        fits.PrimaryHDU(np.full((20, 20), np.nan)).writeto(path)
    elif what == "table":
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]).writeto(path)
    page.open_path(path, wait=True)
    assert path.name in page.message.value
    assert page.session is before


def test_a_cube_shows_the_plane_that_is_chosen(page, tmp_path):
    cube = np.stack([sky(seed=k) * (k + 1) for k in range(3)])
    page.open_path(write(tmp_path / "cube.fits", cube), wait=True)
    assert "3 planes" in page.message.value
    np.testing.assert_allclose(page.session.frame.data, cube[0], rtol=1e-5)
    page.plane.value = 2
    deadline = time.monotonic() + 20
    while page.session is None and time.monotonic() < deadline:  # it is looked at beside the page
        time.sleep(0.05)
    np.testing.assert_allclose(page.session.frame.data, cube[2], rtol=1e-5)


def test_a_model_that_fails_is_told(page):
    def broken():
        raise RuntimeError("the weights are gone")

    page._makers["generic"] = broken
    page._made.clear()
    page.open_frame(page.frame, wait=True)
    assert "the weights are gone" in page.message.value
    assert page.session is None
    page._makers["generic"] = lambda: (
        lambda frame: Detection(
            np.zeros(frame.shape, np.float32), np.zeros(frame.shape, bool), 0.5, "zero", frame=frame
        )
    )
    page.open_frame(page.frame, wait=True)
    assert page.session.counts()["pixels"] == 0


def test_an_upload_that_is_too_large_is_refused(page):
    about = {"name": "big.fits", "type": "", "size": UPLOAD_LIMIT + 1, "content": b""}
    page.upload.value = (about | {"last_modified": datetime.datetime.now(datetime.UTC)},)
    assert "too large" in page.message.value


def test_two_detectors_are_compared(page):
    page.second.value = "ground_imaging"
    page.open_frame(page.frame, wait=True)
    assert page.session.second is not None
    assert "only ground_imaging" in page.counts.value


def test_truth_gives_precision_and_recall(tmp_path):
    truth = np.zeros((96, 128), dtype=bool)
    truth[40, 20:32] = True
    page = Explorer()
    page.open_frame(Frame(sky(), read_noise=8.0), truth=truth, wait=True)
    assert "precision" in page.counts.value
    assert page.curve.layout.display != "none"


def test_mouse_and_keys_edit_and_move(page):
    middle = {"dataX": 220, "dataY": 220, "type": "mousedown"}
    page.tool.value = "paint"
    before = page.session.counts()["pixels"]
    for kind, x in (("mousedown", 220), ("mousemove", 240), ("mouseup", 240)):
        page._on_view(middle | {"type": kind, "dataX": x, "buttons": 1})
    painted = page.session.counts()["pixels"]
    assert painted > before
    page._on_view({"type": "keydown", "key": "u", "dataX": 0, "dataY": 0})
    assert page.session.counts()["pixels"] == before
    page._on_view({"type": "keydown", "key": "r", "dataX": 0, "dataY": 0})
    assert page.session.counts()["pixels"] == painted
    zoom = page.screen.zoom
    page._on_view(middle | {"type": "wheel", "deltaY": -1})
    assert page.screen.zoom > zoom
    page._on_view({"type": "keydown", "key": "n", "dataX": 0, "dataY": 0})
    page._on_view({"type": "keydown", "key": "d", "dataX": 0, "dataY": 0})
    assert page._cursor is not None
    page.tool.value = "erase"
    page._on_view({"type": "keydown", "key": "Enter", "dataX": 0, "dataY": 0})
    assert page.session.edits[-1].kind == "erase"


def test_saving_over_the_frame_is_refused(page, tmp_path):
    page.target.value = str(tmp_path / "frame.fits")
    page.save.click()
    assert "is the frame itself" in page.message.value
    page.target.value = str(tmp_path / "mask.fits")
    page.save.click()
    assert "Saved" in page.message.value
    page.teach.click()
    assert (tmp_path / "training" / "masked_fits").exists()
    page.reload.click()
    assert "Loaded" in page.message.value
