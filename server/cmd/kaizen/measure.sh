#!/bin/sh
# Prints what the server weighs: size of the static stripped binary, time from
# start to the ready line and to the first page, and resident memory when idle.
#
#   ./measure.sh [BINARY]
#
# Without BINARY it builds one, in a directory that it removes.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || :; rm -rf "$work"' EXIT INT TERM
binary=${1:-$work/kaizen}
if [ $# -eq 0 ]; then
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o "$binary" .
fi
printf 'binary: %s bytes, %s\n' "$(stat -c %s "$binary")" "$(file -b "$binary" 2>/dev/null | grep -o 'statically linked' || echo 'linking unknown')"

# start NAME DIR: starts a server and prints the milliseconds to its ready line.
start() {
	mkfifo "$work/ready"
	begun=$(date +%s%N)
	"$binary" serve --json --data "$2" --listen 127.0.0.1:0 --otlp-http 127.0.0.1:0 --otlp-grpc 127.0.0.1:0 \
		>"$work/ready" 2>"$work/log" &
	pid=$!
	read -r line <"$work/ready" || { cat "$work/log" >&2; exit 1; }
	ended=$(date +%s%N)
	rm "$work/ready"
	printf '%s: ready after %s ms (%s)\n' "$1" $(((ended - begun) / 1000000)) "$line"
	ui=${line#*\"ui\":\"}
	curl -fsS -o /dev/null "${ui%%\"*}/"
	curl -fsS -o /dev/null "${ui%%\"*}/api/traces"
	ended=$(date +%s%N)
	printf '%s: page and its first list after %s ms\n' "$1" $(((ended - begun) / 1000000))
}

stop() {
	kill -TERM "$pid"
	wait "$pid"
	pid=
}

start 'fresh directory' "$work/data"
sleep 20 # the first self-scrape and a garbage collection are behind it
awk '/^VmRSS|^VmHWM/ { printf "idle: %s %d KiB\n", $1, $2 }' "/proc/$pid/status"
stop
start 'second start' "$work/data"
stop
