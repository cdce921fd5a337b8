#!/usr/bin/env bash
# Starts a development cluster, deploys the example to it, prints its address, and stays until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
export CLOUDLESS_CONTEXT=dev
ready=$(mktemp)
bin/cloudless dev -o json "$@" >"$ready" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" || true; rm -f "$ready"' EXIT
trap 'exit 0' INT TERM
until [ -s "$ready" ]; do
	kill -0 "$pid" 2>/dev/null || { wait "$pid"; exit 1; }
	sleep 0.1
done
bin/cloudless workload run wasm-examples/hello-c/hello.wasm --name hello --http --wait >&2
ingress=$(sed -E 's/.*"ingress":"([^"]*)".*/\1/' "$ready")
http=$(sed -E 's/.*"http":"([^"]*)".*/\1/' "$ready")
echo "The cluster is up. Its dashboard: $http/ui/   The example: curl -H 'Host: hello.localhost' $ingress/"
wait "$pid"
