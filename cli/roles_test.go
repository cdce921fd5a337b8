package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

func TestExampleConfigsLoad(t *testing.T) {
	co := defaultCoordinator()
	if err := withConfig("../deploy/config/coordinator.yaml", pflag.NewFlagSet("", pflag.ContinueOnError), &co, (*coordinatorOptions).bind); err != nil {
		t.Error(err)
	}
	ag := defaultAgent()
	if err := withConfig("../deploy/config/agent.yaml", pflag.NewFlagSet("", pflag.ContinueOnError), &ag, (*agentOptions).bind); err != nil {
		t.Error(err)
	}
	if co.DataDir == "" || ag.DataDir == "" {
		t.Errorf("the examples name no data folder: %q, %q", co.DataDir, ag.DataDir)
	}
}

func TestFlagWinsOverConfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("zone: file\nregion: file\nlabel: [a=1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, flags := defaultAgent(), defaultAgent()
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.bind(set)
	if err := set.Parse([]string{"--zone", "flag", "--label", "b=2"}); err != nil {
		t.Fatal(err)
	}
	if err := withConfig(path, set, &opts, (*agentOptions).bind); err != nil {
		t.Fatal(err)
	}
	if opts.Zone != "flag" || opts.Region != "file" || len(opts.Labels) != 1 || opts.Labels[0] != "b=2" || opts.NodeAddr != ":7711" {
		t.Errorf("got %+v", opts)
	}
}

func TestUnknownConfigKeyIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("zon: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := defaultAgent()
	err := withConfig(path, pflag.NewFlagSet("", pflag.ContinueOnError), &opts, (*agentOptions).bind)
	if api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("an unknown key gave %v", err)
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
