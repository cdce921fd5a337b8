package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/test/process"
)

const (
	faultTimeout = 60 * time.Second      // from the fault to the first good answer
	askEvery     = 20 * time.Millisecond // how often a user asks after a fault: the figures' resolution
	askTimeout   = 10 * time.Second      // of one question
	victim       = "hi"                  // the workload that is watched
)

func measureKill(ctx context.Context, l *lab) result {
	return l.failover(ctx, l.runs, syscall.SIGKILL)
}

func measureFreeze(ctx context.Context, l *lab) result {
	res := l.failover(ctx, min(l.runs, l.freezes), syscall.SIGSTOP)
	res.remark = join(fmt.Sprintf("%d runs: each takes many seconds (-freeze-runs)", len(res.runs)), res.remark)
	return res
}

// failover stops the agent that runs a replica, and asks the ingress of the next one until it answers.
func (l *lab) failover(ctx context.Context, n int, sig syscall.Signal) result {
	return l.onCluster(ctx, n, 1, 3, func(ctx context.Context, k *cluster, run int) (float64, error) {
		if run == 0 {
			digest, err := k.upload(ctx, api.ArtifactWasm, l.guest)
			if err != nil {
				return 0, err
			}
			if err := k.deploy(ctx, moduleWorkload(victim, digest), deployTimeout); err != nil {
				return 0, err
			}
		}
		return k.failOnce(ctx, sig)
	})
}

func (k *cluster) failOnce(ctx context.Context, sig syscall.Signal) (float64, error) {
	home, err := k.settled(ctx)
	if err != nil {
		return 0, err
	}
	url := k.agents[(home+1)%len(k.agents)].Get("ingress")
	began := time.Now()
	if err := strike(ctx, k.agents[home], sig); err != nil {
		return 0, err
	}
	if err := first(ctx, func(ctx context.Context, _ int) error { return fetch(ctx, url) }); err != nil {
		return 0, fmt.Errorf("the ingress of another agent does not answer after %v: %w", sig, err)
	}
	took := time.Since(began)
	if sig == syscall.SIGSTOP {
		err = k.agents[home].Signal(syscall.SIGCONT)
	} else {
		err = k.restart(ctx, k.agents, home)
	}
	return took.Seconds(), err
}

// strike kills or stops a process, and returns when it does nothing any more: until then it may answer.
func strike(ctx context.Context, p *process.Process, sig syscall.Signal) error {
	if sig == syscall.SIGSTOP {
		return p.Freeze(ctx)
	}
	err := p.Signal(sig)
	if err == nil {
		<-p.Done()
	}
	return err
}

// settled waits until the cluster is whole, one replica is left, every node has heard of it, so that none
// goes on serving by a copy that is to end, and every ingress answers; it tells which agent runs the replica.
func (k *cluster) settled(ctx context.Context) (home int, err error) {
	if err := k.whole(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, faultTimeout)
	defer cancel()
	last := "unknown"
	err = poll(ctx, func() (bool, error) {
		s, err := k.client.Settled(ctx, api.Ref{Namespace: api.DefaultNamespace, Name: victim}, 0, 0)
		if err != nil || s.Workload == nil || s.Workload.Status == nil {
			return false, err
		}
		st := s.Workload.Status
		last = fmt.Sprintf("%s, routed=%v", replicas(st), s.Routed)
		if !s.Routed || st.Ready != 1 || len(st.Replicas) != 1 {
			return false, nil
		}
		_, err = fmt.Sscanf(st.Replicas[0].Node, "a%d", &home)
		return err == nil && k.allAnswer(ctx), err
	})
	if err != nil {
		return 0, fmt.Errorf("%s does not settle (%s): %w", victim, last, err)
	}
	return home, nil
}

func (k *cluster) allAnswer(ctx context.Context) bool {
	return !slices.ContainsFunc(k.agents, func(a *process.Process) bool { return fetch(ctx, a.Get("ingress")) != nil })
}

// replicas names a workload's replicas, where they are and how often they were restarted.
func replicas(st *api.WorkloadStatus) string {
	var out []string
	for _, r := range st.Replicas {
		out = append(out, fmt.Sprintf("%s@%s %s restarts=%d orphan=%v", r.ID, r.Node, r.State, r.Restarts, r.Orphan))
	}
	return strings.Join(out, ", ")
}

// ingress asks by new connections, as new users come.
var ingress = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// fetch asks an ingress for the watched workload.
func fetch(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/", nil)
	if err != nil {
		return err
	}
	req.Host = victim + ".localhost"
	resp, err := ingress.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// first asks every askEvery, without waiting for the answers before, until one is good.
func first(ctx context.Context, ask func(ctx context.Context, n int) error) error {
	ctx, cancel := context.WithTimeout(ctx, faultTimeout)
	good, last := make(chan struct{}, 1), errors.New("no answer")
	var mu sync.Mutex
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		asking.Go(func() {
			err := ask(ctx, n)
			if err == nil {
				select {
				case good <- struct{}{}:
				default:
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			last = err
		})
		select {
		case <-good:
			return nil
		case <-ctx.Done():
			mu.Lock()
			defer mu.Unlock()
			return fmt.Errorf("%w: last answer: %w", ctx.Err(), last)
		case <-tick.C:
		}
	}
}

// measureLeader kills the leader of three and writes through the others until one write is accepted.
func measureLeader(ctx context.Context, l *lab) result {
	res := l.onCluster(ctx, min(l.runs, l.elections), 3, 1, func(ctx context.Context, k *cluster, run int) (float64, error) {
		if run == 0 {
			digest, err := k.upload(ctx, api.ArtifactWasm, l.guest)
			if err != nil {
				return 0, err
			}
			if err := k.deploy(ctx, moduleWorkload(victim, digest), deployTimeout); err != nil {
				return 0, err
			}
		}
		return k.electOnce(ctx)
	})
	remark := fmt.Sprintf("%d runs (-leader-runs)", len(res.runs))
	if res.err == nil {
		remark += "; the replica running meanwhile kept its id and was not restarted"
	}
	res.remark = join(remark, res.remark)
	return res
}

func (k *cluster) electOnce(ctx context.Context) (float64, error) {
	if _, err := k.settled(ctx); err != nil {
		return 0, err
	}
	before, err := k.watched(ctx)
	if err != nil {
		return 0, err
	}
	leader, err := k.leader(ctx)
	if err != nil {
		return 0, err
	}
	writers, err := k.writers(leader)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := k.coords[leader].End(syscall.SIGKILL); err != nil {
		return 0, err
	}
	if err := first(ctx, func(ctx context.Context, n int) error { return write(ctx, writers[n%len(writers)]) }); err != nil {
		return 0, fmt.Errorf("no write is accepted: %w", err)
	}
	took := time.Since(began)
	after, err := k.watched(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("the election touched a replica: %s, before %s", after, before)
	}
	return took.Seconds(), errors.Join(err, k.restart(ctx, k.coords, leader), k.connect())
}

func (k *cluster) leader(ctx context.Context) (i int, err error) {
	st, err := k.client.Status(ctx, 0, 0)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(st.Leader, "c%d", &i)
	return i, err
}

func (k *cluster) watched(ctx context.Context) (string, error) {
	w, err := k.client.Workload(ctx, api.Ref{Namespace: api.DefaultNamespace, Name: victim}, 0, 0)
	if err != nil {
		return "", err
	}
	return replicas(w.Status), nil
}

// writers are clients of each coordinator but one, which do not retry: the caller asks often.
func (k *cluster) writers(but int) ([]*client.Client, error) {
	var out []*client.Client
	for i, c := range k.coords {
		if i == but {
			continue
		}
		w, err := k.dial([]string{c.Get("http")}, client.Config{RetryFor: time.Nanosecond, RequestTimeout: askTimeout})
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// write is the smallest one that goes through the log: a viewer's token that soon ends.
func write(ctx context.Context, c *client.Client) error {
	_, err := c.CreateToken(ctx, api.TokenRequest{Role: api.RoleViewer, TTL: api.Duration(time.Minute)})
	return err
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
