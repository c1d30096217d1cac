"""Labels against truth, and labeling against the clock.

python benchmarks/labeling.py [truth] [simulated] [speed] [released] [hundred]     (all by default)

``truth`` and ``released`` need CRCORE_DATA=FOLDER with ``lco-0m4``, ``lowell-nasa42`` and ``truth``;
``released`` needs cosmic-conn too (pip install '.[rivals]'). Each part prints a Markdown table. Times are of
the processor; set OMP_NUM_THREADS=1 so that one core is one core.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil

from crcore.dataset import find_reference, read_sequence, write_frame
from crcore.frame import Frame
from crcore.instruments import CAMERAS, LCO
from crcore.label_batch import label_batch
from crcore.label_files import label_files
from crcore.label_quality import agreement
from crcore.labeling import LabelingConfig, label_sequence
from crcore.paths import user_data
from crcore.sequences import find_sequences
from crcore.simulate.datasets import SimulationConfig, simulate_dataset
from crcore.simulate.observe import simulate_sequence


def line(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells):
    print()
    line(*cells)
    line(*["---"] * len(cells))


def quality(counts):
    return f"{counts[2] / max(counts[1], 1):.3f}", f"{counts[2] / max(counts[0], 1):.3f}"


def truth():
    """Recall and purity on real frames with a reference."""
    folder = user_data()
    head("real frames (CRCORE_DATA)", "visits", "noise in A1", "true pixels", "recall", "purity")
    for sub, visits in (("lco-0m4", 3), ("lowell-nasa42", 12), ("lowell-nasa42", 6), ("lowell-nasa42", 3)):
        runs, _ = find_sequences(folder / sub, min_exposure_s=5)
        runs = [run[k : k + visits] for run in runs for k in range(0, len(run), visits)]
        for noise, released in (("seen", False), ("released pipeline's", True)):
            counts = np.zeros(3, dtype=int)
            for _, labelled in label_files(
                runs, LabelingConfig(released=released), reference=lambda path: find_reference(folder, path.name)
            ):
                if isinstance(labelled, Exception):
                    print(labelled)
                elif labelled.truth is not None:
                    counts += agreement(labelled)
            line(sub, visits, noise, counts[1], *quality(counts))


def simulated():
    """Recall, purity and what is lost to sources, where all is known; rays at their natural rate."""
    cameras = (*LCO, "gmosn_1x1", "gmoss_2x2", "acs_wfc", "nres", "longslit", "random")
    counts, lost, rays, refused = {}, {}, {}, {}
    config = SimulationConfig(seed=404, shape=(1024, 1024), sequences={c: (6, 0, 0) for c in cameras})
    with tempfile.TemporaryDirectory() as folder:
        for row in simulate_dataset(folder, config, LabelingConfig(border_px=32)):
            sequence = read_sequence(Path(folder) / row["file"])
            for camera in (row["instrument"], *(["LCO, all three"] if row["instrument"] in LCO else [])):
                counts[camera] = counts.get(camera, 0) + agreement(sequence)
                lost[camera] = lost.get(camera, 0) + row["true_on_sources"]
                rays[camera] = rays.get(camera, 0) + row["true_pixels"]
                refused[camera] = refused.get(camera, 0) + bool(row["refused"])
    head("simulated, 6 sequences of 3 x 1024²", "true pixels", "recall", "purity", "lost to sources", "fields refused")
    for camera in ("LCO, all three", *cameras):
        c = counts[camera]
        line(camera, c[1], *quality(c), f"{100 * lost[camera] / max(rays[camera], 1):.2f}%", refused[camera])


def speed():
    """Seconds and memory of one sequence of 3 x 4096² on one core, and of simulating."""
    head("one core", "result")
    for camera, shape in ((CAMERAS["sinistro"], 4096), (CAMERAS["gmosn_1x1"], 2048), (CAMERAS["nres"], 2048)):
        begun = time.process_time()
        made = simulate_sequence(
            camera, shape=(shape, shape), exposure_s=300, rng=np.random.default_rng(3), crossings=False
        )
        spent = time.process_time() - begun
        line(f"simulate {camera.name}, 3 x {shape}²", f"{3 * shape**2 / 1e6 / spent:.2f} Mpixel/s")
        if camera.name == "Sinistro":
            large = made
    with tempfile.TemporaryDirectory() as folder:
        for frame in large.frames:
            write_frame(Path(folder) / f"{frame.name}.fits.fz", frame)
        code = (
            "import resource, sys, time\nfrom pathlib import Path\nfrom crcore.frame import Frame\n"
            "from crcore.labeling import label_sequence\nt = time.process_time()\n"
            f"frames = [Frame.read(p) for p in sorted(Path({folder!r}).glob('*.fz'))]\nr = time.process_time()\n"
            "s = label_sequence(frames)\nd = time.process_time()\n"
            "print(f'{d - r:.1f} s, {s.facts[\"alignment\"]}, {len(s.catalog)} sources; reading {r - t:.1f} s more; '"
            "f'peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB')"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        line("label 3 x 4096² (CPU time)", said.stdout.strip())


def released():
    """The released pipeline and ours on the same real sequences, in one run on one core."""
    from cosmic_conn.cr_pipeline.lco_cr_reduction import CR_reduction
    from cosmic_conn.cr_pipeline.utils_io import reproject_to_same_WCS

    folder = user_data()
    runs, _ = find_sequences(folder / "lco-0m4", min_exposure_s=5)
    head("real sequence (3 x 1.55 Mpixel)", "released, s", "ours, s", "ratio")
    for run in runs[1:8:2]:
        with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = SimpleNamespace(
                root=work, log_file=f"{work}/log.txt", snr_thres=5.0, snr_thres_low=2.5, dilation=5, min_cr_size=2,
                flood_fill=False, no_png=True, comment=None, debug=False,
            )  # fmt: skip
            begun = time.process_time()
            # Its writer passes the astropy of its day an argument that is gone: time stops before it writes.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(TypeError):
                CR_reduction(reproject_to_same_WCS([str(p) for p in run], work, True), options).generate_CR_masks()
            theirs = time.process_time() - begun
            begun = time.process_time()
            label_sequence([Frame.read(p) for p in run])
            ours = time.process_time() - begun
        line(run[0].name, f"{theirs:.1f}", f"{ours:.1f}", f"{theirs / ours:.1f}")


def hundred():
    """A hundred sequences over two processes, five of them broken in different ways."""
    camera = replace(CAMERAS["sinistro"], fields=("sparse",))
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "frames"
        for k in range(100):
            made = simulate_sequence(
                camera, shape=(320, 320), exposure_s=300, rng=np.random.default_rng([7, k]), identifier=k,
                rate_factor=5, crossings=False,
            )  # fmt: skip
            for i, frame in enumerate(made.frames):
                name = folder / f"{frame.name}.fits.fz"
                data, header = frame.data.copy(), frame.header.copy()
                if k == 10 and i == 1:
                    frame = replace(frame, data=data[:300], bad=None)  # another shape
                elif k == 30 and i == 2:
                    del header["RDNOISE"]
                    frame = replace(frame, header=header)
                elif k == 50 and i == 0:
                    frame = replace(frame, data=np.full_like(data, np.nan), bad=None)
                elif k == 70 and i == 1:
                    header["CRVAL1"] += 15 * camera.pixel_scale_arcsec / 3600  # a wrong WCS
                    header["CRVAL2"] += 25 * camera.pixel_scale_arcsec / 3600
                    frame = replace(frame, header=header)
                write_frame(name, frame)
                if k == 90 and i == 2:
                    name.write_bytes(name.read_bytes()[:-4000])  # truncated
        memory = []  # of the largest worker, after each run of visits

        def say(_):
            memory.append(max((p.memory_info().rss for p in psutil.Process().children(recursive=True)), default=0))

        begun = time.monotonic()
        rows = label_batch(folder, Path(work) / "out", LabelingConfig(border_px=16), workers=2, say=say)
        seconds = time.monotonic() - begun
    labelled = [r for r in rows if r["file"]]
    head("100 sequences of 3 x 320², 2 workers, 5 broken", "result")
    line("labelled", len(labelled))
    line("seconds, contact sheets included", f"{seconds:.0f}")
    for k in (20, 60, 100):
        line(f"largest worker after {k} runs", f"{max(memory[:k]) / 1e9:.2f} GB")
    for row in rows:
        if not row["file"]:
            line("explained", row["left_out"].replace(str(work), ""))


if __name__ == "__main__":
    parts = {f.__name__: f for f in (truth, simulated, speed, released, hundred)}
    for part in sys.argv[1:] or parts:
        parts[part]()
