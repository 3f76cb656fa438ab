#!/usr/bin/env bash
# Installs the published contracts that the vault adapters are tested against: install-contracts.sh TOOLS_DIRECTORY PIP
#
# They come from npm, pinned by the lock file in deploy/tools/contracts, and are only read: no install script and no code
# of a package runs. npm fetches 46 MB, of which the two packages with bytecode (20 MB) are kept in .tools/contracts.
set -euo pipefail

tools=$1
pip=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/npm.sh"
packages=(@safe-global/safe-smart-account zodiac-roles-sdk)

# $@ is the command that stands for npm. It runs inside the directory, since --prefix would hide the machine's npmrc.
npm_install() {
    cp "$here/contracts/package.json" "$here/contracts/package-lock.json" "$scratch/"
    (cd "$scratch" && "$@" ci --cache "$scratch/npm" --ignore-scripts --no-audit --no-fund --loglevel=error) \
        >>"$scratch/log" 2>&1 && [[ -d $scratch/node_modules/${packages[0]} && -d $scratch/node_modules/${packages[1]} ]]
}

mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "· published contracts (Safe, Zodiac Roles) from npm"
with_npm "$pip" "$scratch" npm_install "the published contracts"
rm -rf "$tools/contracts"
for package in "${packages[@]}"; do
    mkdir -p "$(dirname "$tools/contracts/$package")"
    mv "$scratch/node_modules/$package" "$tools/contracts/$package"
done
