#!/usr/bin/env bash
# Writes one lock file: write-lock.sh PIP_COMPILE OUTPUT SEED 'WHAT IT HOLDS' OPTIONS...
# SOURCE in the environment names another file of dependencies than pyproject.toml.
# Pins that SEED has are kept (OPTIONS may say --upgrade). Each pin has the hashes of its files; no host is named.
set -euo pipefail
pip_compile=$1 output=$2 seed=$3 what=$4
shift 4
source=${SOURCE:-pyproject.toml}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "$seed" "$scratch/pins.lock"
"$pip_compile" --quiet "$@" --generate-hashes --allow-unsafe --strip-extras --no-header \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file "$scratch/pins.lock" "$source"
{
    echo "# $what, pinned with the hashes of its files. Written by 'make lock':"
    echo "# change a dependency in $source, never here."
    grep -vE "^# (.* pinned with the hashes of its files|change a dependency in)" "$scratch/pins.lock"
} >"$scratch/new.lock"
if grep -nE '://|^-' "$scratch/new.lock"; then
    echo "make: a host name must not get into a lock file" >&2
    exit 1
fi
cp "$scratch/new.lock" "$output"
