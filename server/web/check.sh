#!/bin/sh
# Checks the page's sources: types of every module, then the unit tests.
set -eu
cd "$(dirname "$0")"
[ -x node_modules/.bin/tsc ] || npm ci --no-audit --no-fund --silent
node_modules/.bin/tsc -p .
node --test test/*.test.js
