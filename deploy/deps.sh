#!/usr/bin/env bash
# Gets Debian packages that are missing: by apt as root, else it prints the line to type.
# usage: deps.sh run|test PACKAGE…   (run: goes on without them, test: fails without them)
set -euo pipefail
purpose=$1
shift
missing=()
for p in "$@"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >&2 && apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 && exit 0
fi
if [ "$purpose" = run ]; then
	echo "not installed: ${missing[*]}. Containers will not run here; WebAssembly will. To have them, as root: $line" >&2
	exit 0
fi
echo "the tests need: ${missing[*]}. As root: $line" >&2
exit 1
