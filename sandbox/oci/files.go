package oci

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// networkFiles are the files of /etc that a container sees from its own folder.
var networkFiles = []string{"hosts", "hostname", "resolv.conf"}

// resolvFiles are where the host's name servers are found; the second has the true ones where the
// first names a local stub.
var resolvFiles = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// writeFiles makes them. address is "" on the host's network, whose own files are then copied.
func writeFiles(dir, hostname, address string) error {
	hosts, err := hostsFile(hostname, address)
	if err != nil {
		return fmt.Errorf("container's /etc/hosts: %w", err)
	}
	files := map[string]string{"hosts": hosts, "hostname": hostname + "\n", "resolv.conf": resolvConf(resolvFiles, address != "")}
	for name, text := range files {
		if err := writeShared(filepath.Join(dir, name), text); err != nil {
			return fmt.Errorf("container's /etc/%s: %w", name, err)
		}
	}
	return nil
}

// writeShared writes a file that any user may read, whatever the agent's umask is.
func writeShared(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

func hostsFile(hostname, address string) (string, error) {
	if address == "" {
		text, err := os.ReadFile("/etc/hosts")
		if err != nil && !os.IsNotExist(err) {
			return "", err
		}
		return string(text) + "127.0.0.1\t" + hostname + "\n", nil
	}
	return "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + address + "\t" + hostname + "\n", nil
}

// resolvConf is the host's. On the bridge, a name server at a loopback address is out of reach and
// left out; the first file that has another wins.
func resolvConf(files []string, bridged bool) string {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if !bridged {
			return string(text)
		}
		if kept, servers := withoutLoopback(string(text)); servers > 0 {
			return kept
		}
	}
	return "# this machine's name servers cannot be reached from a container\n"
}

func withoutLoopback(text string) (kept string, servers int) {
	var lines []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" {
			if addr, err := netip.ParseAddr(f[1]); err != nil || addr.IsLoopback() {
				continue
			}
			servers++
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return strings.Join(lines, "\n") + "\n", servers
}
