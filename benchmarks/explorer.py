"""The explorer at 4096²: from a drag of the threshold to both pictures, in the kernel and in the browser; memory.

python benchmarks/explorer.py [SIDE]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits
from selenium.webdriver.common.by import By

from crcore.explorer.page import Explorer
from crcore.explorer.session import from_slider
from crcore.explorer.still import headless, served, wait_for

MOVES = 50
#: press a key on the slider, and wait until the mask's picture is another and has been decoded
_MOVE = """
const [key, done] = arguments;
const image = document.querySelector("img.crcore-mask");
const handle = document.evaluate("//label[.='Threshold']/following-sibling::div//*[contains(@class, 'noUi-handle')]",
  document, null, XPathResult.FIRST_ORDERED_NODE_TYPE, null).singleNodeValue;
const begun = performance.now();
const observer = new MutationObserver(() => { observer.disconnect(); image.decode().then(() => done(performance.now() - begun)); });
observer.observe(image, {attributes: true, attributeFilter: ["src"]});
handle.dispatchEvent(new KeyboardEvent("keydown", {key: key, bubbles: true}));
"""  # noqa: E501


def night(side, path):
    """A frame with some thousand rays."""
    rng = np.random.default_rng(0)
    image = rng.normal(300, 18, (side, side)).astype(np.float32)
    for _ in range(side * side // 3000):
        y, x = rng.integers(5, side - 20, 2)
        image[y, x : x + rng.integers(2, 14)] += rng.uniform(200, 5000)
    fits.PrimaryHDU(image, fits.Header({"GAIN": 1.0, "RDNOISE": 8.0})).writeto(path)


def main():
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.fits"
        night(side, path)
        page = Explorer()
        page.open_path(path, wait=True)
        for k in range(MOVES):
            page.threshold.value = round(-3 + 3.9 * k / MOVES, 2)
        kernel, rays = np.array(page.moves), page.session.counts()["rays"]
        memory = psutil.Process().memory_info().rss / 1e9
        with headless() as browser, served(path) as address:
            browser.set_script_timeout(30)
            browser.get(address)
            wait_for(browser, "rays")
            browser.execute_script(
                "arguments[0].scrollIntoView()", browser.find_element(By.CSS_SELECTOR, "img.crcore-mask")
            )
            seen = np.array([browser.execute_async_script(_MOVE, "ArrowLeft") for _ in range(MOVES)]) / 1e3
    print(f"{side}², {rays} rays at p > {from_slider(page.threshold.value):.2f}; {MOVES} moves of the threshold\n")
    print("| | median, ms | slowest, ms |\n| --- | --- | --- |")
    print(f"| kernel | {1e3 * np.median(kernel):.0f} | {1e3 * kernel.max():.0f} |")
    print(f"| browser | {1e3 * np.median(seen):.0f} | {1e3 * seen.max():.0f} |")
    print(f"\nMemory of the kernel: {memory:.2f} GB.")


if __name__ == "__main__":
    main()
