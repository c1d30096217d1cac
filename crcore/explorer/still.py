"""A picture of the explorer in a real browser, without a screen: Fig 12, and what the browser tests drive."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from crcore.errors import InputError
from crcore.explorer.app import free_port

__all__ = ["headless", "served", "still", "wait_for"]


@contextlib.contextmanager
def served(file, *, seconds=90):
    """Serve the explorer in a process of its own while the block runs; gives its address.

    Raises
    ------
    InputError
        When it does not start.
    """
    port = free_port()
    command = [sys.executable, "-m", "crcore", "app", str(file), "--port", str(port), "--no-browser"]
    token = secrets.token_urlsafe(24)
    environment = os.environ | {"CRCORE_APP_TOKEN": token}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    address = f"http://127.0.0.1:{port}/?token={token}"
    try:
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.3)
        else:
            raise InputError("the explorer did not start: run 'crcore app' to see why")
        yield address
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()


@contextlib.contextmanager
def headless(*, width=1300, height=1000):
    """Give a headless Chromium, driven by Selenium.

    Raises
    ------
    InputError
        When Chromium, its driver or Selenium is not installed.
    """
    browser = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None or importlib.util.find_spec("selenium") is None:
        raise InputError(
            "no headless browser: install chromium, its driver (chromium-driver), and pip install selenium"
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's sandbox does not work for root
    for argument in arguments:
        options.add_argument(argument)
    page = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield page
    finally:
        page.quit()


def wait_for(page, text, *, selector=".crcore-counts", seconds=120):
    """Wait until the part of the page that ``selector`` names says ``text``; gives what it says."""
    deadline, said = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        found = page.find_elements("css selector", selector)
        said = found[0].text if found else ""
        if text in said:
            return said
        time.sleep(0.1)
    raise InputError(f"the page did not say {text!r} within {seconds} s, but {said!r}")


def still(file, target):
    """Open a file in the app, go to its largest ray, and keep a picture of the page.

    Parameters
    ----------
    file, target : path-like
        A FITS file, and the PNG.

    Raises
    ------
    InputError
        When no browser is there, or the page does not come up.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with headless() as page, served(file) as address:
        page.get(address)
        wait_for(page, "rays")
        page.find_element("xpath", "//button[contains(., 'Next ray')]").click()
        wait_for(page, "probability", selector=".crcore-readout")
        box = page.find_element("xpath", "//label[.='File']/following-sibling::input")
        name = Path(str(file)).name  # the folder is nobody's business
        page.execute_script("arguments[0].value = arguments[1]", box, name)
        time.sleep(1.0)  # the last picture is on its way
        target.write_bytes(page.get_screenshot_as_png())
