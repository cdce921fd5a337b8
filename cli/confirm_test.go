package cli

import (
	"bufio"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
)

// Ctrl-C is an answer too: the command ends, and has done nothing.
func TestAQuestionCanBeInterrupted(t *testing.T) {
	s := newSession(t)
	s.api.workloads["default/web"] = api.Workload{Metadata: api.Metadata{Namespace: "default", Name: "web"}}
	master, terminal := openPTY(t)
	asked := make(chan error, 1)
	go func() { // ends with the question
		_, err := bufio.NewReader(master).ReadString('?')
		if err == nil {
			err = syscall.Kill(os.Getpid(), syscall.SIGINT)
		}
		asked <- err
	}()
	e := &Env{In: terminal, Out: &s.out, Err: terminal, Getenv: func(k string) string { return s.env[k] }, Now: time.Now}
	if code := e.Main([]string{"workload", "delete", "web"}); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	if _, there := s.api.workloads["default/web"]; !there {
		t.Error("it was deleted")
	}
}

// A question names the cluster that the command goes to, whatever context is current.
func TestAQuestionNamesTheClusterInForce(t *testing.T) {
	s := newSession(t)
	delete(s.env, "CLOUDLESS_ADDRESS")
	s.want(0, "context home added\n", "", "context", "add", "home", "--address", "http://home:1")
	s.want(0, "context home is current\n", "", "context", "use", "home")
	for _, c := range []struct{ flag, env, want string }{
		{"", "", "context home"},
		{"", "http://away:1", "http://away:1"},
		{"http://there:1", "http://away:1", "http://there:1"},
	} {
		s.env["CLOUDLESS_ADDRESS"] = c.env
		e := &Env{Getenv: func(k string) string { return s.env[k] }}
		e.flags.address = c.flag
		in, err := e.settings()
		if err != nil || in.where() != c.want {
			t.Errorf("--address %q, CLOUDLESS_ADDRESS %q: asks about %q, want %q (%v)", c.flag, c.env, in.where(), c.want, err)
		}
	}
	s.env["CLOUDLESS_CONFIG"] = s.dir + "/none.yaml"
	s.env["CLOUDLESS_ADDRESS"] = ""
	e := &Env{Getenv: func(k string) string { return s.env[k] }}
	if in, err := e.settings(); err != nil || in.where() != defaultAddress {
		t.Errorf("without a context: asks about %q (%v)", in.where(), err)
	}
}
