#!/usr/bin/env bash
# Writes a backup of the running stack:  ./backup.sh FOLDER
#
# Kaizen's own data as kaizen.tar.zst, while it runs, read again and compared; and
# what the other services cannot get from elsewhere: Grafana's database, the
# configuration that up.sh made. Give --with-keys to have Kaizen's keys, the
# secrets and the certificates too, in keys.tar: keep that file apart.
set -euo pipefail
cd "$(dirname "$0")"

keys=0
if [[ ${1:-} == --with-keys ]]; then
  keys=1
  shift
fi
to=${1:?backup.sh: name a folder that is not there yet}
umask 077
mkdir "$to"
to=$(cd "$to" && pwd)

# The container's file system is read-only but for its data: the archive is written
# there and moved out.
name=backup-$(date -u +%Y%m%dT%H%M%SZ).tar.zst
trap 'rm -f "data/kaizen/$name" "data/kaizen/$name.part"' EXIT
server=http://127.0.0.1:7070
extra=()
if grep -q '^COMPOSE_FILE=.*hardened' .env; then
  server=https://kaizen:7070
  extra=(--env SSL_CERT_FILE=/certs/ca.pem)
fi
# The key reaches the command in its environment, by docker compose's own: it is
# on no command line.
KAIZEN_API_KEY=$(<secrets/api_key)
export KAIZEN_API_KEY
docker compose exec --no-TTY --env KAIZEN_API_KEY "${extra[@]}" kaizen /kaizen backup --server "$server" --output "/data/$name"
unset KAIZEN_API_KEY
mv "data/kaizen/$name" "$to/kaizen.tar.zst"

# Grafana's database is SQLite: it is stopped for the moment of the copy.
docker compose stop --timeout 30 grafana >/dev/null
if ! tar --create --file "$to/grafana.tar" --directory data grafana; then
  docker compose start grafana >/dev/null
  exit 1
fi
docker compose start grafana >/dev/null

if ((keys)); then
  tar --create --file "$to/keys.tar" --directory . secrets certs --directory data/kaizen keys
  echo "keys.tar holds every secret of the stack: keep it apart from the rest."
fi
(cd "$to" && sha256sum -- * >SHA256SUMS)
echo "$to"
