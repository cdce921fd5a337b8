package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Requests that an ingress sends to a node in the moment that it freezes, on connections that stand,
// are answered by another replica, long before anybody replaces the one that is frozen.
func TestRequestsLeaveAFrozenNode(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 3, nil)
	k.apply("hi", fmt.Sprintf("{replicas: 2, wasm: {module: %q}, placement: {antiAffinity: [{workload: hi}]}}", absolute(t, helloModule)))
	homes := map[string]bool{}
	for _, r := range k.workload("hi").Replicas {
		homes[r.Node] = true
	}
	var ask, victim *member
	for _, a := range k.agents {
		if homes[a.name] {
			victim = a
		} else {
			ask = a
		}
	}
	if ask == nil || len(homes) != 2 {
		t.Fatalf("the replicas are on %v", homes)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	askAll := func() (slowest time.Duration) {
		var wait sync.WaitGroup
		var mu sync.Mutex
		for range 16 {
			wait.Go(func() {
				began := time.Now()
				code, body := fetchBy(client, ask.ingress(), "hi.localhost", "/")
				mu.Lock()
				defer mu.Unlock()
				if slowest = max(slowest, time.Since(began)); code != 200 {
					t.Errorf("%d %s", code, body)
				}
			})
		}
		wait.Wait()
		return slowest
	}
	k.served(ask, "hi")
	askAll() // connections to both nodes stand
	victim.signal(syscall.SIGSTOP)
	t.Logf("the slowest of 16 requests took %v", askAll())
	victim.signal(syscall.SIGCONT)
}
