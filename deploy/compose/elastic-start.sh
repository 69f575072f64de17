#!/usr/bin/env bash
# Starts Elasticsearch with its configuration in memory (a tmpfs): the root file
# system is read-only, and the image wants to write a key store beside it.
set -euo pipefail
umask 077
cp -r /usr/share/elasticsearch/config/. /config
if [[ -d /certs ]]; then # Elasticsearch reads keys below its configuration only
  mkdir -p /config/certs
  cp /certs/*.pem /config/certs/
fi
export ES_PATH_CONF=/config
exec /usr/local/bin/docker-entrypoint.sh eswrapper
