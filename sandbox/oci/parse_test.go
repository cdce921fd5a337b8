package oci

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const routes = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101A8C0	0003	0	0	0	00000000	0	0	0
eth0	0001A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
clmine	0000400A	00000000	0001	0	0	0	00FFFFFF	0	0	0
tun0	0000400A	00000000	0001	0	0	0	0000C0FF	0	0	0
`

func TestParseRoutes(t *testing.T) {
	want := []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"), netip.MustParsePrefix("10.64.0.0/10")}
	got := parseRoutes([]byte(routes), "clmine")
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseRoutes(f *testing.F) {
	f.Add([]byte(routes))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, p := range parseRoutes(text, "own") {
			if !p.IsValid() || p.Bits() == 0 {
				t.Errorf("%v is no route", p)
			}
		}
	})
}

// The subnet is free, in our range, and the same for the same node while nothing else changes.
func TestFreeSubnet(t *testing.T) {
	within := netip.MustParsePrefix("10.64.0.0/10")
	rapid.Check(t, func(t *rapid.T) {
		node := rapid.String().Draw(t, "node")
		first, ok := freeSubnet(node, nil)
		if !ok || !within.Contains(first.Addr()) || first.Bits() != 24 {
			t.Fatalf("subnet %v", first)
		}
		bits := rapid.IntRange(11, 32).Draw(t, "bits")
		taken := []netip.Prefix{netip.PrefixFrom(first.Addr(), bits).Masked()}
		second, ok := freeSubnet(node, taken)
		if !ok || second.Overlaps(taken[0]) {
			t.Fatalf("%v overlaps %v", second, taken)
		}
	})
	if p, ok := freeSubnet("n", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); ok {
		t.Errorf("%v is not free", p)
	}
}

func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	stub, real := filepath.Join(dir, "stub"), filepath.Join(dir, "real")
	must(os.WriteFile(stub, []byte("nameserver 127.0.0.53\noptions edns0\n"), 0o600))
	must(os.WriteFile(real, []byte("nameserver ::1\nnameserver 192.0.2.53\nsearch lan\n"), 0o600))
	if got := resolvConf([]string{stub, real}, true); got != "nameserver 192.0.2.53\nsearch lan\n" {
		t.Errorf("on the bridge: %q", got)
	}
	if got := resolvConf([]string{stub, real}, false); !strings.Contains(got, "127.0.0.53") {
		t.Errorf("on the host's network: %q", got)
	}
	if got := resolvConf([]string{stub}, true); strings.Contains(got, "nameserver 127") {
		t.Errorf("with a stub alone: %q", got)
	}
}

func TestOOMKillCount(t *testing.T) {
	for text, want := range map[string]int{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n": 3,
		"low 0\noom 5\noom_kill 1\noom_group_kill 0\n":  1,
	} {
		if got, ok := oomKillCount([]byte(text)); !ok || got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "oom_kill x", "oom_kill_disable 0"} {
		if got, ok := oomKillCount([]byte(text)); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestContainerID(t *testing.T) {
	if id := containerID("n-abc", "r-def"); id != "n-abc-r-def" {
		t.Error(id)
	}
	long := containerID("n-abc", strings.Repeat("x", 100))
	if len(long) > 76 || !strings.HasPrefix(long, "n-abc-") || long == containerID("n-abc", strings.Repeat("x", 101)) {
		t.Error(long)
	}
}
