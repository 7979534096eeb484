#!/usr/bin/env bash
# Starts three rqlite nodes and two Caddys on this machine, and stops them with
# Ctrl-C. It needs rqlited (https://github.com/rqlite/rqlite/releases, in PATH or
# named by RQLITED). CADDY names a Caddy with this plugin; without it one is built
# from this checkout. The data is in ./data.
set -euo pipefail
cd "$(dirname "$0")"

rqlited=${RQLITED:-rqlited}
command -v "$rqlited" >/dev/null || { echo "rqlited is not here: download it from https://github.com/rqlite/rqlite/releases and put it into PATH, or name it by RQLITED" >&2; exit 1; }
mkdir -p data
caddy=${CADDY:-}
if [ -z "$caddy" ]; then
	caddy=$PWD/data/caddy
	(cd ../.. && go build -o "$caddy" ./cmd/caddy)
fi

export RQLITE_PASSWORD=${RQLITE_PASSWORD:-only-for-this-example}
umask 077
cat >data/users.json <<JSON
[{"username": "sessions", "password": "$RQLITE_PASSWORD", "perms": ["execute", "query", "status", "ready", "join"]}]
JSON

trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null; wait' EXIT
trap exit INT TERM

for i in 0 1 2; do
	"$rqlited" -node-id "n$i" -http-addr "127.0.0.1:40${i}1" -raft-addr "127.0.0.1:40${i}2" -auth data/users.json \
		-join 127.0.0.1:4002,127.0.0.1:4012,127.0.0.1:4022 -join-as sessions -bootstrap-expect 3 "data/n$i" >"data/n$i.log" 2>&1 &
done
SITE=http://localhost:8080 ADMIN=localhost:2019 "$caddy" run --config Caddyfile >data/caddy1.log 2>&1 &
SITE=http://localhost:8090 ADMIN=localhost:2029 "$caddy" run --config Caddyfile >data/caddy2.log 2>&1 &

cat <<'TEXT'
http://localhost:8080 and http://localhost:8090 share their sessions. Try it:

  curl -c jar -X POST 'localhost:8080/login?user=alice'
  curl -b jar localhost:8080; curl -b jar localhost:8090

Then kill one rqlited, and try again. Ctrl-C ends all.
TEXT
wait
