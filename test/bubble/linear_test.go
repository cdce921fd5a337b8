package bubble

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/test/simnet"
)

// A history of puts, conditional ones too, deletes and reads by several clients at once is recorded, and
// porcupine looks for an order of all of them in which each gives what it gave, and none that had ended
// comes behind one that began later. Every put has other bytes, so an ETag says which one is read.

// asked is one operation on an object: a read, unless it is a put or a delete.
type asked struct {
	key      string
	put      string // the ETag of what is put
	delete   bool
	ifAbsent bool
	ifMatch  string
}

// answered is what it gave.
type answered struct {
	etag string   // that was read; "": there is no object
	code api.Code // of a refusal; unavailable or timeout: nobody knows what happened
}

func (a answered) unknown() bool { return a.code == api.CodeUnavailable || a.code == api.CodeTimeout }

// objectModel is one object by its ETag: what each operation may give, and leave.
var objectModel = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(asked).key
			byKey[key] = append(byKey[key], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byKey {
			out = append(out, ops)
		}
		return out
	},
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		now, op, gave := state.(string), input.(asked), output.(answered)
		next, code := op.apply(now)
		switch {
		case gave.unknown():
			return []any{now, next}
		case code != gave.code || op.reads() && gave.etag != now:
			return nil
		}
		return []any{next}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v gives %+v", input, output) },
}).ToModel()

func (op asked) reads() bool { return op.put == "" && !op.delete }

// apply is what an operation on an object leaves of it, and how it is refused.
func (op asked) apply(now string) (next string, refused api.Code) {
	switch {
	case op.reads():
		return now, ""
	case op.ifAbsent && now != "", op.ifMatch != "" && now != "" && op.ifMatch != now:
		return now, api.CodeConflict
	case op.ifMatch != "" && now == "":
		return now, api.CodeNotFound
	}
	return op.put, ""
}

// historian records what clients do. Its clock is the order in which calls begin and end.
type historian struct {
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
	up    []*coordinator.Server // through which clients go; nil: that one is down
}

func (h *historian) set(w *world) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = h.up[:0]
	for _, c := range w.coords {
		h.up = append(h.up, c.Server)
	}
}

func (h *historian) server(i int) *coordinator.Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up[i%len(h.up)]
}

// record runs an operation. A read of which nothing is known says nothing.
func (h *historian) record(client int, op asked, do func() answered) answered {
	o := porcupine.Operation{ClientId: client, Input: op, Call: h.clock.Add(1)}
	gave := do()
	o.Output, o.Return = gave, h.clock.Add(1)
	if gave.unknown() {
		if op.reads() {
			return gave
		}
		o.Return = math.MaxInt64 // it may still happen
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
	return gave
}

// client makes one operation after the other through one coordinator until ctx ends. Half of the puts are
// so large that their bytes are chunks on nodes.
func (h *historian) client(ctx context.Context, t *testing.T, id int) {
	rng := rand.New(rand.NewPCG(1, uint64(id)))
	seen := map[string]string{}
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(time.Duration(20+rng.IntN(80)) * time.Millisecond)
		s := h.server(id)
		if s == nil {
			continue
		}
		op := asked{key: fmt.Sprint("key-", rng.IntN(3))}
		content := fmt.Appendf(nil, "put %d of client %d", n, id)
		if rng.IntN(2) == 0 {
			content = bytes.Repeat(content, 5_000/len(content)+1)
		}
		sum := md5.Sum(content)
		switch tag := hex.EncodeToString(sum[:]); rng.IntN(10) {
		case 0:
			op.delete, op.ifMatch = true, seen[op.key]
		case 1, 2:
			op.put, op.ifAbsent = tag, true
		case 3, 4:
			op.put, op.ifMatch = tag, seen[op.key]
		case 5:
			op.put = tag
		}
		gave := h.record(id, op, func() answered { return operate(t, s, op, content) })
		switch {
		case op.reads() && !gave.unknown():
			seen[op.key] = gave.etag
		case gave.code == "" && !op.reads():
			seen[op.key] = op.put
		}
	}
}

// operate does one operation through a coordinator. What was read must be what was put.
func operate(t *testing.T, s *coordinator.Server, op asked, content []byte) answered {
	ctx, cancel := context.WithTimeout(t.Context(), putTime)
	defer cancel()
	if op.put != "" {
		p := api.ObjectPut{Bucket: "assets", Key: op.key, Size: int64(len(content)), IfAbsent: op.ifAbsent, IfMatch: op.ifMatch}
		_, err := s.PutObject(ctx, admin, p, bytes.NewReader(content))
		return answered{code: api.CodeOf(err)}
	}
	if op.delete {
		return answered{code: api.CodeOf(s.DeleteObject(ctx, admin, "assets", op.key, op.ifMatch))}
	}
	r, err := s.OpenObject(ctx, "assets", op.key)
	if err != nil {
		if api.CodeOf(err) == api.CodeNotFound {
			return answered{}
		}
		return answered{code: api.CodeOf(err)}
	}
	body := r.Range(ctx, 0, -1)
	defer body.Close()
	got, err := io.ReadAll(body)
	if sum := md5.Sum(got); err == nil && hex.EncodeToString(sum[:]) != r.Object().ETag {
		t.Errorf("%s with ETag %s has the bytes of %x", op.key, r.Object().ETag, sum)
	}
	return answered{etag: r.Object().ETag} // its bytes may be away for a moment; its row was read
}

// Whatever is cut off and killed, all that clients were told fits one order: no put that was acknowledged
// is lost, no read is old, no condition is met twice.
func TestObjectsAreLinearizable(t *testing.T) {
	small(t, 3, 3, func(w *world) {
		w.makeBucket()
		w.eventually("nodes with a store", time.Minute, func() bool { return len(w.stored()) == 3 })
		h := &historian{}
		h.set(w)
		ctx, stop := context.WithCancel(w.t.Context())
		var clients sync.WaitGroup
		for id := range 6 {
			clients.Go(func() { h.client(ctx, w.t, id) })
		}
		for range 2 {
			w.trouble(h)
		}
		stop()
		clients.Wait()
		for id := range w.coords { // and in the end, everywhere
			for key := range 3 {
				op := asked{key: fmt.Sprint("key-", key)}
				if gave := h.record(id, op, func() answered { return operate(w.t, h.server(id), op, nil) }); gave.unknown() {
					w.t.Errorf("%s cannot be read through %s: %s", op.key, w.coords[id].name, gave.code)
				}
			}
		}
		h.check(w)
	})
}

// trouble cuts off and kills what matters most, one after the other, with time to recover between.
func (w *world) trouble(h *historian) {
	leader := w.mustLead()
	var others []*coord
	for _, c := range w.coords {
		if c != leader {
			others = append(others, c)
		}
	}
	w.pass(2 * time.Second)
	w.part(simnet.Drop, coordHosts(leader), coordHosts(others...))
	w.pass(4 * time.Second)
	w.heal()
	w.pass(2 * time.Second)
	w.isolate(nodeHosts(w.nodes[0])...)
	w.pass(4 * time.Second)
	w.heal()
	w.eventually("a leader", soon, func() bool { return w.leader() != nil })
	killed := w.leader()
	h.down(w, killed)
	w.pass(4 * time.Second)
	w.boot(killed)
	h.set(w)
	w.eventually("all to vote", time.Minute, func() bool { return w.voters() == 3 && w.leader() != nil })
}

// down kills a coordinator through which clients go.
func (h *historian) down(w *world, c *coord) {
	h.mu.Lock()
	for i := range h.up {
		if h.up[i] == c.Server {
			h.up[i] = nil
		}
	}
	h.mu.Unlock()
	w.crash(c)
}

func (h *historian) check(w *world) {
	unknown, refused, reads := 0, 0, 0
	for _, op := range h.ops {
		switch gave := op.Output.(answered); {
		case gave.unknown():
			unknown++
		case gave.code != "":
			refused++
		case op.Input.(asked).reads():
			reads++
		}
	}
	w.tell("%d operations: %d reads, %d refused, of %d nobody knows", len(h.ops), reads, refused, unknown)
	if len(h.ops) < 500 || refused < 50 { // whether an answer is lost on its way is left to chance
		w.t.Errorf("%d operations, %d refused: that proves little", len(h.ops), refused)
	}
	if !porcupine.CheckOperations(objectModel, h.ops) {
		w.t.Errorf("there is no order of the %d operations that gives what they gave", len(h.ops))
	}
}

// The model knows what is wrong from what is not.
func TestTheModelOfObjects(t *testing.T) {
	op := func(call, end int64, in asked, out answered) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: end, Input: in, Output: out}
	}
	put := op(1, 2, asked{put: "a"}, answered{})
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		good bool
	}{
		"what was put is read":           {[]porcupine.Operation{put, op(3, 4, asked{}, answered{etag: "a"})}, true},
		"an old read":                    {[]porcupine.Operation{put, op(3, 4, asked{}, answered{})}, false},
		"a read at the same time":        {[]porcupine.Operation{op(1, 4, asked{put: "a"}, answered{}), op(2, 3, asked{}, answered{})}, true},
		"a lost put":                     {[]porcupine.Operation{put, op(3, 4, asked{put: "b"}, answered{}), op(5, 6, asked{}, answered{etag: "a"})}, false},
		"nobody knows, and it was made":  {[]porcupine.Operation{op(1, math.MaxInt64, asked{put: "a"}, answered{code: api.CodeTimeout}), op(3, 4, asked{}, answered{etag: "a"})}, true},
		"nobody knows, and it was not":   {[]porcupine.Operation{op(1, math.MaxInt64, asked{put: "a"}, answered{code: api.CodeTimeout}), op(3, 4, asked{}, answered{})}, true},
		"made, and gone again":           {[]porcupine.Operation{op(1, math.MaxInt64, asked{put: "a"}, answered{code: api.CodeTimeout}), op(3, 4, asked{}, answered{etag: "a"}), op(5, 6, asked{}, answered{})}, false},
		"a condition is met twice":       {[]porcupine.Operation{op(1, 5, asked{put: "a", ifAbsent: true}, answered{}), op(2, 6, asked{put: "b", ifAbsent: true}, answered{})}, false},
		"a condition is met once":        {[]porcupine.Operation{op(1, 5, asked{put: "a", ifAbsent: true}, answered{}), op(2, 6, asked{put: "b", ifAbsent: true}, answered{code: api.CodeConflict})}, true},
		"a match that was none":          {[]porcupine.Operation{put, op(3, 4, asked{put: "b", ifMatch: "x"}, answered{})}, false},
		"a delete that nobody has asked": {[]porcupine.Operation{put, op(3, 4, asked{delete: true, ifMatch: "x"}, answered{code: api.CodeConflict}), op(5, 6, asked{}, answered{})}, false},
	} {
		if porcupine.CheckOperations(objectModel, c.ops) != c.good {
			t.Errorf("%s: want %v", name, c.good)
		}
	}
}
