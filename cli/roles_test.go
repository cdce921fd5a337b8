package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

// settingsFrom is where an agent started with args has its settings from.
func settingsFrom(t *testing.T, args ...string) source[agentOptions] {
	t.Helper()
	var out source[agentOptions]
	cmd := roleCommand(&cobra.Command{Use: "agent"}, defaultAgent, (*agentOptions).bind, func(_ context.Context, s source[agentOptions]) error {
		out = s
		return nil
	})
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExampleConfigsLoad(t *testing.T) {
	co, err := source[coordinatorOptions]{defaultCoordinator, (*coordinatorOptions).bind, pflag.NewFlagSet("", pflag.ContinueOnError), "../deploy/config/coordinator.yaml"}.load()
	if err != nil {
		t.Error(err)
	}
	ag, err := settingsFrom(t, "--config", "../deploy/config/agent.yaml").load()
	if err != nil {
		t.Error(err)
	}
	if co.DataDir == "" || ag.DataDir == "" {
		t.Errorf("the examples name no data folder: %q, %q", co.DataDir, ag.DataDir)
	}
}

func writeConfig(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFlagWinsOverConfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	writeConfig(t, path, "zone: file\nregion: file\nlabel: [a=1]\n")
	opts, err := settingsFrom(t, "--config", path, "--zone", "flag", "--label", "b=2").load()
	if err != nil {
		t.Fatal(err)
	}
	if opts.Zone != "flag" || opts.Region != "file" || len(opts.Labels) != 1 || opts.Labels[0] != "b=2" || opts.NodeAddr != ":7711" {
		t.Errorf("got %+v", opts)
	}
}

func TestUnknownConfigKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	writeConfig(t, path, "zon: x\n")
	if _, err := settingsFrom(t, "--config", path).load(); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("an unknown key gave %v", err)
	}
}

// A reload hands on what changed, says what needs a restart, and lets go of nothing for a bad file.
func TestReloadTellsWhatNeedsARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	writeConfig(t, path, "zone: a\nlabel: [x=1]\ntoken: one\n")
	from := settingsFrom(t, "--config", path, "--log-level", "warn")
	first, err := from.load()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var saw []string
	apply := func(_ agentOptions, changed []string) ([]string, error) {
		saw = changed
		return among(changed, "label", "log-level"), nil
	}
	writeConfig(t, path, "zone: b\nlabel: [x=2]\nlog-level: debug\ntoken: two\n")
	second := from.reload(first, zerolog.New(&log), apply)
	if d := cmp.Diff([]string{"label", "zone"}, saw); d != "" { // the flag holds log-level, the token was for joining
		t.Error(d)
	}
	if second.Zone != "b" || second.LogLevel != "warn" || !strings.Contains(log.String(), `"applied":["label"],"restart":["zone"]`) {
		t.Errorf("settings %+v, log %s", second, log.String())
	}
	log.Reset()
	writeConfig(t, path, "zone: [\n")
	if third := from.reload(second, zerolog.New(&log), apply); third.Zone != "b" || !strings.Contains(log.String(), "the old ones stay") {
		t.Errorf("settings %+v, log %s", third, log.String())
	}
}

func TestExampleManifestsAreValid(t *testing.T) {
	files, err := filepath.Glob("../deploy/manifests/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	more, err := filepath.Glob("../wasm-examples/*/workload.yaml")
	if err != nil || len(more) == 0 {
		t.Fatalf("%v, %v", more, err)
	}
	for _, f := range append(files, more...) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := manifest.Parse(f, data, manifest.AllowPaths()); err != nil {
			t.Error(err)
		}
	}
}
