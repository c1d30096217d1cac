# The paper as a graph: one rule per notebook, run through papermill.
# ./run_all.sh [smoke|laptop|paper] [Snakemake options] calls it; see docs/architecture.md.

import os
from pathlib import Path

from crcore.fits_input import find_fits
from crcore.paths import user_data
from crcore.profiles import load_profile

PROFILE = os.environ.get("CRCORE_PROFILE", "laptop")
SETTINGS = {k: repr(v) for k, v in vars(load_profile(PROFILE)).items()}
BUILD = f"build/{PROFILE}"
CODE = sorted(str(p) for p in Path("crcore").rglob("*") if p.suffix in (".py", ".safetensors", ".json"))

# notebook -> the notebooks whose results it reads, the settings it uses, and whether it looks at CRCORE_DATA
NOTEBOOKS = {
    "01_labeling": ([], ["simulation", "labeling", "evaluation"], True),
    "02_dataset": (["01_labeling"], ["simulation", "labeling", "evaluation"], True),
    "03_network_and_loss": (["02_dataset"], ["loss_study"], False),
    "04_training": (["02_dataset"], ["training"], False),
    "05_ablation": (["02_dataset", "04_training"], ["simulation", "labeling", "unseen"], False),
    "06_lco": (["02_dataset", "04_training"], ["evaluation"], True),
    "07_gemini": (["05_ablation"], ["simulation", "labeling", "evaluation", "unseen"], False),
    "08_hst": ([], ["hst", "evaluation"], False),
    "09_nres": ([], ["spectra", "evaluation"], False),
    "11_generic_detector": (["01_labeling", "10_toolkit"], ["generic", "evaluation"], True),
    "10_toolkit": ([], ["simulation"], False),
    "12_ledger": (
        ["01_labeling", "02_dataset", "03_network_and_loss", "04_training", "05_ablation", "06_lco", "07_gemini",
         "08_hst", "09_nres", "10_toolkit", "11_generic_detector"],
        [],
        False,
    ),
}

# what was measured at length, and is committed: notebook -> files of data/results
MEASURED = {"05_ablation": "ablation.*", "11_generic_detector": "generic_*"}

# what they print of seconds is of two threads with nothing beside them; the others run two at a time
JUDGED = ("06_lco", "07_gemini", "08_hst", "09_nres")
TIMED = ("10_toolkit",)


def user_files():
    """Names and sizes of the user's own frames: results that read them change with them."""
    folder = user_data()
    if folder is None:
        return "none"
    return [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in find_fits(folder)]


def fetched_files():
    """The same of what `crcore fetch` has brought."""
    return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path("data/sets").rglob("*")) if p.is_file()]


def result(name):
    return f"{BUILD}/results/{name}/result.json"


rule all:
    input: [result(n) for n in NOTEBOOKS], [f"{BUILD}/notebooks/{n}.ipynb" for n in NOTEBOOKS]
    localrule: True


for notebook, (needs, settings, looks) in NOTEBOOKS.items():
    rule:
        name: notebook
        input:
            notebook=f"notebooks/{notebook}.ipynb",
            code=CODE,
            claims=["data/claims.csv", "config/paper.yaml", "config/recipes/NRES.yaml"] if notebook == "12_ledger" else [],
            measured=sorted(map(str, Path("data/results").glob(MEASURED.get(notebook, "none")))),
            needs=[result(n) for n in needs],
        output:
            executed=f"{BUILD}/notebooks/{notebook}.ipynb",
            result=result(notebook),
        params:
            settings={k: SETTINGS[k] for k in settings},
            user=user_files() if looks else "none",
            fetched=fetched_files() if notebook in JUDGED else "none",
            notebook=notebook,
        threads: 2 if notebook in TIMED else 1
        # those that need both cores come first, and the long road to the ledger next, so that cores wait less for each other
        priority: 2 if notebook in TIMED else 1 if notebook in ("01_labeling", "02_dataset", "04_training", "06_lco") else 0
        shell:
            "OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads} "
            "python -m crcore.notebooks run {params.notebook} {PROFILE}"
