// Package script tells the command line as scripts: each file under testdata runs the real command
// against a real cluster of its own on loopback, and says what a user sees on each stream and as exit
// code. The commands that the scripts have beside those of testscript are at the end of this file.
package script

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloudless/cloudless/cli"
)

// patience is how long a script waits for what must come: a loaded machine is slow, not wrong.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloudless": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }})
}

func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("REPO", root)
			env.Setenv("HELLO", filepath.Join(root, "wasm-examples/hello-c/hello.wasm"))
			env.Setenv("CLOUDLESS_CONFIG", filepath.Join(env.WorkDir, "contexts.yaml"))
			env.Setenv("NO_COLOR", "1")
			env.Values[processes{}] = map[string]*process{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dev": cmdDev, "role": cmdRole, "halt": cmdHalt, "follow": cmdFollow, "seen": cmdSeen,
			"exits": cmdExits, "refused": cmdRefused, "until": cmdUntil, "fetch": cmdFetch, "send": cmdSend, "became": cmdBecame, "visited": cmdVisited, "capture": cmdCapture, "replace": cmdReplace, "says": cmdSays,
			"sampled": cmdSampled, "unfinished": cmdUnfinished, "agentmetrics": cmdAgentMetrics,
		},
	})
}

// processes is the key under which a script's running processes are kept, by name.
type processes struct{}

// process is a command in the background whose output goes to files.
type process struct {
	cmd  *exec.Cmd
	out  string
	done chan struct{}
}

func running(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processes{}).(map[string]*process)
}

// spawn starts cloudless in the background; its output goes to NAME.out and NAME.err.
func spawn(ts *testscript.TestScript, name string, args ...string) *process {
	if old := running(ts)[name]; old != nil {
		ts.Fatalf("%s runs already: halt it first", name)
	}
	p := &process{cmd: exec.Command("cloudless", args...), out: ts.MkAbs(name + ".out"), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = ts.MkAbs("."), os.Environ()
	for _, key := range []string{"HOME", "TMPDIR", "CLOUDLESS_CONFIG", "CLOUDLESS_ADDRESS", "CLOUDLESS_TOKEN", "CLOUDLESS_CA_CERT", "NO_COLOR"} {
		p.cmd.Env = append(p.cmd.Env, key+"="+ts.Getenv(key))
	}
	stdout, err := os.Create(p.out)
	ts.Check(err)
	stderr, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	ts.Check(p.cmd.Start())
	ts.Check(errors.Join(stdout.Close(), stderr.Close()))
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	running(ts)[name] = p
	ts.Defer(func() { p.end(ts, syscall.SIGTERM) })
	return p
}

// end stops a process, by force when it takes longer than patience.
func (p *process) end(ts *testscript.TestScript, sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		ts.Fatalf("%v did not end on %v within %v", p.cmd.Args, sig, patience)
	}
}

// firstLine waits for a whole line of output.
func (p *process) firstLine() (string, bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); pause() {
		if f, err := os.Open(p.out); err == nil {
			text, err := bufio.NewReader(f).ReadString('\n')
			f.Close()
			if err == nil {
				return text, true
			}
		}
		select {
		case <-p.done:
			return "", false
		default:
		}
	}
	return "", false
}

// pause is the step of polling for what another process does.
func pause() { time.Sleep(20 * time.Millisecond) }

// ready takes the ready line into the environment: NAME_HTTP and so on, and for dev without a name.
func ready(ts *testscript.TestScript, name, prefix string) {
	p := running(ts)[name]
	text, ok := p.firstLine()
	if !ok {
		ts.Fatalf("%s printed no ready line:\n%s", name, ts.ReadFile(name+".err"))
	}
	var line map[string]any
	ts.Check(json.Unmarshal([]byte(text), &line))
	if line["ready"] != true {
		ts.Fatalf("ready line %q", text)
	}
	for key, v := range line {
		if s, isText := v.(string); isText {
			ts.Setenv(strings.ToUpper(prefix+key), s)
		}
	}
}

// freePorts are flags that let a role share the machine with others.
func freePorts(names ...string) (flags []string) {
	for _, n := range names {
		flags = append(flags, "--"+n+"-addr", "127.0.0.1:0")
	}
	return flags
}

// dev [FLAG…] starts a throw-away cluster. It sets HTTP, INGRESS and TOKEN, and its context is current.
func cmdDev(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! dev")
	}
	all := append([]string{"dev", "-o", "json", "--containerd", "off"}, freePorts("http", "node", "gossip", "metrics", "ingress", "s3")...)
	if !strings.Contains(strings.Join(args, " "), "--data-dir") {
		all = append(all, "--ephemeral")
	}
	spawn(ts, "dev", append(all, args...)...)
	ready(ts, "dev", "")
}

// role NAME coordinator|agent FLAG… starts a role. It sets NAME_HTTP, NAME_NODE and so on.
func cmdRole(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: role NAME coordinator|agent FLAG…")
	}
	spawn(ts, args[0], roleArgs(args[1:])...)
	ready(ts, args[0], args[0]+"_")
}

// roleArgs adds free ports before the flags of a role, which may name others.
func roleArgs(args []string) []string {
	all := []string{args[0], "--advertise", "127.0.0.1"}
	if args[0] == "agent" {
		all = append(append(all, freePorts("node", "gossip", "metrics", "ingress", "s3")...), "--containerd", "off")
	} else {
		all = append(all, freePorts("http", "node", "gossip", "metrics")...)
	}
	return append(all, args[1:]...)
}

// refused CODE coordinator|agent FLAG… starts a role, which must end with this code.
func cmdRefused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refused CODE coordinator|agent FLAG…")
	}
	cmdExits(ts, neg, append(args[:1:1], roleArgs(args[1:])...))
}

// halt NAME [SIGNAL] ends a process, by default politely; its exit code must be 0, with a ! another.
func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	sig := syscall.SIGTERM
	if len(args) == 2 {
		sig = signals[args[1]]
	}
	if len(args) == 0 || sig == 0 || running(ts)[args[0]] == nil {
		ts.Fatalf("usage: halt NAME [TERM|INT|KILL]")
	}
	p := running(ts)[args[0]]
	delete(running(ts), args[0])
	p.end(ts, sig)
	if ok := p.cmd.ProcessState.ExitCode() == 0; sig != syscall.SIGKILL && ok == neg {
		ts.Fatalf("%s ended with %v:\n%s", args[0], p.cmd.ProcessState, ts.ReadFile(args[0]+".err"))
	}
}

// follow NAME ARG… runs cloudless in the background; seen looks at what it prints.
func cmdFollow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: follow NAME ARG…")
	}
	spawn(ts, args[0], args[1:]...)
}

// seen FILE PATTERN waits until the file has a match.
func cmdSeen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: seen FILE PATTERN")
	}
	want := pattern(ts, args[1])
	for end := time.Now().Add(patience); !want.MatchString(ts.ReadFile(args[0])); pause() {
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %s in\n%s", patience, want, ts.ReadFile(args[0]))
		}
	}
}

func pattern(ts *testscript.TestScript, text string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + text)
	ts.Check(err)
	return re
}

// exits CODE ARG… runs cloudless, which must end with this code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := run(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func run(ts *testscript.TestScript, args []string) int {
	err := ts.Exec("cloudless", args...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	ts.Check(err)
	return 0
}

// until PATTERN ARG… runs cloudless again and again until its output matches.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN ARG…")
	}
	want := pattern(ts, args[0])
	for end := time.Now().Add(patience); ; pause() {
		run(ts, args[1:])
		if want.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %s", patience, want)
		}
	}
}

// sampled URL PATTERN asks for metrics until one of ours matches, or with ! until none does; they become
// stdout.
func cmdSampled(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] sampled URL PATTERN")
	}
	want := pattern(ts, "^cloudless_"+args[1])
	for end := time.Now().Add(patience); ; pause() {
		text := body(ts, args[0])
		if want.MatchString(text) != neg {
			fmt.Fprint(ts.Stdout(), text)
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %s in\n%s", patience, want, text)
		}
	}
}

// agentmetrics DIR gives the metrics of both agents of a dev cluster as stdout, one after the other.
func cmdAgentMetrics(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: agentmetrics DIR")
	}
	for _, agent := range []string{"dev-1", "dev-2"} {
		port := ts.ReadFile(filepath.Join(args[0], "agents", agent, "ports", "metrics-addr"))
		fmt.Fprint(ts.Stdout(), body(ts, "http://127.0.0.1:"+port+"/metrics"))
	}
}

// body is what a server answers with status 200.
func body(ts *testscript.TestScript, url string) string {
	resp, err := (&http.Client{Timeout: patience}).Get(url)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", url, resp.Status)
	}
	return string(text)
}

// capture NAME PATTERN keeps the first group of the pattern's match in stdout as a variable.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	m := pattern(ts, args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("no match for %s in stdout", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// replace FILE OLD NEW changes a text that must be there.
func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

// says TEXT… looks for plain texts in stderr, which is to be one line beside the log of a role.
func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	text := pattern(ts, `^\{"level".*\n`).ReplaceAllString(ts.ReadFile("stderr"), "")
	if n := strings.Count(text, "\n"); !neg && n != 1 {
		ts.Fatalf("%d lines of error, not one", n)
	}
	for _, want := range args {
		if strings.Contains(text, want) == neg {
			ts.Fatalf("is %q in stderr? it should be the other way round", want)
		}
	}
}
