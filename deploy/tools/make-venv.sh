#!/usr/bin/env bash
# Makes the virtual environment for the Makefile: make-venv.sh DIRECTORY [PYTHON]
#
# Takes PYTHON, or else the first Python >= 3.11 that works. Debian's python3 may lack ensurepip (package
# python3-venv): then virtualenv, fetched by that Python's own pip into a temporary directory, makes it. No root needed.
set -euo pipefail

venv=$1
wanted=${2:-}

is_suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [[ -x $venv/bin/pip ]] && is_suitable "$venv/bin/python" && "$venv/bin/pip" --version >/dev/null 2>&1; then
    exit 0
fi

candidates=(python3 python3.13 python3.12 python3.11 /usr/bin/python3 /usr/local/bin/python3)
[[ -z $wanted ]] || candidates=("$wanted")
python=
for candidate in "${candidates[@]}"; do
    if is_suitable "$candidate"; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "make: no Python >= 3.11 found (tried: ${candidates[*]})." >&2
    echo "      Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rm -rf "$venv"
echo "· $venv from $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"

if "$python" -m venv "$venv" >"$scratch/log" 2>&1; then
    exit 0
fi
rm -rf "$venv"
echo "· its venv module makes no environment with pip; taking virtualenv"
# --target installs beside the system's packages, never among them.
if "$python" -m virtualenv --version >/dev/null 2>&1 ||
    "$python" -m pip install --quiet --target "$scratch/virtualenv" virtualenv >>"$scratch/log" 2>&1; then
    if PYTHONPATH=$scratch/virtualenv "$python" -m virtualenv --quiet "$venv" >>"$scratch/log" 2>&1; then
        exit 0
    fi
fi
rm -rf "$venv"
tail -n 20 "$scratch/log" >&2
echo "make: $python can make no virtual environment, see above. On Debian: apt install python3-venv" >&2
exit 1
