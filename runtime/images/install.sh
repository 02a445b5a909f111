#!/bin/sh
# Install one component from the lock into a virtual environment of its own: install.sh EXTRA TARGET
#
# Run in the root of the sources, with uv on PATH. Every package is checked against its hash in locks/dev.txt, which
# holds all extras; only wheels are installed, so that no package's own code runs while it is installed.
# COMPILE= (empty) leaves out the bytecode: an installation that is only looked at starts once.
set -eu
extra=$1
target=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

locked() { # locked PYTHON REQUIREMENT...
  python=$1
  shift
  uv pip install --quiet --no-config --python "$python" --verify-hashes --only-binary :all: \
    --constraints locks/dev.txt "$@"
}

uv venv --quiet --no-config --no-project "$work/build"
locked "$work/build/bin/python" hatchling
"$work/build/bin/python" -m hatchling build -t wheel -d "$work/dist" >/dev/null

uv venv --quiet --no-config --no-project --relocatable "$target"
# shellcheck disable=SC2086 # empty is no argument
locked "$target/bin/python" ${COMPILE---compile-bytecode} "plimsoll[$extra] @ file://$(echo "$work"/dist/plimsoll-*.whl)"
