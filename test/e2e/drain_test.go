package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestDrainMovesWithoutAGap(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 3, 3, func(i int) []string { return append(withContainers(0, 1)(i), "--on-stop", "drain") })
	t.Cleanup(func() { // the last stop is not to drain: there is nowhere to go
		for _, a := range k.agents {
			a.start2(t, syscall.SIGKILL, "--on-stop", "kill")
		}
	})
	k.cli.must("workload", "run", helloModule, "--name", "module", "--http", "--wait", "--timeout", "60s")
	k.cli.must("workload", "run", helloImage, "--name", "image", "--wait", "--timeout", "60s")
	for _, name := range []string{"module", "image"} {
		for _, a := range k.agents {
			k.served(a, name)
		}
	}
	for _, way := range []struct {
		name  string
		drain func(*cluster, *member)
		undo  func(*cluster, *member)
	}{
		{"by command",
			func(k *cluster, m *member) {
				k.cli.must("node", "drain", m.name, "--graceful", "--wait", "--timeout", "60s")
				if n := k.node(m).Status.Replicas; n != 0 {
					k.t.Errorf("%s is drained and has %d replicas", m.name, n)
				}
			},
			func(k *cluster, m *member) { k.cli.must("node", "uncordon", m.name) }},
		{"by its own stop",
			func(k *cluster, m *member) {
				m.start2(k.t, syscall.SIGTERM, "--on-stop", "drain")
				m.start2(k.t, syscall.SIGTERM)
			},
			func(*cluster, *member) {}},
	} {
		ok := t.Run(way.name, func(t *testing.T) {
			k, from := k.in(t), k.home("image")
			w := k.watch(k.another(from), "module", "image")
			way.drain(k, from)
			eventually(t, "everything is elsewhere", func() bool { h := k.home("image"); return h != nil && h != from })
			k.settled("image", 1)
			k.settled("module", 1)
			asked, failed := w.stop()
			if failed != nil {
				t.Errorf("not every request was answered meanwhile: %v", failed)
			}
			t.Logf("%d requests were answered meanwhile", asked)
			if n := len(from.tasks()); n != 0 {
				t.Errorf("%d container processes are left on %s", n, from.name)
			}
			way.undo(k, from)
			k.whole()
		})
		if !ok {
			return
		}
	}
}

// watcher asks an ingress for some workloads again and again.
type watcher struct {
	cancel context.CancelFunc
	all    sync.WaitGroup
	mu     sync.Mutex
	asked  int
	failed []error
}

func (k *cluster) watch(by *member, names ...string) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{cancel: cancel}
	k.t.Cleanup(func() { w.stop() })
	for _, name := range names {
		w.all.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ; ctx.Err() == nil; <-tick.C {
				code, body := fetch(by.ingress(), name+".localhost", "/")
				w.mu.Lock()
				w.asked++
				if code != 200 {
					w.failed = append(w.failed, fmt.Errorf("%s at %s: status %d: %s", name, by.name, code, body))
				}
				w.mu.Unlock()
			}
		})
	}
	return w
}

func (w *watcher) stop() (asked int, failed error) {
	w.cancel()
	w.all.Wait()
	return w.asked, errors.Join(w.failed[:min(3, len(w.failed))]...)
}
