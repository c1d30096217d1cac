#!/usr/bin/env bash
# Set up, lint and test, the smoke profile of all notebooks included:  ./test.sh [pytest options]
set -euo pipefail
cd "$(dirname "$0")"
. ./setup.sh
ruff check .
ruff format --check .
python -m pytest "$@"
