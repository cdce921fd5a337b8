package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/client"
)

// Limits of a support bundle.
const (
	bundleTime     = 20 * time.Second // for one part
	bundleEvents   = 1000
	bundleLogLines = "5000"
	bundleLogBytes = 16 << 20
)

// hidden stands where a secret was.
const hidden = "(hidden)"

func supportCommand(e *Env) *cobra.Command {
	bundle := &cobra.Command{
		Use: "bundle [FILE]", Short: "Gather what others need to help, without secrets", Args: cobra.MaximumNArgs(1),
		Long: "Gather the state of the cluster and of this machine into a tar.gz: status, nodes, workloads, events, metrics, health, versions,\n" +
			"client settings, doctor's findings, and the last log lines of roles that systemd runs here. Values of environment variables,\ncommands and arguments of workloads, tokens, keys and passwords are left out. Look through it before you hand it on.",
		Example: "  cloudless support bundle\n  cloudless support bundle cluster.tar.gz",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "cloudless-support-" + e.Now().UTC().Format("20060102-150405") + ".tar.gz"
			if len(args) == 1 {
				path = args[0]
			}
			return e.supportBundle(cmd.Context(), path)
		},
	}
	return newGroup("support", "Gather what others need to help", "  cloudless support bundle", bundle)
}

// part is one file of a bundle. One that cannot be had leaves a note instead.
type part struct {
	name string
	get  func(ctx context.Context) ([]byte, error)
}

func (e *Env) supportBundle(ctx context.Context, path string) (err error) {
	hide, err := e.scrubber()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "the bundle cannot be written: %w", err).WithHint("name another file")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	missing, err := e.writeBundle(ctx, f, hide)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, m := range missing {
		e.warn("not in the bundle: %s", m)
	}
	return e.did(path, "support bundle written to %s: look through it before you hand it on", path)
}

// writeBundle writes all parts, and gives those that could not be had.
func (e *Env) writeBundle(ctx context.Context, w io.Writer, hide func([]byte) []byte) (missing []string, err error) {
	zip := gzip.NewWriter(w)
	files := tar.NewWriter(zip)
	add := func(name string, data []byte) error {
		data = hide(data)
		head := &tar.Header{Name: "cloudless-support/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: e.Now(), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if err := files.WriteHeader(head); err != nil {
			return err
		}
		_, err := files.Write(data)
		return err
	}
	for _, p := range e.bundleParts() {
		partCtx, cancel := context.WithTimeout(ctx, bundleTime)
		data, err := p.get(partCtx)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			missing = append(missing, p.name+": "+oneLine(string(hide([]byte(err.Error())))))
			continue
		}
		if err := add(p.name, data); err != nil {
			return nil, err
		}
	}
	if err := add("missing.txt", []byte(strings.Join(missing, "\n")+"\n")); err != nil {
		return nil, err
	}
	return missing, errors.Join(files.Close(), zip.Close())
}

// bundleParts lists what a bundle holds, in order.
func (e *Env) bundleParts() []part {
	ask := func(do func(context.Context, *client.Client) (any, error)) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) {
			c, err := e.connect()
			if err != nil {
				return nil, err
			}
			v, err := do(ctx, c)
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent(v, "", "  ")
		}
	}
	page := func(path string) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) {
			c, err := e.connect()
			if err != nil {
				return nil, err
			}
			return c.Page(ctx, path)
		}
	}
	parts := []part{
		{"version.json", func(ctx context.Context) ([]byte, error) { return json.MarshalIndent(e.versions(ctx, false), "", "  ") }},
		{"platform.json", func(context.Context) ([]byte, error) {
			return json.MarshalIndent(map[string]any{"platform": platform().Detail, "cpus": runtime.NumCPU(), "time": e.Now().UTC()}, "", "  ")
		}},
		{"config.json", func(context.Context) ([]byte, error) {
			s, err := e.settings()
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent(s.object(true), "", "  ")
		}},
		{"doctor.json", func(ctx context.Context) ([]byte, error) { return json.MarshalIndent(e.examine(ctx, "."), "", "  ") }},
		{"status.json", ask(func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx, 0, 0) })},
		{"nodes.json", ask(func(ctx context.Context, c *client.Client) (any, error) {
			return client.Pages(api.ListQuery{}, func(q api.ListQuery) (api.List[api.Node], error) { return c.Nodes(ctx, q) })
		})},
		{"workloads.json", ask(func(ctx context.Context, c *client.Client) (any, error) {
			list, err := client.Pages(api.ListQuery{}, func(q api.ListQuery) (api.List[api.Workload], error) { return c.Workloads(ctx, q) })
			for i := range list.Items {
				hideSpec(&list.Items[i].Spec)
			}
			return list, err
		})},
		{"services.json", ask(func(ctx context.Context, c *client.Client) (any, error) { return c.Services(ctx, api.ListQuery{}) })},
		{"events.json", ask(func(ctx context.Context, c *client.Client) (any, error) {
			return c.Events(ctx, api.EventQuery{Limit: bundleEvents})
		})},
		{"health.json", page("/health")}, {"ready.json", page("/ready")}, {"metrics.txt", page("/metrics")},
	}
	for _, unit := range []string{"cloudless-coordinator", "cloudless-agent"} {
		parts = append(parts, part{unit + ".log", func(ctx context.Context) ([]byte, error) { return journal(ctx, unit) }})
	}
	return parts
}

// hideSpec drops what a manifest may hold secrets in; the names of variables stay.
func hideSpec(s *api.WorkloadSpec) {
	for name := range s.Env {
		s.Env[name] = hidden
	}
	if s.Container != nil {
		for _, words := range [][]string{s.Container.Command, s.Container.Args} {
			for i := range words {
				words[i] = hidden
			}
		}
	}
}

// journal reads the end of a unit's log, where systemd keeps one.
func journal(ctx context.Context, unit string) ([]byte, error) {
	path, err := exec.LookPath("journalctl")
	if err != nil {
		return nil, errors.New("this machine has no journalctl")
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "--unit", unit, "--lines", bundleLogLines, "--output", "cat", "--no-pager", "--quiet")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("journalctl: %w: %s", err, oneLine(errs.String()))
	}
	if out.Len() == 0 {
		return nil, errors.New("the journal has no line of it")
	}
	data := out.Bytes()
	return data[max(0, len(data)-bundleLogBytes):], nil
}

// secrets are the shapes in which they are written; the first group stays. They are compiled when they
// are asked for: no other command needs them.
var secrets = sync.OnceValue(func() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`(cl_t-[a-z0-9]+_)[A-Za-z0-9_-]+`),                                                                                             // API tokens
		regexp.MustCompile(`(CL1\.)[A-Za-z0-9._~+/=-]+`),                                                                                                  // join tokens
		regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[^\s"\\]+`),                                                                                        // headers
		regexp.MustCompile(`(://)[^/\s:@"]*:[^/\s@"]+(?:@)`),                                                                                              // URLs
		regexp.MustCompile(`(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?-----END [A-Z ]*PRIVATE KEY-----`),                                                 // keys
		regexp.MustCompile(`(?i)((?:password|passwd|passphrase|secret|api[-_]?key|access[-_]?key|credentials?)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&}]+`), // NAME=VALUE
	}
})

// scrubber hides secrets in text: those of a known shape, and the token in force wherever it stands. One
// that cannot be read is in no text, and a bundle may be to find out why.
func (e *Env) scrubber() (func([]byte) []byte, error) {
	s, err := e.settings()
	if err != nil {
		return nil, err
	}
	var own []byte
	if s.token.value != "-" {
		if token, err := e.readToken(s.token.value, false); err == nil {
			own = []byte(token)
		}
	}
	return func(data []byte) []byte {
		if len(own) > 0 {
			data = bytes.ReplaceAll(data, own, []byte(hidden))
		}
		for _, shape := range secrets() {
			data = shape.ReplaceAll(data, []byte("${1}"+hidden))
		}
		return data
	}, nil
}
