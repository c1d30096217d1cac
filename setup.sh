# Sourced by run_all.sh and test.sh: an environment with everything, made once.
# An active virtual or conda environment that has the pinned packages is used as it is.
have_all() {
    "$1" -P - 2>/dev/null <<'PY'
import importlib.metadata as metadata, pathlib, re, sys
for line in pathlib.Path("requirements.txt").read_text().splitlines():
    match = re.match(r"([A-Za-z0-9._-]+)==([^ ;#]+)", line)
    if match and metadata.version(match[1]).split("+")[0] != match[2]:
        sys.exit(1)
metadata.version("crcore")
import crcore
if pathlib.Path(crcore.__file__).resolve().parent != pathlib.Path("crcore").resolve():
    sys.exit(1)
PY
}
if [[ -n ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} ]] && have_all python; then
    :
else
    if [[ ! -x .venv/bin/python ]]; then
        base=""
        for name in python3 python3.11 python3.12 python3.13; do
            if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
                base=$name; break
            fi
        done
        if [[ -z $base ]]; then echo "setup: Python 3.11 to 3.13 is needed: install one of them" >&2; exit 2; fi
        rm -rf .venv
        "$base" -m venv .venv
    fi
    . .venv/bin/activate
    if ! have_all python; then
        echo "setup: installing the pinned packages into .venv (once; minutes) ..."
        python -m pip install --quiet --disable-pip-version-check -r requirements.txt
        python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    fi
fi
