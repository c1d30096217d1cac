"""Detection: speed beside other tools, tiles, memory, batches.

python benchmarks/detection.py [speed] [scaling] [tiles] [precision] [memory] [cold] [batch]     (all by default)

``speed``: 2048², one run, in turns, on two threads. ``scaling``: seconds per Mpixel from 512² to 10000². ``tiles``:
largest change of probability between tiles, and, with CRCORE_DATA, what tiles change on real frames where a network
takes means over them. ``precision``: bfloat16 and ONNX against float32. ``memory``: peak of a process that looks at
4096² and 10000². ``batch``: 1,000 frames, 20 of them broken, a worker killed in the middle, over two processes and over
a Dask cluster. ``cold``: ``crcore detect`` of a small frame from nothing. Rivals: pip install '.[rivals]'.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits

from crcore import Frame, InputError, zoo
from crcore.detection import NetworkDetector
from crcore.paths import user_data
from crcore.rivals import default_rivals
from crcore.zoo import DEFAULT_MODEL


def head(*cells):
    print()
    print("| " + " | ".join(cells) + " |")
    print("|" + " --- |" * len(cells), flush=True)


def line(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def sky(side, seed=1):
    """A frame of stars, noise and crooked rays, quickly drawn: what is timed does not depend on its physics."""
    rng = np.random.default_rng(seed)
    image = rng.normal(300, 18, (side, side)).astype(np.float32)
    y, x = np.mgrid[-12:13, -12:13]
    for _ in range(side * side // 8000):
        row, column = rng.integers(12, side - 12, 2)
        peak = 10 ** rng.uniform(2, 4.7)
        image[row - 12 : row + 13, column - 12 : column + 13] += peak * (1 + (x**2 + y**2) / 9) ** -2.5
    for _ in range(side * side // 8000):
        row, column = rng.uniform(10, side - 10, 2)
        angle = rng.uniform(0, np.pi)
        for step in np.arange(rng.integers(2, 20)):
            r, c = int(row + step * np.sin(angle)) % side, int(column + step * np.cos(angle)) % side
            image[r, c] += rng.uniform(100, 2000)
    return Frame(image, read_noise=8.0, name=f"{side}²")


def seconds(function, turns=3):
    """Median seconds of some calls, after one for warming up; of what takes more than six, the first."""
    taken = []
    for _ in range(turns + 1):
        begun = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begun)
        if taken[0] > 6:
            return taken[0]
    return float(np.median(taken[1:]))


def speed():
    frame = sky(2048)
    detectors, missing = default_rivals()
    detectors = {f"{DEFAULT_MODEL} (ours)": NetworkDetector(), **detectors}
    for name, why in missing.items():
        print(f"{name}: {why}")
    for name in zoo.names():
        if name != DEFAULT_MODEL:
            detectors[f"{name} (ours)"] = NetworkDetector(name)
    head("2048², two threads", "seconds", "times the default model's")
    base = None
    for name, detector in detectors.items():
        taken = seconds(lambda detector=detector: detector(frame))
        base = base or taken
        line(name, f"{taken:.2f}", f"{taken / base:.1f}")


def scaling():
    detector = NetworkDetector()
    head("side", "seconds", "seconds per Mpixel")
    for side in (512, 1024, 2048, 4096, 10000):
        frame = sky(side) if side <= 2048 else Frame(np.tile(sky(2048).data, (5, 5))[:side, :side])
        taken = seconds(lambda frame=frame: detector(frame), turns=3 if side < 4096 else 1)
        line(f"{side}²", f"{taken:.2f}", f"{taken / side**2 * 1e6:.3f}")


def tiles():
    frame = Frame(sky(2048).data[:1501, :1399])
    head(f"{DEFAULT_MODEL}, 1501 x 1399, tiles of", "largest change of probability against the whole frame")
    whole = NetworkDetector(tile_px=10**5)(frame).prob
    for tile in (256, 512, 1024):
        line(tile, f"{np.abs(NetworkDetector(tile_px=tile)(frame).prob - whole).max():.1e}")
    turned = NetworkDetector()(Frame(np.ascontiguousarray(frame.data.T))).prob.T
    plain = NetworkDetector()(frame).prob
    print(f"\nTransposed: {np.abs(turned - plain).max():.2f} largest change, "
          f"{np.mean((turned > 0.5) != (plain > 0.5)) * 1e6:.0f} pixels in a million change side.")  # fmt: skip
    folder = user_data()
    frames = [] if folder is None else sorted(folder.glob("lowell-nasa42/*.fits*"))[:2]
    frames += [] if folder is None else sorted(folder.glob("lco-0m4/*.fits*"))[:2]
    if not frames:
        print("\nCRCORE_DATA is not set: no table of real frames")
        return
    models = [zoo.load("ground_imaging"), zoo.load_official("ground_imaging")]
    head("real frame", "network", "tiles of", "pixels flagged", "change side against the whole frame")
    for path in frames:
        frame = Frame.read(path)
        for model in models:
            whole = NetworkDetector(model, tile_px=10**5)(frame)
            line(path.name, model.name, "whole", whole.mask.sum(), "")
            for tile in (256, 512, 1024):
                found = NetworkDetector(model, tile_px=tile)(frame)
                line(path.name, model.name, tile, found.mask.sum(), (found.mask != whole.mask).sum())


def precision():
    frame = sky(2048)
    head("2048²", "largest difference to float32", "seconds")
    exact = NetworkDetector()
    exact._runner.half = False
    reference = exact(frame).prob
    line("float32", "", f"{seconds(lambda: exact(frame)):.2f}")
    detector = NetworkDetector()
    if detector._runner.half:
        _compare("bfloat16", detector, frame, reference)
    try:
        detector = NetworkDetector(device="onnx")
    except InputError as error:
        print(error)
        return
    _compare("ONNX", detector, frame, reference)


def _compare(name, detector, frame, reference):
    difference = np.abs(detector(frame).prob - reference).max()
    line(name, f"{difference:.1e}", f"{seconds(lambda: detector(frame)):.2f}")


def memory():
    head("frame", "peak resident memory, GB")
    for side in (4096, 10000):
        code = (
            "import re, numpy as np\nfrom pathlib import Path\nfrom crcore import detect\n"
            f"image = np.random.default_rng(0).standard_normal(({side}, {side}), dtype=np.float32)\n"
            "image *= 18; image += 300\nfound = detect(image)\n"
            # of this process alone: ru_maxrss begins with that of the process which started it
            "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1e6)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        line(f"{side}²", f"{float(done.stdout):.2f}")


def cold():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.fits"
        fits.PrimaryHDU(sky(256).data).writeto(path)
        head("cold start, 256²", "seconds")
        for options in ([], ["--device", "onnx"]):
            command = [sys.executable, "-m", "crcore", "detect", str(path), "-o", folder, "--overwrite", *options]
            taken = []
            for _ in range(4):
                begun = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                taken.append(time.perf_counter() - begun)
            line(" ".join(["crcore detect", *options]), f"{np.median(taken[1:]):.1f}")


def batch(n=1000, broken=20, side=512):
    """A thousand frames, some broken, a worker killed in the middle."""
    with tempfile.TemporaryDirectory() as folder:
        night = Path(folder) / "night"
        night.mkdir()
        frames = [sky(side, seed).data for seed in range(8)]
        for i in range(n):
            fits.PrimaryHDU(np.roll(frames[i % 8], i, axis=1)).writeto(night / f"f{i:04d}.fits")
        bad = [night / f"f{i:04d}.fits" for i in range(0, n, n // broken)]
        for i, path in enumerate(bad):
            whole = path.read_bytes()
            path.write_bytes((whole[:5000], b"", b"no image", whole[: len(whole) // 2])[i % 4])
        head(f"{n} frames of {side}²", "seconds", "frames/s", "right", "named", "half files", "killed",
             "largest process, GB")  # fmt: skip
        run = partial(_run_batch, night, n_right=n - broken, n_broken=broken)
        single = run(Path(folder) / "one", ["--workers", "1"], kill=False, label="one process")
        double = run(Path(folder) / "two", ["--workers", "2"], kill=True, label="two processes")
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "8786"],
            stderr=subprocess.DEVNULL,
        )
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", "tcp://127.0.0.1:8786", "--nthreads", "1"],
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        try:
            address = ["--scheduler", "tcp://127.0.0.1:8786"]
            run(Path(folder) / "dask", address, kill=False, label="a Dask cluster of two workers")
        finally:
            for process in [*workers, scheduler]:
                process.terminate()
        print(f"\nTwo processes against one: {single / double:.2f} times the frames a second.")
        # an LSST night: 1,000 visits of two exposures, 3.2 Gpixel each
        days = 6.4e12 / ((n - broken) * side**2 / double) / 86_400
        print(f"An LSST night of 2,000 exposures of 3.2 Gpixel would take {days:.1f} days on these two cores, or "
              f"{2 * days * 2.4:.0f} cores for ten hours.")  # fmt: skip


def _run_batch(night, out, options, *, kill, label, n_right, n_broken):
    """One batch through the command; watches memory, and kills a worker in the middle if asked."""
    command = [sys.executable, "-m", "crcore", "detect", str(night), "-o", str(out), *options]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    largest, killed = [0.0], []

    def watch():
        me = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                children = [p for p in me.children(recursive=True) if p.is_running()]
                largest[0] = max([largest[0], *(p.memory_info().rss / 1e9 for p in [me, *children])])
                workers = [p for p in children if p.memory_info().rss > 2e8]
                if kill and not killed and workers and len(list(out.glob("*_cr.fits"))) > 400:
                    killed.append(workers[0].pid)
                    os.kill(workers[0].pid, signal.SIGKILL)
            except (psutil.Error, OSError):
                pass
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    watcher.join()
    taken = time.perf_counter() - begun
    made = list(out.glob("*_cr.fits"))
    right = sum(fits.getheader(path, "CRMASK")["CRNPIX"] > 0 for path in made)
    named = sum("failed: " in text for text in errors.splitlines())
    halves = len(list(out.glob(".part*")))
    line(label, f"{taken:.0f}", f"{len(made) / taken:.1f}", right, named, halves, len(killed), f"{largest[0]:.2f}")
    wanted = {"status": 1, "right": n_right, "named": n_broken, "half files": 0, "killed": int(kill)}
    found = {"status": process.returncode, "right": right, "named": named, "half files": halves, "killed": len(killed)}
    if found != wanted:
        raise SystemExit(f"{label}: {found} where {wanted} was to be\n{errors[-2000:]}")
    return taken


if __name__ == "__main__":
    parts = {f.__name__: f for f in (speed, scaling, tiles, precision, memory, cold, batch)}
    for part in sys.argv[1:] or parts:
        parts[part]()
