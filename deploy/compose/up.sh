#!/usr/bin/env bash
# Starts the stack:  ./up.sh [PROFILE…]     (light, observability, logs; default light)
#                    ./up.sh hardened       all of them, with TLS everywhere behind a proxy
#                    ./up.sh --prepare …    makes secrets, certificates, folders and .env, and starts nothing
# Nothing has to be edited first. Secrets are made once, as files that only their
# owner reads, and never printed; settings are in .env, which it writes anew from
# the profiles and from your own in local.env.
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
    light | observability | logs | hardened) ;;
    *)
      echo "up.sh: no profile $p: choose among light, observability, logs, hardened" >&2
      exit 2
      ;;
  esac
done
if has hardened; then profiles=(light observability logs hardened); fi

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
for dir in secrets data certs generated; do
  mkdir -p "$dir"
  [[ -e $dir/.gitignore ]] || echo '*' >"$dir/.gitignore"
done
secret api_key grafana_admin_password grafana_secret_key
secret elastic_password elastic_shipper_password elastic_reader_password kibana_password kibana_encryption_key
folders=(kaizen grafana)
if has observability; then folders+=(prometheus alertmanager jaeger collector); fi
if has logs; then folders+=(elasticsearch kibana); fi
for f in "${folders[@]}"; do mkdir -p "data/$f"; done

# setting NAME DEFAULT  is what local.env says.
setting() {
  local value=
  if [[ -e local.env ]]; then value=$(sed -n "s/^$1=//p" local.env | tail -1); fi
  echo "${value:-$2}"
}

{
  echo "# Written by up.sh; it is written anew at each start, from local.env too."
  echo "COMPOSE_PROFILES=$(IFS=,; echo "${profiles[*]}")"
  echo "KAIZEN_UID=$uid"
  echo "KAIZEN_GID=$gid"
  if has observability; then
    # The collector takes the usual ports and hands on to the server.
    echo "KAIZEN_OTLP_GRPC_PORT=24317"
    echo "KAIZEN_OTLP_HTTP_PORT=24318"
    echo "GRAFANA_DATASOURCES=observability.yaml"
  fi
  if has logs; then
    echo "KAIZEN_SHIP_LOGS=http://elasticsearch:9200"
    echo "GRAFANA_LOG_DATASOURCES=logs.yaml"
  fi
  if has hardened; then
    echo "COMPOSE_FILE=compose.yaml:compose.hardened.yaml"
    echo "GRAFANA_DATASOURCES=hardened.yaml"
    echo "GRAFANA_LOG_DATASOURCES=nologs.yaml"
  fi
  if [[ -e local.env ]]; then cat local.env; fi
} >.env

# kaizen runs our command in this directory: as KAIZEN_BIN says, else as built
# here, else from the image, which is built first.
kaizen() {
  local here=../../bin/kaizen
  if [[ -n ${KAIZEN_BIN:-} ]]; then
    "$KAIZEN_BIN" "$@"
  elif [[ -x $here ]]; then
    "$here" "$@"
  else
    [[ -n $(docker image ls --quiet kaizen:local) ]] || docker compose build --quiet kaizen
    docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$PWD:/work" --workdir /work kaizen:local "$@"
  fi
}

# web NAME  writes the configuration that makes NAME ask for TLS and a password.
web() {
  local hash
  hash=$(sed 's/^kaizen://' "generated/${1//-/_}_password.htpasswd")
  printf '%s\n' "tls_server_config: {cert_file: /certs/$1.pem, key_file: /certs/$1-key.pem, min_version: TLS12}" \
    "basic_auth_users: {kaizen: '$hash'}" >"generated/$1-web.yml"
}

if has hardened; then
  secret prometheus_password alertmanager_password node_exporter_password jaeger_password
  kaizen secrets --dir secrets --htpasswd kaizen --out generated prometheus_password alertmanager_password node_exporter_password jaeger_password >/dev/null
  web prometheus
  web alertmanager
  web node-exporter
  cp generated/jaeger_password.htpasswd generated/jaeger.htpasswd
  domain=$(setting KAIZEN_DOMAIN localhost)
  hosts=localhost,127.0.0.1
  for name in kaizen otlp grafana kibana prometheus alertmanager jaeger; do hosts+=,$name.$domain; done
  names=(proxy="$hosts")
  for name in kaizen grafana prometheus alertmanager node-exporter jaeger collector elasticsearch kibana; do
    names+=("$name=$name,localhost,127.0.0.1")
  done
  kaizen certs issue --dir certs "${names[@]}" >/dev/null
fi
if (($(id -u) == 0)); then
  chown -R "$uid:$gid" secrets data certs generated
  chown 0:0 certs/ca-key.pem 2>/dev/null || true # no service reads it
fi

((start)) || exit 0
docker compose up --detach --build --wait
if has logs; then docker compose run --rm --no-TTY logs-dashboards; fi
echo "Secrets are in deploy/compose/secrets, one file each."
if has hardened; then
  port=$(setting PROXY_PORT 8443)
  for name in kaizen grafana kibana prometheus alertmanager jaeger otlp; do echo "https://$name.$domain:$port"; done
  echo "Clients trust deploy/compose/certs/ca.pem; certificates are renewed by running up.sh again."
  exit 0
fi
cat <<END
Kaizen   http://127.0.0.1:7070   key: api_key
Grafana  http://127.0.0.1:3000   admin, password: grafana_admin_password
Agents   http://127.0.0.1:4318 (OTLP over HTTP), 127.0.0.1:4317 (gRPC), with the key
END
if has observability; then
  echo "Prometheus http://127.0.0.1:9090, Alertmanager http://127.0.0.1:9093, Jaeger http://127.0.0.1:16686"
fi
if has logs; then echo "Kibana   http://127.0.0.1:5601   elastic or kaizen_reader, passwords: elastic_password, elastic_reader_password"; fi
