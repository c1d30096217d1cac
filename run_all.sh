#!/usr/bin/env bash
# Regenerate every table and figure:  ./run_all.sh [smoke|laptop|paper] [Snakemake options]
set -euo pipefail
export CRCORE_START="$PWD"
cd "$(dirname "$0")"
profile=laptop
if [[ $# -gt 0 && $1 != -* ]]; then profile=$1; shift; fi
. ./setup.sh
python -m crcore.notebooks check "$profile"
export JUPYTER_PLATFORM_DIRS=1 PYDEVD_DISABLE_FILE_VALIDATION=1
mkdir -p "build/$profile"
lock=""  # without flock, Snakemake's own lock, which a killed run leaves behind: snakemake --unlock
if command -v flock >/dev/null; then  # one run of a profile at a time; the system frees the lock of a killed one
    exec 9>"build/$profile/.lock"
    flock -n 9 || { echo "run_all.sh: waiting for another run of the $profile profile to end ..." >&2; flock 9; }
    lock=--nolock
fi
status=0
CRCORE_PROFILE=$profile snakemake --snakefile Snakefile --cores 2 --keep-going --rerun-incomplete $lock --quiet all "$@" \
    2>"build/$profile/snakemake.log" || status=$?
python -m crcore.notebooks finish "$profile" || status=1
if [[ $status -ne 0 ]]; then echo "run_all.sh: not everything ran; details in build/$profile/snakemake.log" >&2; fi
exit "$status"
