#!/usr/bin/env bash
# Runs the tests of all modules under the race detector: scripts/test.sh [PACKAGES].
# With CI=true a skipped test is a failure (tools/testreport).
set -euo pipefail
cd "$(dirname "$0")/.."

packages=("$@")
counted=("$@") # whose allocations are counted
if ((${#packages[@]} == 0)); then
  # The longest first, so that none is left to run alone at the end.
  packages=(./server/cmd/kaizen ./audit ./... ./providers/... ./server/...)
  counted=(./...)
fi
mkdir -p artifacts
export KAIZEN_ARTIFACTS=${KAIZEN_ARTIFACTS:-$PWD/artifacts}
{
  # Two packages at a time: the crash and browser tests want processor time of their own.
  # Allocations are counted without the race detector, which makes pools forget; and
  # every bit of a small ledger is flipped, which would take minutes with it.
  race=0
  go test -race -json -p 2 -timeout 20m "${packages[@]}" || race=$?
  go test -json -run 'Allocations|EveryBitFlip' "${counted[@]}" || race=$?
  # Programs of others read the ledger: a module of its own, outside the workspace.
  if (($# == 0)); then (cd peers && GOWORK=off go test -json -timeout 10m ./tlogclient ./ledgerreader) || race=$?; fi
  exit "$race"
} | go run ./tools/testreport
