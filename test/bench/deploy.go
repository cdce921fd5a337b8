package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cloudless/cloudless/api"
)

const (
	deployTimeout = 30 * time.Second
	manyReplicas  = 1000
	manyTimeout   = 2 * time.Minute
)

// measureRun deploys a stored module again and again, each time under a new name.
func measureRun(ctx context.Context, l *lab) result {
	var digest string
	return l.onCluster(ctx, l.runs, 1, 1, func(ctx context.Context, k *cluster, run int) (float64, error) {
		if run == 0 {
			var err error
			if digest, err = k.upload(ctx, api.ArtifactWasm, l.guest); err != nil {
				return 0, err
			}
			if _, err := k.deployOnce(ctx, moduleWorkload("first", digest)); err != nil {
				return 0, err // unmeasured: it compiles the module
			}
		}
		return k.deployOnce(ctx, moduleWorkload(fmt.Sprintf("hi-%d", run), digest))
	})
}

// measureUpload deploys a module that differs in one custom section each time, its upload included.
func measureUpload(ctx context.Context, l *lab) result {
	return l.onCluster(ctx, l.runs, 1, 1, func(ctx context.Context, k *cluster, run int) (float64, error) {
		module := unique(l.guest, uint64(run))
		began := time.Now()
		digest, err := k.upload(ctx, api.ArtifactWasm, module)
		if err != nil {
			return 0, err
		}
		w := moduleWorkload(fmt.Sprintf("hi-%d", run), digest)
		if err := k.deploy(ctx, w, deployTimeout); err != nil {
			return 0, err
		}
		took := time.Since(began)
		return took.Seconds(), k.remove(ctx, w.Ref())
	})
}

// measureCommand runs the command as a person would, process start and certificates included.
func measureCommand(ctx context.Context, l *lab) result {
	return l.onCluster(ctx, l.runs, 1, 1, func(ctx context.Context, k *cluster, run int) (float64, error) {
		name := fmt.Sprintf("hi-%d", run)
		cmd := exec.CommandContext(ctx, l.binary, "workload", "run", l.module, "--name", name, "--http", "--wait=ready", "--timeout", deployTimeout.String())
		cmd.Env = k.env()
		began := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(began)
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return took.Seconds(), k.remove(ctx, api.Ref{Namespace: api.DefaultNamespace, Name: name})
	})
}

// measureThousand starts a thousand replicas of a module that the node has run before.
func measureThousand(ctx context.Context, l *lab) result {
	res := l.thousand(ctx, api.Probes{})
	res.remark = join("the node has tried the module once with this environment: each replica gets its first instance with its first request", res.remark)
	return res
}

// measureThousandServed counts a replica only when it has answered a request: each has an instance.
func measureThousandServed(ctx context.Context, l *lab) result {
	return l.thousand(ctx, api.Probes{Readiness: &api.Probe{HTTP: &api.HTTPProbe{Path: "/"}}})
}

func (l *lab) thousand(ctx context.Context, probes api.Probes) result {
	var digest string
	return l.onCluster(ctx, l.runs, 1, 1, func(ctx context.Context, k *cluster, run int) (float64, error) {
		if run == 0 {
			var err error
			if digest, err = k.upload(ctx, api.ArtifactWasm, l.guest); err != nil {
				return 0, err
			}
			if _, err := k.deployOnce(ctx, moduleWorkload("first", digest)); err != nil {
				return 0, err
			}
		}
		w := moduleWorkload(fmt.Sprintf("many-%d", run), digest)
		n := manyReplicas
		w.Spec.Replicas, w.Spec.Probes = &n, probes
		w.Spec.Resources = api.Resources{CPU: 1, Memory: 1 << 20} // so that a thousand fit
		w.Default()
		began := time.Now()
		if err := k.deploy(ctx, w, manyTimeout); err != nil {
			return 0, err
		}
		took := time.Since(began)
		return manyReplicas / took.Seconds(), k.remove(ctx, w.Ref())
	})
}

// measureImage deploys an image that the node has run before.
func measureImage(ctx context.Context, l *lab) result {
	tarball, why := l.tarball(ctx)
	if why != "" {
		return result{skipped: why}
	}
	k, err := l.newCluster(ctx, 1, 1, "auto")
	if err != nil {
		return result{err: err}
	}
	out := k.images(ctx, l, tarball)
	out.err = errors.Join(out.err, k.close())
	return out
}

func (k *cluster) images(ctx context.Context, l *lab, tarball []byte) result {
	nodes, err := k.client.Nodes(ctx, api.ListQuery{})
	if err != nil {
		return result{err: err}
	}
	if r := nodes.Items[0].Runtimes; !r.Containers {
		return result{skipped: "the node runs no containers: " + r.ContainersReason}
	}
	digest, err := k.upload(ctx, api.ArtifactOCI, tarball)
	if err != nil {
		return result{err: err}
	}
	if _, err := k.deployOnce(ctx, imageWorkload("first", digest)); err != nil {
		return result{err: fmt.Errorf("the first, unmeasured, which unpacks the image: %w", err)}
	}
	return repeat(ctx, l.runs, func(ctx context.Context, run int) (float64, error) {
		return k.deployOnce(ctx, imageWorkload(fmt.Sprintf("img-%d", run), digest))
	})
}

// tarball is the image to run, or why there is none.
func (l *lab) tarball(ctx context.Context) (data []byte, why string) {
	if os.Geteuid() != 0 {
		return nil, "containers need root"
	}
	path := l.image
	if path == "" {
		path = filepath.Join(l.dir, "image.tar")
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "go", "run", "./wasm-examples/hello-oci/mkimage", path).CombinedOutput(); err != nil {
			return nil, fmt.Sprintf("the example image was not made: %v: %s", err, bytes.TrimSpace(out))
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err.Error()
	}
	return data, ""
}

func moduleWorkload(name, digest string) api.Workload {
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: name, Namespace: api.DefaultNamespace}}
	w.Spec.Wasm = &api.WasmSpec{Module: digest}
	w.Default()
	return w
}

func imageWorkload(name, digest string) api.Workload {
	w := api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: name, Namespace: api.DefaultNamespace}}
	w.Spec.Container = &api.ContainerSpec{Image: digest}
	w.Spec.Ports = []api.Port{{Port: 8080}}
	w.Spec.Env = map[string]string{"PORT": "8080"}
	w.Default()
	return w
}

// upload stores bytes in the cluster, which answers when they are durable.
func (k *cluster) upload(ctx context.Context, kind string, data []byte) (string, error) {
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	_, err := k.client.PutArtifact(ctx, digest, kind, int64(len(data)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	return digest, err
}

// deployOnce times one deployment in seconds and takes it back.
func (k *cluster) deployOnce(ctx context.Context, w api.Workload) (float64, error) {
	began := time.Now()
	if err := k.deploy(ctx, w, deployTimeout); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took.Seconds(), k.remove(ctx, w.Ref())
}

// deploy creates a workload and reads until all its replicas are ready.
func (k *cluster) deploy(ctx context.Context, w api.Workload, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	made, err := k.client.CreateWorkload(ctx, w)
	if err != nil {
		return err
	}
	state, ready := "created", 0
	err = k.settle(ctx, w.Ref(), made.Index, func(s api.Settled) bool {
		if s.Workload != nil && s.Workload.Status != nil {
			state, ready = describe(s.Workload.Status), s.Workload.Status.Ready
		}
		return s.Ready
	})
	if err == nil && ready != w.Spec.Count() {
		return fmt.Errorf("%s is told to be ready, with %s", w.Ref(), state)
	}
	if err != nil {
		return fmt.Errorf("%s is not ready (%s): %w", w.Ref(), state, err)
	}
	return nil
}

// describe sums a workload up, with the reason of the first replica that has one.
func describe(st *api.WorkloadStatus) string {
	text := fmt.Sprintf("%s, %d of %d ready, %s", st.Phase, st.Ready, st.Desired, st.Message)
	for _, r := range st.Replicas {
		if !r.Ready && r.Reason != "" {
			return text + ", " + string(r.State) + ": " + r.Reason
		}
	}
	return text
}

// remove deletes a workload and waits until nothing of it is left.
func (k *cluster) remove(ctx context.Context, ref api.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, manyTimeout)
	defer cancel()
	gone, err := k.client.DeleteWorkload(ctx, ref, 0)
	if err != nil {
		return fmt.Errorf("delete %s: %w", ref, err)
	}
	if err := k.settle(ctx, ref, gone.Index, func(s api.Settled) bool { return s.Workload == nil }); err != nil {
		return fmt.Errorf("%s is not gone: %w", ref, err)
	}
	return nil
}

// settle reads, each time waiting for a change past what was read, as the command line does with --wait.
func (k *cluster) settle(ctx context.Context, ref api.Ref, after uint64, done func(api.Settled) bool) error {
	for index := max(after, 1) - 1; ; {
		s, err := k.client.Settled(ctx, ref, index, time.Second)
		if err != nil {
			return err
		}
		if done(s) {
			return nil
		}
		index = max(s.Index, 1)
	}
}

// unique is the module with a custom section that makes its digest its own; engines skip it.
func unique(module []byte, n uint64) []byte {
	name := "bench"
	body := append([]byte{byte(len(name))}, name...)
	body = binary.LittleEndian.AppendUint64(body, n)
	return append(append(bytes.Clone(module), 0, byte(len(body))), body...)
}
