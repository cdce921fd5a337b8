package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Tokens that have expired make room for new ones, when there is none.
func TestExpiredTokensMakeRoom(t *testing.T) {
	s := New()
	soon := at.Add(time.Hour)
	n := uint64(0)
	put := func(when time.Time, expires *time.Time) error {
		n++
		tok := &api.Token{ID: fmt.Sprint("tok-", n), Role: api.RoleViewer, ExpiresAt: expires}
		if err := s.Apply(n, Command{At: when, PutToken: tok}).Err; err != nil {
			return err
		}
		return nil
	}
	for i := range api.MaxTokens {
		expires := &soon
		if i%2 == 0 {
			expires = nil
		}
		if err := put(at, expires); err != nil {
			t.Fatalf("token %d: %v", n, err)
		}
	}
	if err := put(soon.Add(-1), nil); api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("one more than there may be: %v", err)
	}
	if err := put(soon, nil); err != nil {
		t.Errorf("though half of them have expired: %v", err)
	}
	if got := len(s.View().Tokens()); got != api.MaxTokens/2+1 {
		t.Errorf("%d tokens are left, want %d", got, api.MaxTokens/2+1)
	}
}
