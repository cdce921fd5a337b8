#!/usr/bin/env bash
# Builds the example guests: those in Go and the container's tarball always; with --all also those in C,
# Rust and AssemblyScript whose toolchains are on this machine. Their modules are committed, so nothing
# is missing without them. CLANG, RUSTC and ASC name other compilers.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "usage: $0 [--all]" >&2; exit 2; }
all=
case "$#:${1-}" in
0:) ;;
1:--all) all=yes ;;
*) usage ;;
esac

GO=${GO:-go}
CLANG=${CLANG:-clang}
RUSTC=${RUSTC:-/usr/bin/rustc} # Debian's: one of rustup would need the target added first
ASC=${ASC:-asc}
skipped=()

# Linkers make modules executable, which they are not for the host.
built() { chmod 644 "$1" && echo "built $1 ($(du -h --apparent-size "$1" | cut -f1))"; }
skip() { skipped+=("$1: $2"); }

go_guest() { # name, flags
	local name=$1 out=wasm-examples/$1/build/${1%%-*}.wasm
	shift
	mkdir -p "$(dirname "$out")"
	GOOS=wasip1 GOARCH=wasm "$GO" build "$@" -trimpath -ldflags '-s -w' -o "$out" "./wasm-examples/$name"
	built "$out"
}

container() {
	local out=wasm-examples/hello-oci/build/hello-oci.tar
	mkdir -p "$(dirname "$out")"
	"$GO" run ./wasm-examples/hello-oci/mkimage "$out"
	built "$out"
}

has() { command -v "$1" >/dev/null; }

# A compiler may be there without the parts for wasm, so a small program tells.
clang_works() { echo 'int x;' | "$CLANG" --target=wasm32-wasi -mexec-model=reactor -x c -o "$scratch/x" - 2>/dev/null; }
rustc_works() { echo 'pub fn f() {}' | "$RUSTC" --target wasm32-wasi --crate-type cdylib -o "$scratch/x" - 2>/dev/null; }

# A guest for WAGI is a command, the others wait for calls.
c_guest() { # name, source
	local out=wasm-examples/$1/${1%%-*}.wasm kind=reactor
	[[ $1 != *-wagi-* ]] || kind=command
	"$CLANG" --target=wasm32-wasi -O2 -s -mexec-model=$kind -o "$out" "wasm-examples/$1/$2"
	built "$out"
}

rust_guest() {
	local out=wasm-examples/$1/${1%%-*}.wasm kind=cdylib
	[[ $1 != *-wagi-* ]] || kind=bin
	"$RUSTC" --edition 2021 --target wasm32-wasi --crate-type $kind \
		-C opt-level=s -C lto -C panic=abort -C strip=symbols -o "$out" "wasm-examples/$1/$2"
	built "$out"
}

as_guest() {
	local out=wasm-examples/$1/${1%%-*}.wasm start=_initialize
	[[ $1 != *-wagi-* ]] || start=_start
	"$ASC" "wasm-examples/$1/$2" -O --runtime incremental --use abort= --exportStart $start -o "$out"
	built "$out"
}

prebuilt() {
	if ! has "$CLANG"; then skip "hello-c, hello-wagi-c, echo-c, visits-c, files-c" "no $CLANG"
	elif ! clang_works; then skip "hello-c, hello-wagi-c, echo-c, visits-c, files-c" "$CLANG cannot build for wasm32-wasi (lld, wasi-libc, libclang-rt-dev-wasm32)"
	else c_guest hello-c hello.c; c_guest hello-wagi-c hello.c; c_guest echo-c echo.c; c_guest visits-c visits.c; c_guest files-c files.c; fi

	if ! has "$RUSTC"; then skip "hello-rust, hello-wagi-rust, echo-rust, visits-rust" "no $RUSTC"
	elif ! rustc_works; then skip "hello-rust, hello-wagi-rust, echo-rust, visits-rust" "$RUSTC cannot build for wasm32-wasi (libstd-rust-dev-wasm32)"
	else rust_guest hello-rust hello.rs; rust_guest hello-wagi-rust hello.rs; rust_guest echo-rust echo.rs; rust_guest visits-rust visits.rs; fi

	if ! has "$ASC"; then skip "hello-as, hello-wagi-as, echo-as, visits-as" "no $ASC (npm install -g assemblyscript)"
	else as_guest hello-as hello.ts; as_guest hello-wagi-as hello.ts; as_guest echo-as echo.ts; as_guest visits-as visits.ts; fi
}

go_guest hello-go -buildmode=c-shared
go_guest echo-go -buildmode=c-shared
go_guest fetch-go -buildmode=c-shared
go_guest visits-go -buildmode=c-shared
go_guest hello-wagi-go
go_guest echo-wagi-go
go_guest hello-listener-go
go_guest job-go
go_guest service-go
container

if [ "$all" ]; then
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	prebuilt
else
	skip "hello, echo and visits in C, Rust and AssemblyScript" "their modules are committed; --all builds them anew"
fi
for s in "${skipped[@]+"${skipped[@]}"}"; do echo "skipped $s"; done
