package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/test/process"
)

const (
	crowdModules  = 10_000
	crowdModule   = "wasm-examples/echo-c/echo.wasm" // small: each has to be compiled once
	crowdTogether = 8                                // deployments at a time
	crowdTimeout  = 10 * time.Minute

	// startsWell is how a node's metrics count the replicas that it has started.
	startsWell = `cloudless_container_operations_total{operation="start",result="ok"} %g`
)

// crowdFigures are those of an agent that has many modules and nothing to do.
type crowdFigures struct {
	modules       int
	alone         float64 // bytes of memory before the first
	memory, start sample
}

// crowd is a row of them; they are measured once.
func crowd(of func(*crowdFigures) sample) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		if l.crowd == nil {
			l.crowd = &crowdFigures{}
			l.crowdErr = l.measureCrowd(ctx)
		}
		res := result{runs: of(l.crowd), err: l.crowdErr}
		if n := l.crowd.modules; n < crowdModules {
			res.remark = fmt.Sprintf("reckoned from %d: the node takes one for each thousandth of a core", n)
		}
		return res
	}
}

func (l *lab) measureCrowd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, crowdTimeout)
	defer cancel()
	k, err := l.newCluster(ctx, 1, 1, "off")
	if err != nil {
		return err
	}
	err = k.gather(ctx, l.crowd)
	for range l.sandboxRuns() {
		if err == nil {
			err = k.startCrowd(ctx, l.crowd)
		}
	}
	return errors.Join(err, k.close())
}

// gather deploys as many modules as the node has thousandths of a core, at most crowdModules.
func (k *cluster) gather(ctx context.Context, f *crowdFigures) (err error) {
	module, err := os.ReadFile(crowdModule)
	if err != nil {
		return err
	}
	nodes, err := k.client.Nodes(ctx, api.ListQuery{})
	if err != nil {
		return err
	}
	if f.alone, _, err = k.agents[0].Memory(); err != nil {
		return err
	}
	f.modules = min(crowdModules, int(nodes.Items[0].Capacity.CPU))
	err = run.Each(ctx, "deploy", crowdTogether, func(_ context.Context, put func(int) error) error {
		for i := range f.modules {
			if err := put(i); err != nil {
				return err
			}
		}
		return nil
	}, func(ctx context.Context, i int) error {
		return k.deployTiny(ctx, fmt.Sprintf("idle-%d", i), unique(module, uint64(i)))
	})
	if err != nil {
		return err
	}
	return started(ctx, k.agents[0], f.modules)
}

// deployTiny uploads a module and deploys it with the least that can be reserved.
func (k *cluster) deployTiny(ctx context.Context, name string, module []byte) error {
	var digest string
	err := patiently(ctx, func() (err error) {
		digest, err = k.upload(ctx, api.ArtifactWasm, module)
		return err
	})
	if err != nil {
		return err
	}
	w := moduleWorkload(name, digest)
	w.Spec.Resources = api.Resources{CPU: 1, Memory: 1 << 20}
	return patiently(ctx, func() error {
		_, err := k.client.CreateWorkload(ctx, w)
		return err
	})
}

// patiently does something again as long as the API is asked too often.
func patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if api.CodeOf(err) != api.CodeRateLimited {
			return err
		}
		if err := rest(ctx, time.Second); err != nil {
			return err
		}
	}
}

// startCrowd starts the agent anew, and looks at its memory when it has been idle for a while.
func (k *cluster) startCrowd(ctx context.Context, f *crowdFigures) error {
	if err := k.agents[0].End(syscall.SIGTERM); err != nil {
		return err
	}
	began := time.Now()
	if err := k.restart(ctx, k.agents, 0); err != nil {
		return err
	}
	if err := started(ctx, k.agents[0], f.modules); err != nil {
		return err
	}
	whole := crowdModules / float64(f.modules)
	f.start = append(f.start, time.Since(began).Seconds()*whole)
	if err := rest(ctx, idleFor); err != nil {
		return err
	}
	resident, _, err := k.agents[0].Memory()
	f.memory = append(f.memory, f.alone+(resident-f.alone)*whole)
	return err
}

// started waits until an agent has started so many replicas, by its own account: the coordinators may still
// tell what was before.
func started(ctx context.Context, agent *process.Process, n int) error {
	var last float64
	err := poll(ctx, func() (done bool, err error) {
		last, err = metric(ctx, agent.Get("metrics")+"/metrics", startsWell)
		return last >= float64(n), err
	})
	if err != nil {
		return fmt.Errorf("the agent has started %g of %d modules: %w", last, n, err)
	}
	return nil
}

// metric is the value of the one line of a role's metrics that has this form.
func metric(ctx context.Context, url, form string) (value float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if n, _ := fmt.Sscanf(strings.TrimSpace(lines.Text()), form, &value); n == 1 {
			return value, nil
		}
	}
	return 0, fmt.Errorf("%s has no line %q", url, form)
}
