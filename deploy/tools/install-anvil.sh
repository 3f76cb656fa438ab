#!/usr/bin/env bash
# Installs anvil, the EVM node of demo, tests and benchmark, for the Makefile: install-anvil.sh TOOLS_DIRECTORY PIP
#
# It comes from npm, pinned by the lock file in deploy/tools/anvil. Where there is no npm, or npm fails, a Node in a
# wheel brings one. Only the platform's binary is used (.tools/anvil links to it): no install script of a package runs.
set -euo pipefail

tools=$1
pip=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/npm.sh"
version=1.7.1

case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform=linux-amd64 ;;
    Linux-aarch64) platform=linux-arm64 ;;
    *)
        echo "make: anvil has no binary for $(uname -s) on $(uname -m)" >&2
        exit 1
        ;;
esac
binary=node_modules/@foundry-rs/anvil-$platform/bin/anvil

is_installed() {
    "$tools/$binary" --version 2>/dev/null | grep -qF "$version"
}

# $@ is the command that stands for npm. It runs inside the directory, since --prefix would hide the machine's npmrc.
npm_install() {
    local options=(--cache "$scratch/npm" --ignore-scripts --no-audit --no-fund --loglevel=error)
    if [[ $platform == linux-amd64 ]]; then
        cp "$here/anvil/package.json" "$here/anvil/package-lock.json" "$tools/"
        (cd "$tools" && "$@" ci "${options[@]}") >>"$scratch/log" 2>&1
    else
        # The lock file holds the hash of the linux-amd64 package only.
        (cd "$tools" && "$@" install --no-save "${options[@]}" "@foundry-rs/anvil-$platform@$version") \
            >>"$scratch/log" 2>&1
    fi && is_installed
}

mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! is_installed; then
    echo "· anvil $version from npm"
    with_npm "$pip" "$scratch" npm_install "anvil $version"
fi
ln -sfn "$binary" "$tools/anvil"
