#!/usr/bin/env bash
# Our broker and Apache Kafka on this machine, one after the other, with the same server.properties and the same
# clients: three nodes, each broker and controller, replication factor 3, acks=all. Prints both. Arguments go to compare.py.
#
#   .ci/compare.sh                     1 M records of 100 bytes and 200,000 of 1 KiB
#   .ci/compare.sh --records 100000    a quick look
#
# Needs Java and Maven, for Kafka's jars; kcat; Python. No part of CI: a busy machine spoils the figures.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
home=${CI_CLIENTS_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/kafka-trial-clients}
# The clients are those of clients.sh, which installs them.
[ -x "$home/venv/bin/python" ] && command -v kcat >/dev/null || "$here/clients.sh" --only ""
stamp=$(cksum < "$here/kafka/broker.xml")
if [ "$(cat "$home/kafka-broker/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$home/kafka-broker"
  mvn -B -q -f "$here/kafka/broker.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$home/kafka-broker/libs" >&2
  echo "$stamp" > "$home/kafka-broker/stamp"
fi
export KAFKA_LIBS=$home/kafka-broker/libs
if [ -z "${BROKER:-}" ]; then
  (cd "$here/.." && cargo build -q --release -p broker-server --bin broker)
  BROKER=${CARGO_TARGET_DIR:-$here/../target}/release/broker
fi
export BROKER
exec "$home/venv/bin/python" "$here/compare.py" "$@"
