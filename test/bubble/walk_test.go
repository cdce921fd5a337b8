package bubble

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/simnet"
)

// What a walk may ask for, so that it fits on ten nodes of two cores with room to spare.
const (
	walkWorkloads = 6 // at one time
	walkKept      = 3 // of which none is deleted when no more are left
	walkReplicas  = 6 // of one
	walkRest      = 3 * time.Minute
)

var seedFlag = flag.Uint64("seed", 0, "walk once, with this seed")

// TestAfterARandomWalkAllIsAsAsked does to a cluster what chance says: cuts, heals, crashes, restarts and
// writes. Then all is healed, and the cluster must come to rest with what was acknowledged. The seed
// gives the same walk again, though not the same race between goroutines.
func TestAfterARandomWalkAllIsAsAsked(t *testing.T) {
	seeds, steps := []uint64{1, 2}, 40
	if os.Getenv("CLOUDLESS_TEST_LONG") != "" {
		steps = 120
		first := uint64(time.Now().Unix())
		seeds = nil
		for i := range uint64(40) {
			seeds = append(seeds, first+i)
		}
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			story(t, func(w *world) {
				k := &walk{world: w, rng: rand.New(rand.NewPCG(seed, 0)), wishes: map[string]*wish{}}
				for range walkKept {
					k.apply()
				}
				for range steps {
					k.step()
					k.neverTooMuch()
				}
				k.rest()
			})
		})
	}
}

// wish is what may be true of a workload in the end: its replicas, 0 for none of it. The first is what
// was acknowledged last; the others are writes of which nobody knows whether they were carried out.
type wish struct{ counts []int }

func (s *wish) acked(n int)   { s.counts[0] = n }
func (s *wish) unknown(n int) { s.counts = append(s.counts, n) }

type walk struct {
	*world
	rng    *rand.Rand
	wishes map[string]*wish
	made   int
}

// step does one thing, then lets some time pass.
func (k *walk) step() {
	moves := []struct {
		weight int
		do     func()
	}{
		{8, k.apply}, {4, k.scale}, {3, k.remove},
		{3, k.isolateOne}, {2, k.cutPair}, {2, k.cutOneWay}, {1, k.cutInTwo}, {4, k.heal},
		{3, k.killAgent}, {1, k.powerOffAgent}, {5, k.startAgent},
		{2, k.crashCoordinator}, {4, k.bootCoordinator},
	}
	total := 0
	for _, m := range moves {
		total += m.weight
	}
	at := k.rng.IntN(total)
	for _, m := range moves {
		if at -= m.weight; at < 0 {
			m.do()
			break
		}
	}
	k.pass(time.Duration(k.rng.IntN(6000)) * time.Millisecond)
}

func pick[T any](k *walk, list []T, ok func(T) bool) (T, bool) {
	list = slices.DeleteFunc(slices.Clone(list), func(v T) bool { return !ok(v) })
	var none T
	if len(list) == 0 {
		return none, false
	}
	return list[k.rng.IntN(len(list))], true
}

// names lists the workloads that are there for sure, in the order of their making.
func (k *walk) names() []string {
	var out []string
	for name, s := range k.wishes {
		if s.counts[0] > 0 {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	return out
}

// write makes a change through any coordinator that runs, and notes what came of it.
func (k *walk) write(what, name string, count int, do func(ctx context.Context, c *coord) error) {
	c, ok := pick(k, k.coords, func(c *coord) bool { return c.Server != nil })
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Second)
	defer cancel()
	err := do(ctx, c)
	k.tell("%s %s %d through %s: %v", what, name, count, c.name, err)
	s := k.wishes[name]
	if s == nil {
		s = &wish{counts: []int{0}}
		k.wishes[name] = s
	}
	switch code := api.CodeOf(err); {
	case err == nil:
		s.acked(count)
	case code == api.CodeUnavailable || code == api.CodeTimeout || code == api.CodeInternal:
		s.unknown(count)
	case code == api.CodeNotFound || code == api.CodeConflict: // this coordinator is behind
	default:
		k.t.Fatalf("%s %s: %v", what, name, err)
	}
}

func (k *walk) apply() {
	if len(k.names()) >= walkWorkloads {
		return
	}
	k.made++
	name, count := fmt.Sprintf("w%d", k.made), 1+k.rng.IntN(walkReplicas)
	work := container(name, count)
	work.Spec.Resources.CPU = api.MilliCPU(100 * (1 + k.rng.IntN(3)))
	k.write("apply", name, count, func(ctx context.Context, c *coord) error {
		_, err := c.PutWorkload(ctx, admin, work, true, 0)
		return err
	})
}

func (k *walk) scale() {
	if name, ok := pick(k, k.names(), func(string) bool { return true }); ok {
		count := 1 + k.rng.IntN(walkReplicas)
		k.write("scale", name, count, func(ctx context.Context, c *coord) error {
			_, err := c.ScaleWorkload(ctx, admin, api.DefaultNamespace, name, count, 0)
			return err
		})
	}
}

func (k *walk) remove() {
	if len(k.names()) <= walkKept {
		return
	}
	if name, ok := pick(k, k.names(), func(string) bool { return true }); ok {
		k.write("delete", name, 0, func(ctx context.Context, c *coord) error {
			_, err := c.DeleteWorkload(ctx, admin, api.DefaultNamespace, name, 0)
			return err
		})
	}
}

func (k *walk) host() *simnet.Host {
	all := k.hosts()
	return all[k.rng.IntN(len(all))]
}

func (k *walk) isolateOne() { k.isolate(k.host()) }

func (k *walk) cutPair() {
	way := []simnet.Way{simnet.Drop, simnet.Refuse}[k.rng.IntN(2)]
	if a, b := k.host(), k.host(); a != b {
		k.part(way, []*simnet.Host{a}, []*simnet.Host{b})
	}
}

func (k *walk) cutOneWay() {
	if a, b := k.host(), k.host(); a != b {
		k.tell("drop from %s to %s", a.Name, b.Name)
		k.net.SetOneWay(simnet.Drop, a, b)
	}
}

func (k *walk) cutInTwo() {
	all := k.hosts()
	k.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	at := 1 + k.rng.IntN(len(all)-1)
	k.part(simnet.Drop, all[:at], all[at:])
}

func (k *walk) killAgent() {
	if n, ok := pick(k, k.nodes, func(n *node) bool { return n.Agent != nil }); ok {
		k.kill(n)
	}
}

func (k *walk) powerOffAgent() {
	if n, ok := pick(k, k.nodes, func(n *node) bool { return n.Agent != nil }); ok {
		k.powerOff(n)
	}
}

func (k *walk) startAgent() {
	if n, ok := pick(k, k.nodes, func(n *node) bool { return n.Agent == nil }); ok {
		k.start(n)
	}
}

func (k *walk) crashCoordinator() {
	if c, ok := pick(k, k.coords, func(c *coord) bool { return c.Server != nil }); ok {
		k.crash(c)
	}
}

func (k *walk) bootCoordinator() {
	if c, ok := pick(k, k.coords, func(c *coord) bool { return c.Server == nil }); ok {
		k.boot(c)
	}
}

// neverTooMuch checks that no node is given more than it has, in the eyes of any coordinator.
func (k *walk) neverTooMuch() {
	for _, c := range k.up() {
		list, err := c.Nodes(k.t.Context(), api.ListQuery{Limit: 1000})
		k.check(err)
		for _, n := range list.Items {
			if !n.Status.Allocated.Fits(n.Capacity) {
				k.t.Fatalf("at %s %s has %v of %v allocated", k.now(), n.Name, n.Status.Allocated, n.Capacity)
			}
		}
	}
}

// rest heals everything and waits until the cluster is as it was asked to be.
func (k *walk) rest() {
	k.t.Helper()
	k.heal()
	for _, c := range k.coords {
		if c.Server == nil {
			k.boot(c)
		}
	}
	for _, n := range k.nodes {
		if n.Agent == nil {
			k.start(n)
		}
	}
	k.eventually("all nodes to be ready", walkRest, func() bool { return k.leader() != nil && len(k.inState(api.NodeReady)) == len(k.nodes) })
	k.eventually("all to be as asked", walkRest, func() bool { return k.wrong() == "" })
	k.sameState()
	before := k.starts()
	k.pass(soon)
	if why := k.wrong(); why != "" || k.starts() != before {
		k.t.Errorf("it does not rest: %s (%d starts, then %d)", why, before, k.starts())
	}
	k.neverTooMuch()
	k.sameState()
}

// wrong says what is not as asked; "" when all is.
func (k *walk) wrong() string {
	for name, s := range k.wishes {
		count := 0
		if got, there := k.workload(name); there {
			count = got.Status.Desired
		}
		if !slices.Contains(s.counts, count) {
			return fmt.Sprintf("%s has %d replicas, and only one of %v was asked for", name, count, s.counts)
		}
		if count == 0 && len(k.running(name)) > 0 {
			return fmt.Sprintf("%s is gone, and these run: %v", name, k.running(name))
		}
		if count > 0 && !k.settled(name, count) {
			return fmt.Sprintf("%s is not settled with %d replicas", name, count)
		}
	}
	return ""
}
