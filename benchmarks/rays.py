"""Simulated rays against recorded ones: two thick CCDs, one Markdown table, one figure.

Usage: python benchmarks/rays.py FOLDER [-o DIR]

FOLDER holds ``itl_darks_2017.fits.gz`` and ``gmosn_bias_frames_00-28.npz`` ($CRCORE_DATA/rays); the
figure ``rays.png`` and the numbers ``rays.csv`` go to DIR (default: the current folder).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from crcore.errors import InputError
from crcore.figures_data import ray_shapes
from crcore.results import atomic, write_rows
from crcore.simulate.recordings import RECORDINGS, compare_recordings


def cell(row, letter):
    middle, low, high = (row[f"{letter}_{key}"] for key in ("median", "16", "84"))
    return f"{middle:,.4g} [{low:,.4g}, {high:,.4g}]" if middle < 1e4 else f"{middle:,.0f} [{low:,.0f}, {high:,.0f}]"


def markdown(name, rows):
    r = RECORDINGS[name]
    lines = [
        f"**{name}**: {r.camera.thickness_um:g} um thick, diffusion {r.camera.diffusion_um:g} um, "
        f"{r.camera.electrons_per_muon:g} electrons per muon, tilt {np.degrees(r.tilt_rad):.0f} degrees; "
        f"{rows[0]['n_a']} rays recorded, {rows[0]['n_b']} simulated"
        + (f" for the same area and time and {r.rate_factor:g} times the muons" if r.rate_factor else ""),
        "",
        "| | recorded: median [16, 84 %] | simulated: median [16, 84 %] | KS | Anderson-Darling |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['column']} | {cell(row, 'a')} | {cell(row, 'b')} | {row['ks']:.3f} | {row['anderson']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the recorded rays are")
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="where figure and numbers go")
    arguments = parser.parse_args()
    try:
        compared = list(compare_recordings(arguments.folder))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n\n".join(markdown(name, rows) for name, rows, _, _ in compared))
    with atomic(arguments.output / "rays.png") as part:
        ray_shapes(compared).savefig(part, dpi=80)
    write_rows(arguments.output / "rays.csv", [{"recording": n} | row for n, rows, _, _ in compared for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
