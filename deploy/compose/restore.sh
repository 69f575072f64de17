#!/usr/bin/env bash
# Puts what backup.sh wrote into a stack that has no data yet:
#
#   ./up.sh --prepare PROFILE… && ./restore.sh FOLDER && ./up.sh PROFILE…
#
# Kaizen's data is compared, file by file, and its ledger verified, before it takes
# its place. Needs the image (up.sh builds it), bin/kaizen (make build), or
# KAIZEN_BIN.
set -euo pipefail
cd "$(dirname "$0")"

from=${1:?restore.sh: name the folder that backup.sh wrote}
from=$(cd "$from" && pwd)
(cd "$from" && sha256sum --check --quiet SHA256SUMS)
umask 077
mkdir -p data

if [[ -e .env ]] && command -v docker >/dev/null && [[ -n $(docker compose ps --quiet kaizen 2>/dev/null) ]]; then
  echo "restore.sh: the stack is running: docker compose down, first" >&2
  exit 1
fi
kaizen() {
  if [[ -n ${KAIZEN_BIN:-} ]]; then
    "$KAIZEN_BIN" "$@"
  elif [[ -x ../../bin/kaizen ]]; then
    ../../bin/kaizen "$@"
  else
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD/data:$PWD/data" --volume "$from:$from:ro" kaizen:local "$@"
  fi
}
kaizen restore "$from/kaizen.tar.zst" --data "$PWD/data/kaizen"

if [[ -e data/grafana && -n $(ls -A data/grafana) ]]; then
  echo "restore.sh: data/grafana is not empty and stays as it is" >&2
else
  tar --extract --file "$from/grafana.tar" --directory data
fi
if [[ -e $from/keys.tar ]]; then
  tar --extract --file "$from/keys.tar" --directory data/kaizen keys
  tar --extract --file "$from/keys.tar" --directory . --overwrite secrets certs
  echo "keys, secrets and certificates are those of the backup."
fi
if (($(id -u) == 0)); then chown -R 65532:65532 data/kaizen data/grafana secrets; fi
