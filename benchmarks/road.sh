#!/usr/bin/env bash
# The road as a new user walks it, timed: benchmarks/road.sh [smoke|laptop] [FOLDER]
# A fresh clone, the set-up, the profile, a second call, a run that is killed and resumed, and whether all of it agrees.
set -euo pipefail
profile=${1:-smoke}
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${2:-$(mktemp -d)}
clone=$folder/clone
unset VIRTUAL_ENV CONDA_PREFIX
timed() { local begun=$SECONDS; "$@" >>"$folder/log.txt" 2>&1 || { echo "failed: $*; see $folder/log.txt"; exit 1; }; echo $((SECONDS - begun)); }
numbers() { (cd "build/$profile" && find results figures -name '*.csv' -o -name '*.md' ! -name README.md | sort | xargs sha256sum); }

git clone --quiet "$here" "$clone"
cd "$clone"
echo "set-up: $(timed bash -c '. ./setup.sh') s, $(du -sm .venv | cut -f1) MB on disk"
echo "./run_all.sh $profile: $(timed ./run_all.sh "$profile") s"
echo "./run_all.sh $profile, second call: $(timed ./run_all.sh "$profile") s"
numbers >"$folder/whole.txt"
mv "build/$profile" "$folder/first"

setsid ./run_all.sh "$profile" >"$folder/killed.txt" 2>&1 &
run=$!
until grep -qs "epoch 2/" "$folder/killed.txt" || ! kill -0 "$run" 2>/dev/null; do sleep 0.2; done
kill -KILL -- "-$run"
wait "$run" 2>/dev/null || true
standing=$(find "build/$profile/results" -name result.json | wc -l)
echo "killed in training with $standing notebooks done; resumed in $(timed ./run_all.sh "$profile") s"
numbers >"$folder/resumed.txt"
if cmp -s "$folder/whole.txt" "$folder/resumed.txt"; then
    echo "all $(wc -l <"$folder/whole.txt") tables of both runs are equal, to the last digit"
else
    echo "tables differ:"; diff "$folder/whole.txt" "$folder/resumed.txt" || true; exit 1
fi
