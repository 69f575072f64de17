#!/usr/bin/env bash
# Runs once in a container of the Elasticsearch image, and may run again:
#
#   elastic-setup.sh server       lifecycle, pipeline, template, streams, roles and users
#   elastic-setup.sh dashboards   Kibana's saved objects
#
# Passwords come from files in /run/secrets and reach curl on its standard input:
# no command line and no message holds one.
set -euo pipefail

es=${ELASTIC_URL:-http://elasticsearch:9200}
kibana=${KIBANA_URL:-http://kibana:5601}
config=${SETUP_DIR:-/setup}
secret() { cat "${SECRETS_DIR:-/run/secrets}/$1"; }

# call METHOD URL [CURL ARGUMENTS…]  sends a request as the superuser and prints
# the answer; a status that is not 2xx is an error.
call() {
  local method=$1 url=$2
  shift 2
  printf 'user = "elastic:%s"\n' "$(secret elastic_password)" |
    curl --config - --silent --show-error --fail-with-body --max-time 60 ${CA_FILE:+--cacert "$CA_FILE"} --request "$method" "$@" "$url"
}

# put PATH  sends standard input as JSON.
put() { call "${2:-PUT}" "$es$1" --header 'Content-Type: application/json' --data-binary @/dev/fd/3 3<&0 >/dev/null && echo "set: $1"; }

# user NAME ROLE SECRET  makes a user with that role and the password of that file.
user() {
  printf '{"password":"%s","roles":["%s"],"full_name":"%s of Kaizen"}' "$(secret "$3")" "$2" "$2" | put "/_security/user/$1"
}

server() {
  put /_ilm/policy/kaizen-logs <"$config/elasticsearch/lifecycle.json"
  put /_ingest/pipeline/kaizen-logs <"$config/ingest-pipeline.json"
  put /_index_template/kaizen-logs <"$config/elasticsearch/index-template.json"
  put /_security/role/kaizen_shipper <"$config/elasticsearch/role-shipper.json"
  put /_security/role/kaizen_reader <"$config/elasticsearch/role-reader.json"
  user kaizen_shipper kaizen_shipper elastic_shipper_password
  user kaizen_reader kaizen_reader elastic_reader_password
  printf '{"password":"%s"}' "$(secret kibana_password)" | put /_security/user/kibana_system/_password POST
  for stream in logs-kaizen-default logs-kaizen.audit-default; do
    # Grafana and Kibana find them before the first line comes.
    call GET "$es/_data_stream/$stream" --output /dev/null 2>/dev/null || put "/_data_stream/$stream" </dev/null
  done
}

dashboards() {
  call POST "$kibana/api/saved_objects/_import?overwrite=true" --header 'kbn-xsrf: kaizen' \
    --form file=@"$config/kibana.ndjson" | grep -q '"success":true'
  echo "set: Kibana's dashboards"
}

case ${1:-} in
  server | dashboards) "$1" ;;
  *)
    echo "elastic-setup.sh: server or dashboards?" >&2
    exit 2
    ;;
esac
