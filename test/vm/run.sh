#!/usr/bin/env bash
# Runs the tests of sandbox/oci on a machine that has cgroup v2 alone: a virtual one with Debian's
# kernel, our test binary, and the containerd, runc, CNI plugins, iptables and nft of this machine.
# The guest's clock counts its instructions (-icount), so the tests' deadlines hold however slow the
# emulation is. usage: run.sh [REGEXP]   (as root; WORK is where it builds, 300 MB)
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
./deploy/deps.sh test qemu-system-x86 busybox-static cpio containerd runc containernetworking-plugins iptables nftables iproute2
root=$work/root
mkdir -p "$work" && rm -rf "$root" && mkdir -p "$root"/{bin,etc,new,root/bin,root/oci}

kernel() { # Debian's, with its modules
	local package
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ {print $2; exit}')
	(cd "$work" && rm -rf kernel && apt-get download -q "$package" && dpkg-deb -x "$package"_*.deb kernel)
	version=$(ls "$work/kernel/lib/modules")
	mkdir -p "$root/lib/modules/$version"
	(cd "$work/kernel/lib/modules/$version" && cp -r --parents modules.builtin modules.order kernel/{lib,net,fs/overlayfs,drivers/net/veth.ko} "$root/lib/modules/$version/")
	busybox depmod -b "$root" "$version"
}

put() { # a program with its libraries, where it is here
	local file
	for file in "$@" $(ldd "$@" 2>/dev/null | grep -o '/[^ :]*' | sort -u); do
		mkdir -p "$root$(dirname "$file")"
		cp -L "$file" "$root$file"
	done
}

kernel
put $(command -v containerd containerd-shim-runc-v2 runc nft ip) /usr/lib/cni/{bridge,host-local,portmap,loopback,firewall}
for name in ip{,6}tables{,-save,-restore}; do put "$(command -v $name)"; done
put /usr/lib/x86_64-linux-gnu/xtables/*.so
cp "$(command -v busybox)" "$root/bin/"
cp test/vm/init "$root/init"
echo 'root:x:0:0::/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"

export CGO_ENABLED=0 GOFLAGS='-trimpath -tags=grpcnotrace,nopshufb'
go test -c -o "$root/root/oci/oci.test" ./sandbox/oci
cp -r sandbox/oci/testdata "$root/root/oci/"
# The tests build their guest program with 'go build -o FILE …': in there it is built already.
go build -ldflags '-s -w' -o "$root/root/guest" ./sandbox/oci/testdata/guest
printf '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp /root/guest "$2"\n' >"$root/root/bin/go"
chmod +x "$root/root/bin/go" "$root/init"

(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"
qemu-system-x86_64 -accel tcg -icount shift=0,sleep=off -cpu max -m 2600 -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initrd" \
	-append "console=ttyS0 panic=-1 quiet RUN=${1:-.}" -nographic -no-reboot </dev/null | tee "$work/console"
grep -q '^vm: exit 0' <(tr -d '\r' <"$work/console")
