#!/usr/bin/env bash
# Installs what the tests use beside Go: Chromium for the page, Prometheus and
# promtool as peers of the embedded metrics store, Node.js for the page's types.
# What cannot be installed here is named, and the tests that need it are
# skipped; with CI=true they fail instead.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'test-setup: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

missing=()
has chromium || has chromium-browser || has google-chrome || missing+=(chromium)
has promtool && has prometheus || missing+=(prometheus)
has node && has npm || missing+=(nodejs npm)
has javac && has mvn || missing+=(default-jdk-headless maven) # OpenSearch, as a peer of log shipping
has gcc || has clang || missing+=(gcc libc6-dev) # the race detector needs a C compiler

if ((${#missing[@]})); then
  if has apt-get && [[ $(id -u) == 0 ]]; then
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # The package starts a server of its own, which no test wants.
    if [[ " ${missing[*]} " == *" prometheus "* ]] && has systemctl; then
      systemctl disable --now prometheus prometheus-node-exporter >/dev/null 2>&1 || true
    fi
  elif has brew; then
    say "installing ${missing[*]} with Homebrew"
    for p in "${missing[@]}"; do
      case $p in
        chromium) brew install --quiet --cask chromium ;;
        nodejs) brew install --quiet node ;;
        npm | libc6-dev) ;;
        default-jdk-headless) brew install --quiet openjdk ;;
        *) brew install --quiet "$p" ;;
      esac
    done
  else
    say "cannot install ${missing[*]} here (not root on Debian, no Homebrew): the tests that need them are skipped"
  fi
fi

# OpenSearch comes as jars from Maven, pinned by its pom.xml; log shipping is
# tested against it.
opensearch=${XDG_CACHE_HOME:-$HOME/.cache}/kaizen-test/opensearch-2.19.1
if [[ ! -e $opensearch/opensearch-2.19.1.jar ]]; then
  if has mvn && has javac; then
    say "fetching OpenSearch 2.19.1"
    rm -rf "$opensearch.part"
    mvn -q -B -f server/internal/logship/testdata/opensearch/pom.xml dependency:copy-dependencies -DoutputDirectory="$opensearch.part" >&2 &&
      rm -rf "$opensearch" && mv "$opensearch.part" "$opensearch"
  else
    say "no Maven or JDK here: the tests against OpenSearch are skipped"
  fi
fi
