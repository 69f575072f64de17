#!/usr/bin/env bash
# Runs every fuzz test for a time each: scripts/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "$0")/.."
for module in . providers server; do
  (
    cd "$module"
    grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -r -n1 dirname | sort -u | while read -r dir; do
      [[ $module == . && ($dir == ./server* || $dir == ./providers*) ]] && continue
      grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | cut -c6- | while read -r name; do
        echo "== $module $dir $name"
        go test -run '^$' -fuzz "^$name\$" -fuzztime "${1:-30s}" "$dir" </dev/null
      done
    done
  )
done
