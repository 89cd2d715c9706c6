#!/usr/bin/env bash
# Unmodified Kafka clients against our brokers: installs the clients, then runs clients.py. Arguments go to it.
#
#   .ci/clients.sh                     everything
#   .ci/clients.sh --kills 20          a longer kill loop
#   .ci/clients.sh --only dev,kill     some parts: bad-input, dev, processes, kill, full-disk
#
# BROKER names a binary to test; without it the one of this checkout is built. The clients are kept in
# ${CI_CLIENTS_HOME:-~/.cache/kafka-trial-clients}. Without Java or Maven the Java tools are passed over, and said so.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
home=${CI_CLIENTS_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/kafka-trial-clients}
mkdir -p "$home"

if ! command -v kcat >/dev/null; then
  root=; [ "$(id -u)" = 0 ] || root=sudo
  $root apt-get install -y -q kcat >"$home/apt.log" 2>&1 ||
    { $root apt-get update -q && $root apt-get install -y -q kcat; } >"$home/apt.log" 2>&1 ||
    { tail -n 5 "$home/apt.log" >&2; echo "clients.sh: cannot install kcat" >&2; exit 1; }
fi

wanted='kafka-python==3.0.12 confluent-kafka==2.16.1 lz4==4.4.5 python-snappy==0.7.3 zstandard==0.25.0'
if [ "$(cat "$home/venv/wanted" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$home/venv"
  python3 -m venv "$home/venv"
  # shellcheck disable=SC2086
  "$home/venv/bin/pip" install -q --disable-pip-version-check $wanted
  echo "$wanted" > "$home/venv/wanted"
fi

if command -v java >/dev/null && command -v mvn >/dev/null; then
  stamp=$(cksum < "$here/kafka/pom.xml")
  if [ "$(cat "$home/kafka/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$home/kafka"
    mvn -B -q -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$home/kafka/libs" >&2
    echo "$stamp" > "$home/kafka/stamp"
  fi
  export KAFKA_LIBS=$home/kafka/libs
fi

if [ -z "${BROKER:-}" ]; then
  (cd "$here/.." && cargo build -q -p broker-server --bin broker)
  target=${CARGO_TARGET_DIR:-$here/../target}
  BROKER=$target/debug/broker
fi
export BROKER
exec "$home/venv/bin/python" "$here/clients.py" "$@"
