package cli

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/api/manifest"
)

// runFlags describe a workload that is deployed in one step.
type runFlags struct {
	signature                                                  string
	name, mode, iface, restart, memory, cpu, network, user     string
	http, runAsRoot, writableRoot, dryRun                      bool
	port, replicas, priority                                   int
	env, labels, hosts, regions, zones, selector, caps, egress []string
	volumes, buckets                                           []string
	spread                                                     string
	match                                                      uint64
	wait                                                       waitFlags
}

func runCommand(e *Env) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run FILE.wasm|IMAGE|FILE.tar [-- ARG…]", Short: "Deploy a module or an image in one step", Args: cobra.MinimumNArgs(1),
		Example: `  cloudless workload run hello.wasm --name hi --wait
  cloudless workload run registry.example/app:1.2 --port 3000 --env MODE=fast
  cloudless workload run app.tar --replicas 3
  cloudless workload run report.wasm --mode job -- --month 11
  cloudless workload run app.tar --volume assets:/srv/assets:ro --volume /tmp/work:100Mi`,
	}
	cmd.RunE = e.with(func(ctx context.Context, c *client.Client, args []string) error {
		if dash := cmd.ArgsLenAtDash(); len(args) > 1 && dash != 1 {
			return usageError("run takes one FILE or IMAGE").WithHint("write arguments for the program after --")
		}
		w, a, err := e.build(args[0], args[1:], &f, cmd.Flags().Changed)
		if err != nil {
			return err
		}
		return e.deploy(ctx, c, []deployment{{w, a}}, &f.wait, f.match, f.dryRun)
	})
	f.add(cmd)
	return cmd
}

func (f *runFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "name of the workload (default: from the file or image)")
	fs.BoolVar(&f.http, "http", false, "serve HTTP: the same as --mode http, the default")
	fs.StringVar(&f.mode, "mode", "", "http, service or job (default: http)")
	fs.StringVar(&f.iface, "interface", "", "how requests reach a module: cl, wagi or listener (default: found from the module)")
	fs.StringVar(&f.signature, "signature", "", "signature of a module by minisign (default: FILE.wasm.minisig, if it is there)")
	fs.StringSliceVar(&f.egress, "egress", nil, "what a module may reach by fetch, HOST:PORT; may be repeated")
	fs.StringArrayVar(&f.volumes, "volume", nil, "mount a bucket, BUCKET:/PATH[:ro], or a new folder of each replica, /PATH:SIZE; may be repeated")
	fs.StringArrayVar(&f.buckets, "bucket", nil, "what a module may reach by its kv and blob functions, BUCKET to read and BUCKET:rw to write too; may be repeated")
	fs.IntVarP(&f.port, "port", "p", 0, "HTTP port of an image (default: its first EXPOSE, else 8080)")
	fs.IntVarP(&f.replicas, "replicas", "r", 1, "how many copies run")
	fs.IntVar(&f.priority, "priority", 0, "0 to 100, higher is placed first")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "environment variable, K=V, or K to take its value from here")
	fs.StringVar(&f.memory, "memory", "", "memory limit, such as 64Mi")
	fs.StringVar(&f.cpu, "cpu", "", "reserved processor time, such as 250m")
	fs.StringSliceVarP(&f.labels, "label", "l", nil, "label of the workload, k=v")
	fs.StringSliceVar(&f.hosts, "host", nil, "host name that the ingress routes here")
	fs.StringSliceVar(&f.regions, "region", nil, "run in these regions only")
	fs.StringSliceVar(&f.zones, "zone", nil, "run in these zones only")
	fs.StringSliceVar(&f.selector, "node-selector", nil, "run on nodes with these labels only, k=v")
	fs.StringVar(&f.spread, "spread", "", "even replicas out over: zone, region or node")
	fs.StringVar(&f.restart, "restart", "", "always, onFailure or never (default: always; onFailure for a job)")
	fs.StringVar(&f.network, "network", "", "network of a container: bridge or host (default: bridge)")
	fs.StringVar(&f.user, "user", "", "user of a container: uid, uid:gid or a name (default: the image's)")
	fs.BoolVar(&f.runAsRoot, "run-as-root", false, "allow uid 0 in a container")
	fs.BoolVar(&f.writableRoot, "writable-root", false, "make a container's root file system writable")
	fs.StringSliceVar(&f.caps, "cap-add", nil, "capability to add to a container")
	fs.BoolVar(&f.dryRun, "dry-run", false, "show what would change and where it would run, and change nothing")
	fs.Uint64Var(&f.match, "if-match", 0, "only if the workload's modifyIndex is this")
	f.wait.add(cmd, "until it is ready and reachable")
}

// build makes the workload that the flags describe, and finds the file to upload, if there is one.
func (e *Env) build(target string, args []string, f *runFlags, changed func(string) bool) (api.Workload, []artifact, error) {
	var w api.Workload
	if f.http && f.mode != "" && f.mode != string(api.ModeHTTP) {
		return w, nil, usageError("--http and --mode %s exclude each other", f.mode)
	}
	ns, err := e.namespace()
	if err != nil {
		return w, nil, err
	}
	if f.name == "" {
		f.name = defaultName(target)
	}
	w = api.Workload{APIVersion: api.APIVersion, Kind: api.KindWorkload, Metadata: api.Metadata{Name: f.name, Namespace: ns}}
	w.Spec.Replicas, w.Spec.Priority, w.Spec.Hosts = &f.replicas, f.priority, f.hosts
	w.Spec.Placement.Regions, w.Spec.Placement.Zones, w.Spec.Restart.Policy = f.regions, f.zones, f.restart
	if f.spread != "" {
		w.Spec.Placement.Spread = &api.Spread{By: f.spread}
	}
	if len(f.egress) > 0 {
		w.Spec.Egress = &api.Egress{Allow: f.egress}
	}
	if err := e.fill(&w, f); err != nil {
		return w, nil, err
	}
	a, err := e.payload(&w, target, args, f, changed)
	if err != nil {
		return w, nil, err
	}
	w.Default()
	return w, a, asUsage(w.Validate().Err())
}

// asUsage keeps the code, and drops the hint at the schema: there is no manifest here.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return api.AsError(err).WithHint("see 'cloudless workload run --help'")
}

// fill reads the flags that are more than a word or a number.
func (e *Env) fill(w *api.Workload, f *runFlags) (err error) {
	if w.Spec.Env, err = e.environment(f.env); err != nil {
		return err
	}
	if w.Metadata.Labels, err = someOf("--label", f.labels); err != nil {
		return err
	}
	if w.Spec.Placement.NodeSelector, err = someOf("--node-selector", f.selector); err != nil {
		return err
	}
	if w.Spec.Volumes, err = volumes(f.volumes); err != nil {
		return err
	}
	if w.Spec.Buckets, err = bucketGrants(f.buckets); err != nil {
		return err
	}
	if f.memory != "" {
		if w.Spec.Resources.Memory, err = api.ParseBytes(f.memory); err != nil {
			return usageError("--memory: %v", err)
		}
	}
	if f.cpu != "" {
		if w.Spec.Resources.CPU, err = api.ParseMilliCPU(f.cpu); err != nil {
			return usageError("--cpu: %v", err)
		}
	}
	return nil
}

// someOf is pairs, nil when there are none.
func someOf(flag string, words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	return pairs(flag, words)
}

func (e *Env) environment(words []string) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, word := range words {
		k, v, given := strings.Cut(word, "=")
		if k == "" {
			return nil, usageError("--env %q is not NAME=VALUE", word)
		}
		if !given {
			v = e.Getenv(k)
		}
		m[k] = v
	}
	return m, nil
}

// payload fills in the variant: a module or image file, else an image of a registry.
func (e *Env) payload(w *api.Workload, target string, args []string, f *runFlags, changed func(string) bool) ([]artifact, error) {
	if !isFile(target) {
		if err := f.moduleOnly(target); err != nil {
			return nil, err
		}
		w.Spec.Container = f.container(target, args)
		f.serve(w, 0)
		return nil, nil
	}
	a, err := openArtifact(target)
	if err != nil {
		return nil, err
	}
	if a.kind == api.ArtifactWasm {
		w.Spec.Wasm = &api.WasmSpec{Module: a.digest, Mode: api.WasmMode(f.mode), Interface: f.iface, Args: args}
		if w.Spec.Wasm.Signature, err = readSignature(f.signature, target); err != nil {
			return nil, err
		}
		if changed("port") {
			w.Spec.Ports = []api.Port{{Port: f.port}}
		}
		return []artifact{a}, nil
	}
	if err := f.moduleOnly(target); err != nil {
		return nil, err
	}
	w.Spec.Container = f.container(a.digest, args)
	exposed, err := imagePort(target)
	f.serve(w, exposed)
	return []artifact{a}, err
}

// moduleOnly refuses, for an image, what only a module has.
func (f *runFlags) moduleOnly(image string) error {
	if f.signature != "" {
		return usageError("--signature is for modules: %s is an image", image)
	}
	return nil
}

// isFile tells a path from an image reference. What only looks like a path is one too, so that a
// misspelt file is not looked for in a registry.
func isFile(target string) bool {
	if manifest.IsImagePath(target) || strings.HasSuffix(target, ".wasm") {
		return true
	}
	info, err := os.Stat(target)
	return err == nil && info.Mode().IsRegular()
}

func (f *runFlags) container(image string, args []string) *api.ContainerSpec {
	return &api.ContainerSpec{Image: image, Args: args, User: f.user, RunAsRoot: f.runAsRoot, WritableRoot: f.writableRoot, Capabilities: f.caps, Network: f.network}
}

// serve gives a container its HTTP port, and PORT in its environment; a job or service gets neither.
func (f *runFlags) serve(w *api.Workload, exposed int) {
	if f.mode == string(api.ModeJob) && w.Spec.Restart.Policy == "" {
		w.Spec.Restart.Policy = api.RestartOnFailure
	}
	if f.port == 0 && f.mode != "" && f.mode != string(api.ModeHTTP) {
		return
	}
	port := 8080
	if exposed != 0 {
		port = exposed
	}
	if f.port != 0 {
		port = f.port
	}
	w.Spec.Ports = []api.Port{{Port: port}}
	if w.Spec.Env == nil {
		w.Spec.Env = map[string]string{}
	}
	if _, set := w.Spec.Env["PORT"]; !set {
		w.Spec.Env["PORT"] = strconv.Itoa(port)
	}
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// defaultName makes a name of a file's or an image's last part.
func defaultName(target string) string {
	base := filepath.Base(target)
	if !isFile(target) {
		ref, _, _ := strings.Cut(target, "@")
		base, _, _ = strings.Cut(path.Base(ref), ":")
	}
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".wasm"), ".tar")
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(base), "-"), "-")
	return strings.Trim(name[:min(len(name), api.MaxNameLen)], "-")
}
