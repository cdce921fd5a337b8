package coordinator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudless/cloudless/api"
)

// One address has enrolBurst attempts at once and enrolPerSecond after that. The next is refused with
// a hint, and somebody at another address is not.
func TestEnrolmentIsLimitedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := (&Server{}).joinAPI()
		ask := func(from string) *httptest.ResponseRecorder {
			// The body is refused right after the limit, so that nothing else is needed.
			r := httptest.NewRequest(http.MethodPost, api.PathEnrol, strings.NewReader("no JSON"))
			r.RemoteAddr = from
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			return rec
		}
		passes := func(from string, n int) {
			t.Helper()
			for i := range n {
				if rec := ask(fmt.Sprintf(from, i)); rec.Code != http.StatusBadRequest {
					t.Fatalf("attempt %d of %d: %d %s", i+1, n, rec.Code, rec.Body)
				}
			}
			rec := ask(fmt.Sprintf(from, n))
			var body api.ErrorBody
			if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if rec.Code != http.StatusTooManyRequests || body.Error.Code != api.CodeRateLimited || body.Error.Hint == "" {
				t.Fatalf("attempt %d: %d %s", n+1, rec.Code, rec.Body)
			}
		}
		passes("192.0.2.1:%d", enrolBurst) // from one port after the other
		time.Sleep(time.Second)
		passes("192.0.2.1:%d", enrolPerSecond)
		time.Sleep(time.Minute)
		passes("192.0.2.1:%d", enrolBurst) // no more than at first, however long it was quiet
	})
}

// Whoever used up the budget of one address has not used up another's.
func TestOneAddressDoesNotKeepOthersFromEnrolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newEnrolLimit()
		const loud = "192.0.2.1:1"
		for l.allow(loud) == nil {
		}
		for i := 1; ; i++ {
			quiet := fmt.Sprintf("198.51.100.%d:1", i)
			if l.share(quiet) == l.share(loud) {
				continue // one in enrolShares is unlucky
			}
			if err := l.allow(quiet); err != nil {
				t.Error(err)
			}
			return
		}
	})
}

// Many addresses together have a limit, too, which one of them does not reach.
func TestAllStrangersTogetherAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newEnrolLimit()
		allowed := 0
		for i := range 100 * enrolShares {
			if l.allow(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)) == nil {
				allowed++
			}
		}
		if allowed != enrolAllBurst {
			t.Errorf("%d at once, the limit is %d", allowed, enrolAllBurst)
		}
	})
}

// The part of an IPv6 address that its owner chooses makes no new sender, nor does a port or the way
// in which an address is written.
func TestAddressesOfOneSenderShareItsBudget(t *testing.T) {
	l := newEnrolLimit()
	for _, same := range [][2]string{
		{"192.0.2.1:1", "192.0.2.1:2"},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:1"},
		{"[2001:db8::1]:1", "[2001:db8::ffff:1]:1"},
		{"[fe80::1%eth0]:1", "[fe80::1%eth1]:1"},
		{"", "pipe"},
	} {
		if l.share(same[0]) != l.share(same[1]) {
			t.Errorf("%s and %s are two senders", same[0], same[1])
		}
	}
}
