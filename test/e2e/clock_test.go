package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/test/process"
)

// skewEnv is how many seconds a skewed binary's wall clock is off.
const skewEnv = "TEST_CLOCK_SKEW_SECONDS"

// anchor is where time.Now has read the clocks; what is added after it moves the wall clock alone.
const anchor = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"

const skewSource = `package time

import "syscall"

var skewSeconds = func() (n int64) {
	text, _ := syscall.Getenv("` + skewEnv + `")
	sign := int64(1)
	for _, c := range []byte(text) {
		if c == '-' {
			sign = -1
		} else {
			n = n*10 + int64(c-'0')
		}
	}
	return sign * n
}()
`

// skewedBinary is the product as it is, compiled with a package time whose wall clock can be off: no
// machine lets a process have a wall clock of its own.
var skewedBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Dir(binary)
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", err
	}
	if strings.Count(string(source), anchor) != 1 {
		return "", fmt.Errorf("%s/time.go does not have once:\n%s\nthis Go reads the clock in another way: adapt this test", std, anchor)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(std, "time.go"): filepath.Join(dir, "time.go"), filepath.Join(std, "skew.go"): filepath.Join(dir, "skew.go"),
	}})
	if err != nil {
		return "", err
	}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(source), anchor, anchor+"\tsec += skewSeconds\n", 1), "skew.go": skewSource, "overlay.json": string(overlay),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	path := filepath.Join(dir, "cloudless-skewed")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "../../cli/cloudless")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with a skewed clock: %w\n%s", err, out)
	}
	return path, nil
})

// launchSkewed starts a member whose clock is off.
func (m *member) launchSkewed(off time.Duration, more ...string) (err error) {
	m.t.Helper()
	path, err := skewedBinary()
	if err != nil {
		m.t.Fatal(err)
	}
	m.Process, err = process.Start(m.t.Context(), process.Config{
		Binary: path, Args: append(append([]string{}, m.args...), more...), Enter: m.enter, Env: []string{fmt.Sprintf("%s=%d", skewEnv, int(off.Seconds()))},
	})
	return err
}

// A clock that is hours off is told with the difference and what to do, where it matters; nothing is lost by
// it, and with the right clock everything goes on. Everything that imports time is compiled anew for it,
// some minutes: it runs among the long tests.
func TestAClockThatIsHoursOff(t *testing.T) {
	if os.Getenv("CLOUDLESS_TEST_LONG") == "" {
		t.Skip("set CLOUDLESS_TEST_LONG to compile the product with a clock that can be off")
	}
	t.Parallel()
	k := newCluster(t, 3, 2, nil)
	k.cli.must("workload", "run", helloModule, "--name", "hi", "--http", "--replicas", "2", "--wait", "--timeout", "60s")
	k.t.Run("an agent behind cannot join", func(t *testing.T) {
		late := k.in(t).agent(k.net.host(), "late")
		err := late.launchSkewed(-5*time.Hour, "--join", k.coords[0].addr+":7701", "--token", "@"+filepath.Join(k.dir, "node.token"))
		tellsOfTheClock(t, fmt.Sprint(err))
	})
	k.t.Run("an agent ahead joins and serves", func(t *testing.T) {
		early := k.agent(k.net.host(), "early")
		if err := early.launchSkewed(5*time.Hour, "--join", k.coords[0].addr+":7701", "--token", "@"+filepath.Join(k.dir, "node.token")); err != nil {
			t.Fatal(err)
		}
		k.in(t).whole()
		k.in(t).served(early, "hi")
	})
	k.t.Run("an agent that falls behind runs what it ran", func(t *testing.T) {
		k := k.in(t)
		a := k.agents[0]
		a.kill()
		if err := a.launchSkewed(-5 * time.Hour); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it serves by what it knows", func() bool { return answers(a, "hi") })
		tellsOfTheClock(t, a.Log())
		a.stop(syscall.SIGTERM)
		a.start()
		k.whole()
		k.settled("hi", 2)
	})
	k.t.Run("doctor tells both", func(t *testing.T) {
		for off, want := range map[time.Duration]string{5 * time.Hour: "5h0m", -5 * time.Hour: "ahead"} {
			out, code := k.in(t).doctorOff(off)
			if code == 0 || !strings.Contains(out, want) || !strings.Contains(out, "run NTP on all machines") {
				t.Errorf("off by %s: exit %d\n%s", off, code, out)
			}
		}
	})
	for _, off := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		k.t.Run("a coordinator off by "+off.String(), func(t *testing.T) { k.in(t).coordinatorOff(off) })
	}
}

// coordinatorOff has the leader come back with a wrong clock, and lose its peers one after the other
// when its clock lets it be a member: no write is lost and no replica moves.
func (k *cluster) coordinatorOff(off time.Duration) {
	k.t.Helper()
	before := k.replicas("hi")
	w := k.startWriting()
	w.await(k.t, 10)
	wrong := k.leader()
	wrong.kill()
	w.await(k.t, w.count()+10)
	if err := wrong.launchSkewed(off); err != nil {
		k.t.Fatal(err)
	}
	if off < 0 {
		tellsOfTheClock(k.t, wrong.Log()) // at its start
	}
	w.await(k.t, w.count()+30)
	if leader := k.leader(); off > 0 && leader != wrong {
		leader.kill() // the one that is ahead now leads, or votes for who does
		w.await(k.t, w.count()+30)
		leader.start()
	}
	wrong.kill()
	w.await(k.t, w.count()+10)
	wrong.start()
	written := w.stop()
	k.whole()
	for _, c := range k.coords {
		k.knows(c, written)
	}
	if after := k.replicas("hi"); after != before {
		k.t.Errorf("replicas were touched: %s, before %s", after, before)
	}
}

// doctorOff runs doctor on a machine whose clock is off.
func (k *cluster) doctorOff(off time.Duration) (out string, code int) {
	k.t.Helper()
	path, err := skewedBinary()
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command(path, "doctor")
	cmd.Env = append(append(os.Environ(), k.cli.env...), fmt.Sprintf("%s=%d", skewEnv, int(off.Seconds())))
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		k.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// tooEarly is how a certificate of now, which counts from an hour before it was made, shows a clock that is five hours
// behind.
var tooEarly = regexp.MustCompile(`this machine's clock says .*, which is [34]h\d+m0s too early: set the clock that is wrong`)

func tellsOfTheClock(t *testing.T, text string) {
	t.Helper()
	if !tooEarly.MatchString(text) {
		t.Errorf("%v is not in:\n%s", tooEarly, text)
	}
}
