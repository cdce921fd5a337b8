package fake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/drivertest"
	"github.com/cloudless/cloudless/sandbox/fake"
)

// script plays what the suite asks for: the command is in the container's command line.
func script(variant api.Variant) fake.Script {
	return fake.Script{
		Variant:   variant,
		Adoptable: variant == api.VariantContainer,
		Prepare: func(_ context.Context, spec sandbox.Spec) error {
			if strings.HasPrefix(spec.Artifact, "rubbish") {
				return api.Errorf(api.CodeInvalid, "%s is rubbish", spec.Artifact)
			}
			return nil
		},
		Main: play,
		Handler: func(sandbox.Spec) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
		},
		Exec: func(_ context.Context, _ sandbox.Spec, req sandbox.ExecRequest) (int, error) {
			if req.Command[0] != "hello" {
				return 127, nil
			}
			fmt.Fprintln(req.Stdout, "hello")
			return 3, nil
		},
	}
}

func play(g fake.Guest) sandbox.Exit {
	verb, arg, _ := strings.Cut(g.Spec.Artifact, " ")
	switch verb {
	case "exit":
		var code int
		fmt.Sscan(arg, &code)
		return sandbox.Exit{Code: code, Reason: "exited"}
	case "env":
		fmt.Fprintf(g.Spec.Log, "%s=%s\n", arg, g.Spec.Env[arg])
		return sandbox.Exit{Reason: "exited"}
	case "stubborn":
		<-g.Killed
		return sandbox.Exit{Reason: "does not count"}
	}
	select {
	case <-g.Term:
	case <-g.Killed:
	}
	return sandbox.Exit{Reason: "stopped"}
}

func harness(variant api.Variant) drivertest.Harness {
	spec := func(format string, args ...any) sandbox.Spec {
		s := sandbox.Spec{Artifact: fmt.Sprintf(format, args...)}
		if variant == api.VariantWasm {
			s.Wasm = &api.WasmSpec{}
		} else {
			s.Container = &api.ContainerSpec{}
		}
		return s
	}
	h := drivertest.Harness{
		New:      func(*testing.T) sandbox.Driver { return fake.New(script(variant)) },
		Exit:     func(code int) sandbox.Spec { return spec("exit %d", code) },
		Forever:  func() sandbox.Spec { return spec("forever") },
		PrintEnv: func(name string) sandbox.Spec { return spec("env %s", name) },
		Rubbish:  func() sandbox.Spec { return spec("rubbish") },
		Stubborn: func() sandbox.Spec { return spec("stubborn") },
		HTTP:     func() sandbox.Spec { return spec("forever") },
		Exec:     []string{"hello"},
	}
	if variant == api.VariantContainer {
		h.Survives = true
		h.Restart = func(t *testing.T, d sandbox.Driver) sandbox.Driver {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			return d // the fake is the machine too
		}
	}
	return h
}

func TestConformance(t *testing.T) {
	for _, variant := range []api.Variant{api.VariantContainer, api.VariantWasm} {
		t.Run(string(variant), func(t *testing.T) { drivertest.Run(t, harness(variant)) })
	}
}

func start(t *testing.T, d *fake.Driver, id string) sandbox.Handle {
	t.Helper()
	h, err := d.Start(t.Context(), sandbox.Spec{ID: id, Container: &api.ContainerSpec{}, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestATestCanKillAndCount(t *testing.T) {
	d := fake.New(fake.Script{})
	a := start(t, d, "a")
	start(t, d, "b")
	if diff := cmp.Diff([]string{"a", "b"}, d.Running()); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	if !d.End("a", sandbox.Exit{Code: 9, Reason: "crash"}) || d.End("a", sandbox.Exit{}) {
		t.Error("End must succeed once")
	}
	<-a.Done()
	if a.Exit().Code != 9 {
		t.Errorf("exit is %+v", a.Exit())
	}
	start(t, d, "a")
	if d.Starts("a") != 2 || d.TotalStarts() != 3 {
		t.Errorf("starts of a: %d, of all: %d", d.Starts("a"), d.TotalStarts())
	}
	if _, ok := d.Spec("a"); !ok {
		t.Error("no spec of a running replica")
	}
	if err := d.Close(); err != nil || len(d.Running()) != 0 {
		t.Errorf("after Close %v run, error %v", d.Running(), err)
	}
}

func TestAStartCanBeHeldAndRefused(t *testing.T) {
	refused := errors.New("refused")
	d := fake.New(fake.Script{Start: func(ctx context.Context, spec sandbox.Spec) error {
		if spec.Attempt == 0 {
			return refused
		}
		<-ctx.Done()
		return nil
	}})
	spec := sandbox.Spec{ID: "a", Container: &api.ContainerSpec{}}
	if _, err := d.Start(t.Context(), spec); !errors.Is(err, refused) {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec.Attempt = 1
	if _, err := d.Start(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if d.TotalStarts() != 0 || len(d.Running()) != 0 {
		t.Error("a failed start left something behind")
	}
}

func TestInfoTellsTheReason(t *testing.T) {
	if info := fake.New(fake.Script{Reason: "no runc"}).Info(t.Context()); info.Available || info.Reason != "no runc" {
		t.Errorf("Info is %+v", info)
	}
}
