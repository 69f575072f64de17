#!/usr/bin/env bash
# Starts the stack:  ./up.sh [PROFILE…]     (light, observability, logs; default light)
#                    ./up.sh --prepare …    makes secrets, folders and .env, and starts nothing
# Nothing has to be edited first. Secrets are made once, as files that only their
# owner reads, and never printed; settings are in .env, which it writes anew.
set -euo pipefail
cd "$(dirname "$0")"

start=1
if [[ ${1:-} == --prepare ]]; then
  start=0
  shift
fi
profiles=("$@")
((${#profiles[@]})) || profiles=(light)
has() { [[ " ${profiles[*]} " == *" $1 "* ]]; }
for p in "${profiles[@]}"; do
  case $p in
    light | observability | logs) ;;
    *)
      echo "up.sh: no profile $p: choose among light, observability, logs" >&2
      exit 2
      ;;
  esac
done

# Containers run as whoever starts them, so that they can read their secrets; as
# nobody in particular when that is root.
uid=$(id -u) gid=$(id -g)
if ((uid == 0)); then uid=65532 gid=65532; fi

umask 077
secret() { # makes the files that are missing
  for name in "$@"; do
    [[ -s secrets/$name ]] || head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >"secrets/$name"
  done
}
mkdir -p secrets data
[[ -e secrets/.gitignore ]] || echo '*' >secrets/.gitignore
secret api_key grafana_admin_password grafana_secret_key
folders=(kaizen grafana)
if has observability; then folders+=(prometheus alertmanager jaeger collector); fi
if has logs; then
  secret elastic_password elastic_shipper_password elastic_reader_password kibana_password kibana_encryption_key
  folders+=(elasticsearch kibana)
fi
for f in "${folders[@]}"; do mkdir -p "data/$f"; done
if (($(id -u) == 0)); then chown -R "$uid:$gid" secrets data; fi

{
  echo "# Written by up.sh; it is written anew at each start."
  echo "COMPOSE_PROFILES=$(IFS=,; echo "${profiles[*]}")"
  echo "KAIZEN_UID=$uid"
  echo "KAIZEN_GID=$gid"
  if has observability; then
    # The collector takes the usual ports and hands on to the server.
    echo "KAIZEN_OTLP_GRPC_PORT=24317"
    echo "KAIZEN_OTLP_HTTP_PORT=24318"
    echo "GRAFANA_DATASOURCES=observability.yaml"
  fi
  if has logs; then echo "KAIZEN_SHIP_LOGS=http://elasticsearch:9200"; fi
} >.env

((start)) || exit 0
docker compose up --detach --build --wait
cat <<END
Kaizen   http://127.0.0.1:7070   key: deploy/compose/secrets/api_key
Grafana  http://127.0.0.1:3000   admin, password: deploy/compose/secrets/grafana_admin_password
Agents   http://127.0.0.1:4318 (OTLP over HTTP), 127.0.0.1:4317 (gRPC), with the key
END
