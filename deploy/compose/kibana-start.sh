#!/usr/bin/env bash
# Starts Kibana with a configuration that holds its password: Kibana takes neither
# a file nor a variable for it that would not show in ps. The configuration is
# in memory (a tmpfs), readable by Kibana's own user only.
set -euo pipefail
umask 077

config=/config
cp /usr/share/kibana/config/node.options "$config/" 2>/dev/null || true
tls=${KIBANA_CERT:+true}
{
  echo "server.host: 0.0.0.0"
  echo "server.publicBaseUrl: \"${KIBANA_PUBLIC_URL:-http://127.0.0.1:5601}\""
  echo "elasticsearch.hosts: [\"${ELASTIC_URL:-http://elasticsearch:9200}\"]"
  echo "elasticsearch.username: kibana_system"
  echo "elasticsearch.password: \"$(cat /run/secrets/kibana_password)\""
  echo "xpack.encryptedSavedObjects.encryptionKey: \"$(cat /run/secrets/kibana_encryption_key)\""
  echo "xpack.security.encryptionKey: \"$(cat /run/secrets/kibana_encryption_key)\""
  echo "xpack.security.cookieName: kaizen-kibana"
  echo "telemetry.optIn: false"
  echo "telemetry.allowChangingOptInStatus: false"
  if [[ -n $tls ]]; then
    echo "elasticsearch.ssl.certificateAuthorities: [\"$CA_FILE\"]"
    echo "server.ssl: {enabled: true, certificate: \"$KIBANA_CERT\", key: \"$KIBANA_KEY\"}"
    echo "xpack.security.secureCookies: true"
  fi
} >"$config/kibana.yml"
export KBN_PATH_CONF=$config
exec /usr/local/bin/kibana-docker
