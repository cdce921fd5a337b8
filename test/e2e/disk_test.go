package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk is room for a member that has little to keep.
const smallDisk = 96 << 20

// onSmallDisk gives a member that has not started a disk that is soon full.
func (m *member) onSmallDisk(t *testing.T) { t.Helper(); m.onDisk(t, smallDisk) }

func (m *member) onDisk(t *testing.T, size int) {
	t.Helper()
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, m.dir, size)
}

// fill takes all the room on a member's disk; empty gives it back.
func (m *member) fill() {
	m.t.Helper()
	f, err := os.Create(m.filler())
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		m.t.Fatalf("fill the disk of %s: %v", m.name, err)
	}
}

func (m *member) empty() {
	m.t.Helper()
	if err := os.Remove(m.filler()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) filler() string { return filepath.Join(m.dir, "filler") }

func TestAnAgentWithAFullDiskSaysSoAndGoesOnLater(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 1, 1, nil)
	small := k.agent(k.net.host(), "small")
	small.onSmallDisk(t)
	small.args = append(small.args, "--storage-capacity", "0") // a store on so small a disk is full from the start, and counts as a member
	small.start("--join", k.coords[0].addr+":7701", "--token", "@"+k.token("node"))
	k.whole()
	k.cli.must("node", "cordon", k.agents[0].name)
	k.cli.must("workload", "run", helloModule, "--name", "hi", "--http", "--wait", "--timeout", "60s")
	k.served(small, "hi")
	small.fill()
	k.cli.must("workload", "run", helloModule, "--name", "two", "--http") // something to write down
	eventually(t, "the agent says that its disk is full", func() bool { return strings.Contains(small.Log(), "no space left") })
	k.served(small, "hi")
	small.kill()
	if err := small.launch(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a start on a full disk: %v", err)
	}
	small.empty()
	small.start()
	k.settled("hi", 1)
	k.settled("two", 1)
	k.served(small, "hi")
	k.served(small, "two")
}

func TestACoordinatorWithAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	k := newCluster(t, 3, 1, nil)
	for _, tt := range []struct {
		role   string
		choose func(*cluster) *member
	}{
		{"leader", (*cluster).leader},
		{"follower", func(k *cluster) *member { return k.coords[(slices.Index(k.coords, k.leader())+1)%3] }},
	} {
		ok := t.Run(tt.role, func(t *testing.T) {
			k := k.in(t)
			victim := tt.choose(k)
			w := k.startWriting()
			w.await(t, 30)
			victim.fill()
			select {
			case <-victim.Done():
			case <-time.After(patience):
				t.Fatalf("%s does not end on a full disk", victim.name)
			}
			if log := victim.Log(); !strings.Contains(log, "is full") || strings.Contains(log, "panic") {
				t.Errorf("%s does not say why it ended, or does so by a panic:\n%s", victim.name, log)
			}
			w.await(t, w.count()+30) // by the others
			if err := victim.launch(); err == nil || !strings.Contains(err.Error(), "no space left") {
				t.Errorf("a start on a full disk: %v", err)
			}
			victim.empty()
			if err := victim.launch(); err != nil {
				t.Fatal(err)
			}
			written := w.stop()
			k.whole()
			for _, c := range k.coords {
				k.knows(c, written)
			}
		})
		if !ok {
			return
		}
	}
}
