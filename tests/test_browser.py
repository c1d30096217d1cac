"""The explorer in a real, headless browser: through Voilà and through JupyterLab."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip("voila")
pytest.importorskip("selenium")
if not (
    shutil.which("chromedriver") and any(shutil.which(n) for n in ("chromium", "chromium-browser", "google-chrome"))
):
    pytest.skip("no Chromium: apt install chromium chromium-driver", allow_module_level=True)

from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from crcore.explorer.app import free_port
from crcore.explorer.still import headless, served, wait_for

HANDLE = "//label[.='Threshold']/following-sibling::div//*[contains(@class, 'noUi-handle')]"


def counts(page):
    rays, pixels = re.match(
        r"(\d+) rays, (\d+) pixels", page.find_element(By.CSS_SELECTOR, ".crcore-counts").text
    ).groups()
    return int(rays), int(pixels)


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def button(page, text):
    return page.find_element(By.XPATH, f"//button[normalize-space(.)='{text}']")


def field(page, label):
    return page.find_element(By.XPATH, f"//label[.='{label}']/following-sibling::input")


def fill(page, label, text):
    """Type over what a field holds, and leave it, as a person would."""
    field(page, label).send_keys(Keys.CONTROL, "a", Keys.NULL, str(text), Keys.TAB)


def picture(page, name):
    return page.find_element(By.CSS_SELECTOR, f"img.{name}").get_attribute("src")


@pytest.fixture(scope="module")
def frame_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    image = rng.normal(300, 18, (300, 400)).astype(np.float32)
    for k in range(30):
        y, x = rng.integers(15, 280), rng.integers(15, 370)
        image[y, x : x + 3 + k % 9] += rng.uniform(150, 4000)
    path = tmp_path_factory.mktemp("app") / "frame.fits"
    fits.PrimaryHDU(image, fits.Header({"GAIN": 1.0, "RDNOISE": 8.0})).writeto(path)
    return path


@contextlib.contextmanager
def lab(frame_file):
    """The same in JupyterLab: a notebook whose one cell is run by the keyboard."""
    folder = frame_file.parent / "lab"
    folder.mkdir(exist_ok=True)
    cell = f"from crcore import explore\nexplore({str(frame_file)!r})"
    notebook = {
        "cells": [
            {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": cell}
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / "one.ipynb").write_text(json.dumps(notebook))
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--allow-root", "--IdentityProvider.token=test", f"--ServerApp.root_dir={folder}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        with headless(width=1800, height=1500) as page:
            assert until(answers, 60)
            page.get(f"http://127.0.0.1:{port}/lab/tree/one.ipynb?token=test&reset")
            assert until(lambda: page.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .cm-content"), 60)
            time.sleep(2)  # the kernel comes up
            for dialog in page.find_elements(By.CSS_SELECTOR, ".jp-Dialog button.jp-mod-accept"):
                dialog.click()
            page.find_element(By.CSS_SELECTOR, ".jp-CodeCell .cm-content").click()
            ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
            wait_for(page, "rays")
            yield page
    finally:
        server.terminate()
        server.wait(30)


@contextlib.contextmanager
def voila(frame_file):
    with headless() as page, served(frame_file) as address:
        page.get(address)
        wait_for(page, "rays")
        yield page


@pytest.fixture(scope="module", params=["voila", "jupyterlab"])
def page(frame_file, request):
    with {"voila": voila, "jupyterlab": lab}[request.param](frame_file) as page:
        yield page


#: for what does not depend on who shows the page
through_voila = pytest.mark.parametrize("page", ["voila"], indirect=True)


def test_the_threshold_changes_counts_and_pixels(page):
    slider = page.find_element(By.XPATH, HANDLE)
    before, shown = counts(page), picture(page, "crcore-mask")
    ActionChains(page).click_and_hold(slider).move_by_offset(-90, 0).release().perform()
    assert until(lambda: counts(page)[1] > before[1]), "more pixels at a lower threshold"
    assert until(lambda: picture(page, "crcore-mask") != shown)
    low = field(page, "Probability").get_attribute("value")
    slider.send_keys(Keys.ARROW_RIGHT)  # the keyboard does it too
    assert until(lambda: float(field(page, "Probability").get_attribute("value")) > float(low))


def test_a_thumbnail_moves_both_views(page):
    before = picture(page, "crcore-image"), picture(page, "crcore-mask")
    strip = page.find_element(By.CSS_SELECTOR, "img.crcore-rays")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", strip)
    ActionChains(page).move_to_element_with_offset(strip, 100 - strip.size["width"] // 2, 0).click().perform()
    assert until(lambda: picture(page, "crcore-image") != before[0])
    assert until(lambda: picture(page, "crcore-mask") != before[1]), "the mask follows"
    wait_for(page, "probability", selector=".crcore-readout")


def test_paint_undo_save_and_find_the_same_mask(page, frame_file):
    button(page, "paint").click()
    view = page.find_element(By.CSS_SELECTOR, "img.crcore-mask")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    before = counts(page)
    ActionChains(page).move_to_element_with_offset(view, 60, 60).click_and_hold().move_by_offset(
        40, 0
    ).release().perform()
    assert until(lambda: counts(page)[1] > before[1]), "painted pixels count"
    painted = counts(page)
    button(page, "Undo").click()
    assert until(lambda: counts(page) == before)
    button(page, "Redo").click()
    assert until(lambda: counts(page) == painted)
    target = frame_file.with_name("mask.fits")
    fill(page, "Save as", target)
    button(page, "Save mask").click()
    wait_for(page, "Saved", selector=".crcore-message")
    with fits.open(target) as hdus:
        assert int((hdus["CRMASK"].data & 1).sum()) == painted[1]
        assert hdus[0].header["CREDITED"] == 1
    button(page, "Undo").click()
    assert until(lambda: counts(page) == before)
    button(page, "Load mask").click()
    wait_for(page, "Loaded", selector=".crcore-message")
    assert until(lambda: counts(page) == painted)


@through_voila
def test_the_keyboard_zooms_and_undoes(page):
    view = page.find_element(By.CSS_SELECTOR, "img.crcore-image")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    ActionChains(page).move_to_element(view).perform()
    for key in ("+", "0"):
        before = picture(page, "crcore-image")
        ActionChains(page).move_to_element_with_offset(view, 3, 3).send_keys(key).perform()
        assert until(lambda before=before: picture(page, "crcore-image") != before), key


def test_keys_go_to_the_field_that_has_the_focus_wherever_the_mouse_rests(page):
    view = page.find_element(By.CSS_SELECTOR, "img.crcore-image")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
    ActionChains(page).move_to_element(view).perform()
    name, before = field(page, "Save as"), picture(page, "crcore-image")
    old = name.get_attribute("value")
    page.execute_script("arguments[0].focus({preventScroll: true}); arguments[0].select()", name)
    ActionChains(page).send_keys("+bun/+").perform()
    assert name.get_attribute("value") == "+bun/+"
    ActionChains(page).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).send_keys(old, Keys.TAB).perform()
    time.sleep(0.5)
    assert picture(page, "crcore-image") == before
    page.execute_script("arguments[0].focus({preventScroll: true}); arguments[0].select()", name)
    ActionChains(page).move_to_element_with_offset(view, 0, -view.size["height"] // 2 - 9).perform()  # off the view
    ActionChains(page).move_to_element(view).send_keys("+bun/+").perform()  # and onto it, while somebody types
    assert name.get_attribute("value") == "+bun/+"
    ActionChains(page).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).send_keys(old).perform()
    time.sleep(0.5)
    assert picture(page, "crcore-image") == before
    ActionChains(page).click(view).send_keys("+").perform()  # and back, by a click
    assert until(lambda: picture(page, "crcore-image") != before)
    ActionChains(page).send_keys("0").perform()


@through_voila
@pytest.mark.parametrize("what", ["text", "nan", "missing"])
def test_a_bad_file_is_told_in_the_page_which_goes_on(page, tmp_path, what):
    path = tmp_path / f"{what}.fits"
    if what == "text":
        path.write_text("this is no image")
    elif what == "nan":
        fits.PrimaryHDU(np.full((30, 30), np.nan, dtype=np.float32)).writeto(path)
    before = counts(page)
    fill(page, "File", path)
    button(page, "Open").click()
    wait_for(page, what, selector=".crcore-message")
    assert counts(page) == before


@through_voila
def test_a_cube_asks_for_its_plane(page, tmp_path):
    rng = np.random.default_rng(1)
    fits.PrimaryHDU(rng.normal(300, 18, (3, 64, 64)).astype(np.float32)).writeto(tmp_path / "cube.fits")
    fill(page, "File", tmp_path / "cube.fits")
    button(page, "Open").click()
    wait_for(page, "cube of 3 planes", selector=".crcore-message")
    assert field(page, "Plane").is_displayed()


@through_voila
def test_an_upload_is_looked_at_and_forgotten(page, tmp_path):
    rng = np.random.default_rng(2)
    image = rng.normal(300, 18, (96, 128)).astype(np.float32)
    image[range(40, 50), range(20, 30)] += 3000
    fits.PrimaryHDU(image).writeto(tmp_path / "uploaded.fits")
    page.find_element(By.XPATH, "//button[contains(., 'Upload')]").click()
    page.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(tmp_path / "uploaded.fits"))
    wait_for(page, "1 rays")


@through_voila
def test_a_file_that_is_too_large_is_refused_before_it_is_sent(page, tmp_path):
    from crcore.explorer.controls import UPLOAD_LIMIT

    with (tmp_path / "large.fits").open("wb") as stream:
        stream.truncate(UPLOAD_LIMIT + 1)  # no disk is taken
    page.find_element(By.XPATH, "//button[contains(., 'Upload')]").click()
    page.find_elements(By.CSS_SELECTOR, "input[type=file]")[-1].send_keys(str(tmp_path / "large.fits"))
    wait_for(page, "too large", selector=".crcore-message")
    before = picture(page, "crcore-image")
    button(page, "Zoom in").click()
    assert until(lambda: picture(page, "crcore-image") != before), "the page goes on"
