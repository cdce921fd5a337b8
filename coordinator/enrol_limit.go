package coordinator

import (
	"hash/maphash"
	"net/netip"

	"golang.org/x/time/rate"

	"github.com/cloudless/cloudless/api"
)

// Rates of enrolment, which needs no certificate. Each attempt costs a line of the audit log, so there
// is a limit for all strangers together, too; one address reaches only a part of it.
const (
	enrolPerSecond    = 20 // from one address
	enrolBurst        = 100
	enrolAllPerSecond = 100
	enrolAllBurst     = 500
	enrolShares       = 1024 // addresses fall into so many shares, whose memory is all that is used
	enrolPrefixV6     = 64   // of an IPv6 address: the rest is its owner's choice
)

// enrolLimit holds the rates. Addresses that fall into one share have one rate between them.
type enrolLimit struct {
	seed   maphash.Seed
	shares [enrolShares]*rate.Limiter
	all    *rate.Limiter
}

func newEnrolLimit() *enrolLimit {
	l := &enrolLimit{seed: maphash.MakeSeed(), all: rate.NewLimiter(enrolAllPerSecond, enrolAllBurst)}
	for i := range l.shares {
		l.shares[i] = rate.NewLimiter(enrolPerSecond, enrolBurst)
	}
	return l
}

// allow takes one attempt off the budget of the address that it comes from.
func (l *enrolLimit) allow(remote string) error {
	if l.shares[l.share(remote)].Allow() && l.all.Allow() {
		return nil
	}
	return api.Errorf(api.CodeRateLimited, "too many enrolments at once").WithHint("try again in a second")
}

// share is where the sender of a request belongs. What is no address, as in tests, is one sender.
func (l *enrolLimit) share(remote string) int {
	var from netip.Prefix
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		addr := ap.Addr().Unmap().WithZone("")
		from, _ = addr.Prefix(min(enrolPrefixV6, addr.BitLen())) // the length is in range
	}
	return int(maphash.Comparable(l.seed, from) % enrolShares)
}
