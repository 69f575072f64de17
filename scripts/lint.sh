#!/usr/bin/env bash
# Formatting, vet, staticcheck, module tidiness, known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."

STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK=golang.org/x/vuln/cmd/govulncheck@v1.9.0
fail=0

unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [[ -n $unformatted ]]; then
  printf 'lint: not gofmt-ed:\n%s\n' "$unformatted" >&2
  fail=1
fi
for m in . providers server; do
  (cd "$m" && GOWORK=off go mod tidy -diff) || { echo "lint: $m/go.mod is not tidy" >&2; fail=1; }
  (cd "$m" && GOWORK=off go build ./...) || fail=1
  (cd "$m" && go vet ./...) || fail=1
  (cd "$m" && go run "$STATICCHECK" ./...) || fail=1
done
# The vulnerability database is a service on the network: without it the check
# cannot run, which is said and is no failure.
if curl -fsS --max-time 5 -o /dev/null https://vuln.go.dev/index/modules.json 2>/dev/null; then
  for m in . providers server; do (cd "$m" && go run "$GOVULNCHECK" ./...) || fail=1; done
else
  echo "lint: govulncheck not run: its database cannot be reached from here" >&2
fi
exit $fail
