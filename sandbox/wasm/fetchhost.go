package wasm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/egress"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

// fetchPrefix begins the names of the functions of module cl by which a guest reaches the world. They
// are granted only where the manifest says what may be reached. docs/GUEST-FETCH.md is their contract.
const fetchPrefix = "fetch_"

// fetchFunctions are those functions, with the number of their parameters, all i32 as their result is.
var fetchFunctions = map[string]struct {
	call   wapi.GoModuleFunc
	params int
}{
	fetchPrefix + "open":  {fetchOpen, 2},
	fetchPrefix + "write": {fetchWrite, 3},
	fetchPrefix + "head":  {fetchHead, 3},
	fetchPrefix + "read":  {fetchRead, 3},
	fetchPrefix + "close": {fetchClose, 1},
}

// openEgress makes the replica's way out, if its manifest allows one.
func (b *base) openEgress() (err error) {
	if len(b.spec.Egress) > 0 {
		b.egress, err = egress.NewClient(b.driver.config.Network, b.spec.Egress)
	}
	return err
}

func (b *base) closeEgress() {
	if b.egress == nil {
		return
	}
	if err := b.egress.Close(); err != nil {
		b.driver.config.Log.Error().Err(err).Str("replica", b.ID()).Msg("a fetch failed in a way of ours")
	}
}

// fetching is the table of what the present call has under way.
func (i *instance) fetching() *egress.Fetches {
	if i.fetches == nil {
		i.fetches = i.egress.Fetches(i.bounds)
	}
	return i.fetches
}

// told is what the guest is told by one of its doors: a number that is not negative, or an errno with its
// sign turned, whose reason is in the workload's log.
func (i *instance) told(door string, n int, err error) uint64 {
	var failed *sandbox.Refusal
	if errors.As(err, &failed) {
		if failed.Reason != "" {
			i.log.printf("cloudless: %s: %s", door, failed.Reason)
		}
		n = -int(failed.Errno)
	}
	return wapi.EncodeI32(int32(n))
}

func (i *instance) outcome(n int, err error) uint64 { return i.told("fetch", n, err) }

func fetchOpen(ctx context.Context, m wapi.Module, stack []uint64) {
	i := caller(ctx)
	stack[0] = i.outcome(openFetch(i.fetching(), view(m, stack[0], stack[1])))
}

// openFetch reads a request's head: "METHOD SP URL LF", then fields as a response's head has them.
func openFetch(f *egress.Fetches, head []byte) (int, error) {
	if len(head) > api.MaxHeaderBytes {
		return 0, &egress.Error{Errno: egress.ErrnoTooLarge, Reason: "a request's head is larger than " + strconv.Itoa(api.MaxHeaderBytes) + " bytes"}
	}
	line, rest, _ := bytes.Cut(head, []byte("\n"))
	method, target, ok := strings.Cut(strings.TrimSuffix(string(line), "\r"), " ")
	if !ok {
		return 0, &egress.Error{Errno: egress.ErrnoInvalid, Reason: "a request's head does not begin with METHOD SP URL LF"}
	}
	header, err := parseFields(rest)
	if err != nil {
		return 0, &egress.Error{Errno: egress.ErrnoInvalid, Reason: err.Error()}
	}
	keepEndToEnd(header)
	return f.Open(method, target, header)
}

func fetchWrite(ctx context.Context, m wapi.Module, stack []uint64) {
	i, handle, p := caller(ctx), wapi.DecodeI32(stack[0]), atMostMaxInt32(view(m, stack[1], stack[2]))
	f, n, err := i.fetching(), 0, error(nil)
	i.clock.wait(func() { n, err = f.Write(int(handle), p) })
	stack[0] = i.outcome(n, err)
}

func fetchHead(ctx context.Context, m wapi.Module, stack []uint64) {
	i, handle, p := caller(ctx), wapi.DecodeI32(stack[0]), view(m, stack[1], stack[2])
	var text []byte
	var err error
	f := i.fetching()
	i.clock.wait(func() { text, err = responseHead(f, int(handle)) })
	copy(p, text)
	stack[0] = i.outcome(len(text), err)
}

// responseHead writes a response's head: "STATUS LF", then fields as a request's head has them.
func responseHead(f *egress.Fetches, handle int) ([]byte, error) {
	status, header, err := f.Head(handle)
	if err != nil {
		return nil, err
	}
	return appendFields(append(strconv.AppendInt(nil, int64(status), 10), '\n'), fieldsOf(endToEnd(header))), nil
}

func fieldsOf(h http.Header) []field {
	fields := make([]field, 0, len(h))
	for name, values := range h {
		fields = append(fields, field{name, values})
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

func fetchRead(ctx context.Context, m wapi.Module, stack []uint64) {
	i, handle, p := caller(ctx), wapi.DecodeI32(stack[0]), atMostMaxInt32(view(m, stack[1], stack[2]))
	f, n, err := i.fetching(), 0, error(nil)
	i.clock.wait(func() { n, err = f.Read(int(handle), p) })
	if errors.Is(err, io.EOF) {
		err = nil
	}
	stack[0] = i.outcome(n, err)
}

func fetchClose(ctx context.Context, _ wapi.Module, stack []uint64) {
	i := caller(ctx)
	stack[0] = i.outcome(0, i.fetching().Close(int(wapi.DecodeI32(stack[0]))))
}

// isFetch tells whether a guest that imports the function wants to reach the world.
func isFetch(module, name string) bool {
	_, ok := fetchFunctions[name]
	return ok && module == rewrite.TickModule
}

// granted refuses a module that wants to reach the world, or a bucket, where its manifest names nothing to
// reach.
func (f *facts) granted(spec *sandbox.Spec) error {
	if f.Fetch != "" && len(spec.Egress) == 0 {
		return invalid("the module imports %s.%s, which only spec.egress.allow grants, and the manifest names nothing there", rewrite.TickModule, f.Fetch).
			WithHint("name what it may reach, such as egress: {allow: [\"api.example.com:443\"]}")
	}
	if f.Store != "" && len(spec.Buckets) == 0 {
		return invalid("the module imports %s.%s, which only spec.buckets grants, and the manifest names nothing there", rewrite.TickModule, f.Store).
			WithHint("name the buckets that it may reach, such as buckets: [{bucket: sessions, access: readWrite}]")
	}
	return nil
}
