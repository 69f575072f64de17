#!/usr/bin/env bash
# Checks everything in deploy/ with the tools that it is for: what Compose would
# load, for every choice of profiles, prepared as a fresh clone would be; the
# Dockerfile, the unit, the proxy, Prometheus's and Alertmanager's files, the
# scripts; and that secrets are neither printed nor committed. No warning is let
# through. Needs bin/kaizen (make build) and what scripts/test-setup.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."

fail=0
problem() {
  printf 'deploy-check: %s\n' "$*" >&2
  fail=1
}
# need TOOL  is true if TOOL is here. With CI=true it must be.
need() {
  command -v "$1" >/dev/null && return
  if [[ ${CI:-} == true ]]; then problem "$1 is not here: run scripts/test-setup.sh"; else echo "deploy-check: no $1 here, left out" >&2; fi
  return 1
}
PATH=${XDG_CACHE_HOME:-$HOME/.cache}/kaizen-test/lint/bin:$PATH:/usr/sbin
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
root=$PWD
[[ -x bin/kaizen ]] || {
  echo "deploy-check: bin/kaizen is missing: make build" >&2
  exit 2
}
export KAIZEN_BIN=$root/bin/kaizen

# A clone as whoever tries it gets it: what version control has, changes included.
clone=$tmp/clone
mkdir "$clone"
git ls-files -z --cached --others --exclude-standard -- deploy dashboards | while IFS= read -r -d '' f; do
  [[ -e $f ]] && printf '%s\0' "$f"
done | xargs -0 cp --parents --no-dereference --target-directory "$clone"
git -C "$clone" init --quiet
git -C "$clone" add --all
git -C "$clone" -c user.name=check -c user.email=check@localhost commit --quiet --message start
compose=$clone/deploy/compose

(cd peers && GOWORK=off go build -o "$tmp/composecheck" ./composecheck)
"$tmp/composecheck" -profiles light "$compose/compose.yaml" # without anything made
for profiles in light observability logs "light observability" "light logs" "light observability logs" hardened; do
  # shellcheck disable=SC2086 # words on purpose
  "$compose/up.sh" --prepare $profiles >"$tmp/first.out" 2>&1 || { cat "$tmp/first.out" >&2; problem "up.sh --prepare $profiles failed"; }
  for f in "$compose"/secrets/[a-z]*; do
    if grep -qF -- "$(cat "$f")" "$tmp/first.out"; then problem "up.sh prints ${f##*/}"; fi
  done
  args=(-env-file "$compose/.env" -prepared -profiles "${profiles// /,}")
  files=("$compose/compose.yaml")
  if [[ $profiles == hardened ]]; then
    args=(-env-file "$compose/.env" -prepared -published proxy -profiles "light,observability,logs,hardened,setup")
    files+=("$compose/compose.hardened.yaml")
  fi
  "$tmp/composecheck" "${args[@]}" "${files[@]}" || fail=1
done

# Logins from elsewhere.
printf x >"$compose/secrets/oidc_client_secret"
printf x >"$compose/secrets/ldap_password"
chmod 600 "$compose/secrets/oidc_client_secret" "$compose/secrets/ldap_password"
printf '%s\n' OIDC_CLIENT_ID=a OIDC_AUTH_URL=https://a OIDC_TOKEN_URL=https://a OIDC_API_URL=https://a >>"$compose/.env"
for example in oidc ldap; do
  "$tmp/composecheck" "${args[@]}" "${files[@]}" "$compose/examples/$example.yaml" || fail=1
done

# A second start changes no secret; git sees nothing; only owners read.
sums() { find "$compose/secrets" "$compose/certs" "$compose/generated" -type f -exec sha256sum {} + | sort; }
before=$(sums)
"$compose/up.sh" --prepare hardened >"$tmp/second.out" 2>&1 || problem "a second up.sh --prepare failed"
[[ $(sums) == "$before" ]] || problem "a second up.sh --prepare made secrets or certificates anew"
[[ -z $(git -C "$clone" status --porcelain) ]] || problem "git sees what up.sh makes: $(git -C "$clone" status --porcelain)"
while IFS= read -r f; do problem "others can read $f"; done < <(find "$compose/secrets" "$compose/generated" "$compose/certs" -type f ! -name '*.pem' -perm /077 -print -o -name '*-key.pem' -perm /077 -print)
"$KAIZEN_BIN" certs check --dir "$compose/certs" >/dev/null || problem "a certificate is not good"

# Syntax of everything, and that what refers to something finds it.
python3 scripts/deploy-check.py "$clone" || fail=1

if need hadolint; then hadolint --failure-threshold style deploy/Dockerfile || problem "hadolint"; fi
if need shellcheck; then
  mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
  shellcheck --severity=style "${scripts[@]}" || problem "shellcheck"
fi
if need systemd-analyze; then
  unit=$tmp/kaizen.service
  sed "s#^ExecStart=/usr/local/bin/kaizen#ExecStart=$KAIZEN_BIN#" deploy/systemd/kaizen.service >"$unit"
  out=$(systemd-analyze verify --recursive-errors=no "$unit" 2>&1) || problem "systemd-analyze verify"
  [[ -z $out ]] || problem "systemd-analyze verify: $out"
  # 20 of 100 is the edge of what it calls OK; the unit stands at 12.
  systemd-analyze security --offline=true --no-pager --threshold=20 "$unit" | tail -1 || problem "the unit is less confined than it was"
fi

# The proxy's configuration, at paths that are here. The image's nginx knows
# "http2 on", which Debian's does not yet.
if need nginx; then
  sed -e "s#/tmp/#$tmp/#" -e 's#^\( *\)http2 on;##' -e 's#listen 8443 ssl#listen 8443 ssl http2#' -e "s#/certs/#$compose/certs/#" \
    -e "s#/etc/nginx/jaeger.htpasswd#$compose/generated/jaeger.htpasswd#" deploy/proxy/nginx.conf >"$tmp/nginx.conf"
  out=$(nginx -t -q -e stderr -c "$tmp/nginx.conf" 2>&1) || problem "nginx -t"
  [[ -z $out ]] || problem "nginx -t: $out"
fi

# Prometheus, its web configuration and Alertmanager, likewise.
if need promtool; then
  cp -r "$clone/deploy/prometheus" "$tmp/prometheus"
  cp -r "$clone/dashboards/rules/." "$tmp/prometheus/rules/"
  mkdir "$tmp/run"
  cp -r "$compose/secrets" "$tmp/run/secrets"
  sed -i -e "s#/run/secrets/#$tmp/run/secrets/#" -e "s#/certs/#$compose/certs/#" -e "s#/etc/prometheus/rules/#$tmp/prometheus/rules/#" "$tmp"/prometheus/*.yml
  for f in prometheus.yml hardened.yml local.yml; do
    out=$(promtool check config "$tmp/prometheus/$f" 2>&1) || { printf '%s\n' "$out" >&2; problem "promtool check config $f"; }
  done
  for name in prometheus alertmanager node-exporter; do
    sed "s#/certs/#$compose/certs/#g" "$compose/generated/$name-web.yml" >"$tmp/$name-web.yml"
    out=$(promtool check web-config "$tmp/$name-web.yml" 2>&1) || { printf '%s\n' "$out" >&2; problem "promtool check web-config $name"; }
  done
fi
# Prometheus as it is hardened: who has the password and our authority finds it
# healthy, who shows none gets nothing. (The stack asks with promtool check healthy,
# which Debian's does not have yet.)
if need prometheus && need curl; then
  # Below the range from which the kernel gives ports to connections.
  port=$(python3 -c '
import random, socket
while True:
    port = random.randrange(12000, 32768)
    try:
        socket.socket().bind(("127.0.0.1", port))
        print(port)
        break
    except OSError:
        pass')
  echo '{}' >"$tmp/empty.yml"
  prometheus --config.file="$tmp/empty.yml" --web.config.file="$tmp/prometheus-web.yml" --web.listen-address="127.0.0.1:$port" \
    --storage.tsdb.path="$tmp/tsdb" --log.level=error >"$tmp/prometheus.log" 2>&1 &
  server=$!
  healthy=0
  for _ in {1..600}; do
    kill -0 "$server" 2>/dev/null || break
    if printf 'user = "kaizen:%s"' "$(<"$compose/secrets/prometheus_password")" |
      curl -K - -fsS -o /dev/null --max-time 4 --cacert "$compose/certs/ca.pem" "https://127.0.0.1:$port/-/healthy" 2>/dev/null; then
      healthy=1
      break
    fi
    sleep 0.2
  done
  ((healthy)) || { cat "$tmp/prometheus.log" >&2; problem "the hardened Prometheus is not healthy"; }
  status=$(curl -sS -o /dev/null -w '%{http_code}' --cacert "$compose/certs/ca.pem" "https://127.0.0.1:$port/metrics" || true)
  [[ $status == 401 ]] || problem "the hardened Prometheus answers $status without a password"
  kill "$server" && wait "$server" || true
fi
if need amtool; then amtool check-config deploy/prometheus/alertmanager.yml >/dev/null || problem "amtool check-config"; fi

((fail)) || echo "deploy-check: ok"
exit $fail
