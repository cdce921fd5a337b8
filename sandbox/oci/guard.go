package oci

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

func (b *bridge) table() string { return "cloudless_" + b.name }

// guard keeps containers on the bridge from link-local addresses, where clouds answer with
// credentials, and from the cluster's own ports. One table for the node, made anew on each start.
func (b *bridge) guard(ctx context.Context, ports []int) error {
	ctx, cancel := context.WithTimeout(ctx, bridgeCommandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(guardRules(b.table(), b.name, ports))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (b *bridge) unguard(ctx context.Context) {
	// Fails where there is no nft, and then there is no table either.
	_ = exec.CommandContext(ctx, "nft", "delete", "table", "inet", b.table()).Run()
}

// guardRules declares the table before deleting it, so that the delete cannot fail.
func guardRules(table, bridge string, ports []int) string {
	var rules strings.Builder
	fmt.Fprintf(&rules, "table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table, table)
	for _, hook := range []string{"input", "forward"} {
		fmt.Fprintf(&rules, "chain from_containers_%s {\ntype filter hook %s priority -5; policy accept;\n", hook, hook)
		fmt.Fprintf(&rules, "iifname != %q accept\n", bridge)
		rules.WriteString("ct state established,related accept\n")
		rules.WriteString("ip daddr 169.254.0.0/16 reject with icmpx type admin-prohibited\n")
		rules.WriteString("ip6 daddr fe80::/10 meta l4proto != ipv6-icmp reject with icmpx type admin-prohibited\n") // neighbours may ask for each other
		if len(ports) > 0 {
			set := portSet(ports)
			fmt.Fprintf(&rules, "tcp dport { %s } reject with tcp reset\nudp dport { %s } reject with icmpx type admin-prohibited\n", set, set)
		}
		rules.WriteString("}\n")
	}
	rules.WriteString("}\n")
	return rules.String()
}

func portSet(ports []int) string {
	ports = slices.Clone(ports)
	slices.Sort(ports)
	var names []string
	for _, p := range slices.Compact(ports) {
		names = append(names, strconv.Itoa(p))
	}
	return strings.Join(names, ", ")
}

// parseRoutes reads /proc/net/route, whose numbers are little-endian hexadecimal: the destinations
// that are not reached by interface own and not the default.
func parseRoutes(text []byte, own string) []netip.Prefix {
	var prefixes []netip.Prefix
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[0] == own {
			continue
		}
		addr, okAddr := littleEndian(f[1])
		mask, okMask := littleEndian(f[7])
		bits := maskBits(mask)
		if okAddr && okMask && bits > 0 {
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4(addr), bits).Masked())
		}
	}
	return prefixes
}

func littleEndian(s string) (a [4]byte, ok bool) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 4 {
		return a, false
	}
	slices.Reverse(raw)
	return [4]byte(raw), true
}

func maskBits(mask [4]byte) int {
	bits := 0
	for _, b := range mask {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	return bits
}
