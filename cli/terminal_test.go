package cli

import (
	"bytes"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

// onTerminal runs a command whose output is a terminal, and gives what it shows.
func (s *session) onTerminal(args ...string) string {
	s.t.Helper()
	master, terminal := openPTY(s.t)
	shown := make(chan string, 1)
	go func() { // ends when the last of the output has been read
		var all []byte
		buf := make([]byte, 4096)
		for !bytes.Contains(all, []byte("\x04")) {
			n, err := master.Read(buf)
			if err != nil {
				break
			}
			all = append(all, buf[:n]...)
		}
		shown <- strings.TrimSuffix(string(all), "\x04")
	}()
	e := &Env{In: strings.NewReader(""), Out: terminal, Err: &s.err, Getenv: func(k string) string { return s.env[k] }, Now: time.Now}
	if code := e.Main(args); code != 0 {
		s.t.Errorf("%v: exit code %d: %s", args, code, s.err.String())
	}
	if _, err := terminal.WriteString("\x04"); err != nil {
		s.t.Fatal(err)
	}
	return <-shown
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	s := newSession(t)
	s.file("a.wasm", module)
	yaml := s.file("a.yaml", "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: a}\nspec: {wasm: {module: a.wasm}}\n")
	if out := s.onTerminal("plan", "-f", yaml); !strings.Contains(out, "\x1b[33m") {
		t.Errorf("a terminal gets no colours: %q", out)
	}
	if out := s.onTerminal("plan", "-f", yaml, "--no-color"); strings.Contains(out, "\x1b") {
		t.Errorf("--no-color: %q", out)
	}
	for k, v := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		s.env[k] = v
		if out := s.onTerminal("plan", "-f", yaml); strings.Contains(out, "\x1b") {
			t.Errorf("%s=%s: %q", k, v, out)
		}
		delete(s.env, k)
	}
	if s.run("plan", "-f", yaml); strings.Contains(s.out.String(), "\x1b") {
		t.Errorf("a pipe gets colours: %q", s.out.String())
	}
}

func TestHelpBeginsWithExamplesAndKnowsItsTopics(t *testing.T) {
	s := newSession(t)
	s.run("help", "topics")
	for _, topic := range []string{"environment", "exit-codes", "output"} {
		if !strings.Contains(s.out.String(), topic) {
			t.Errorf("topic %s is not listed:\n%s", topic, s.out.String())
		}
		if code := s.run("help", topic); code != 0 || s.out.Len() < 200 {
			t.Errorf("help %s: %d\n%s", topic, code, s.out.String())
		}
		s.run("help", "topics")
	}
	s.want(2, "", "did you mean workload?", "help", "workloat")
	s.want(2, "", "did you mean list?", "help", "workload", "lst")
	s.run("workload", "scale", "--help")
	if !strings.HasPrefix(s.out.String(), "Set the number of replicas\n\nExamples:\n") {
		t.Errorf("got\n%s", s.out.String())
	}
}

func TestApplyFromAURL(t *testing.T) {
	s := newSession(t)
	text := "apiVersion: cloudless/v1\nkind: Workload\nmetadata: {name: far}\nspec: {wasm: {module: \"sha256:" + strings.Repeat("a", 64) + "\"}}\n"
	mux := http.NewServeMux()
	serve := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("a token was sent to a stranger")
			}
			_, _ = w.Write([]byte(text))
		})
	}
	serve("/far.yaml", text)
	serve("/path.yaml", strings.Replace(text, "sha256:"+strings.Repeat("a", 64), "/etc/passwd", 1))
	serve("/big.yaml", strings.Repeat("#", api.MaxManifestBytes+1))
	mux.Handle("/moved.yaml", http.RedirectHandler("/far.yaml", http.StatusFound))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	s.env["CLOUDLESS_TOKEN"] = "mine"
	s.want(0, "workload far created\n", "", "apply", "-f", srv.URL+"/far.yaml")
	s.want(0, "workload far unchanged\n", "", "apply", "-f", srv.URL+"/far.yaml")
	s.want(2, "", "spec.wasm.module", "apply", "-f", srv.URL+"/path.yaml")
	s.want(1, "", "is over 1.0 MiB", "apply", "-f", srv.URL+"/big.yaml")
	s.want(2, "", "redirects are not followed (if you trust it, apply -f "+srv.URL+"/far.yaml)", "apply", "-f", srv.URL+"/moved.yaml")
	s.want(3, "", "there is no manifest at", "apply", "-f", srv.URL+"/none.yaml")
	s.want(7, "", "http://u:xxxxx@127.0.0.1:1/x.yaml cannot be read", "apply", "-f", "http://u:secret@127.0.0.1:1/x.yaml")
	s.want(2, "", "is not a URL", "apply", "-f", "http://")
}

// written is what a command has written so far; it may still be running.
type written struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// has blocks until the text is there.
func (w *written) has(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(execTime); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		got := w.text.String()
		w.mu.Unlock()
		if strings.Contains(got, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q does not come: %q", text, got)
		}
	}
}

// While nobody answers, a watch says so once; then it goes on by itself.
func TestWatchOutlivesItsCoordinator(t *testing.T) {
	s := newSession(t)
	srv := httptest.NewServer(s.api.handler)
	addr := srv.Listener.Addr().String()
	if code := s.run("run", s.file("a.wasm", module), "--name", "one"); code != 0 {
		t.Fatal(s.err.String())
	}
	env := maps.Clone(s.env)
	env["CLOUDLESS_ADDRESS"] = srv.URL
	var out, errs written
	e := &Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(k string) string { return env[k] }, Now: time.Now}
	ended := make(chan int, 1)
	go func() { ended <- e.Main([]string{"workload", "list", "--watch"}) }()
	out.has(t, "one ")
	srv.CloseClientConnections()
	srv.Close()
	errs.has(t, "no answer, still trying: ")
	if code := s.run("run", s.file("b.wasm", module), "--name", "two"); code != 0 {
		t.Fatal(s.err.String())
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	back := httptest.NewUnstartedServer(s.api.handler)
	back.Listener.Close()
	back.Listener = ln
	back.Start()
	defer back.Close()
	out.has(t, "two ")
	if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 130 {
		t.Errorf("the interrupted watch exits with %d", code)
	}
}
