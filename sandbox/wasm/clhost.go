package wasm

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/tetratelabs/wazero"
	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

// The errno values of resp_head.
const (
	errnoOK      = 0
	errnoExist   = 17
	errnoInvalid = 22
)

var (
	errOutside   = errors.New("a pointer or length given to the host lies outside memory")
	errNoRequest = errors.New("a cl function was called outside of a request")
)

// exportCl makes the host module cl, the guest's side of cloudless:http/v1.
func exportCl(ctx context.Context, r wazero.Runtime) error {
	i32 := wapi.ValueTypeI32
	b := r.NewHostModuleBuilder(rewrite.TickModule)
	add := func(name string, f wapi.GoModuleFunc, results []wapi.ValueType, params ...wapi.ValueType) {
		b.NewFunctionBuilder().WithGoModuleFunction(metered(f), params, results).Export(name)
	}
	one := []wapi.ValueType{i32}
	add("req_head", reqHead, one, i32, i32)
	add("body_read", bodyRead, one, i32, i32)
	add("resp_head", respHead, one, i32, i32, i32)
	add("body_write", bodyWrite, one, i32, i32)
	add("flush", flush, nil)
	add("log", logLine, nil, i32, i32, i32)
	for name, f := range fetchFunctions {
		add(name, f.call, one, slices.Repeat(one, f.params)...)
	}
	for name, f := range storeFunctions {
		add(name, storing(f.call), one, f.params...)
	}
	b.NewFunctionBuilder().WithGoModuleFunction(wapi.GoModuleFunc(tick), nil, nil).Export(rewrite.TickName)
	_, err := b.Instantiate(ctx)
	return err
}

// view is the guest's memory from ptr on; outside of it the guest traps. The upper halves of the
// stack's slots are not defined, so they are cut off.
func view(m wapi.Module, ptr, length uint64) []byte {
	if m.Memory() == nil {
		panic(errOutside)
	}
	p, ok := m.Memory().Read(wapi.DecodeU32(ptr), wapi.DecodeU32(length))
	if !ok {
		panic(errOutside)
	}
	return p
}

// request is the request of the running call; without one the guest traps.
func request(ctx context.Context) *exchange {
	x := caller(ctx).request
	if x == nil {
		panic(errNoRequest)
	}
	return x
}

func reqHead(ctx context.Context, m wapi.Module, stack []uint64) {
	head := request(ctx).requestHead()
	caller(ctx).tank.charge(copy(view(m, stack[0], stack[1]), head))
	stack[0] = wapi.EncodeU32(uint32(len(head)))
}

func bodyRead(ctx context.Context, m wapi.Module, stack []uint64) {
	n, err := request(ctx).Read(atMostMaxInt32(view(m, stack[0], stack[1])))
	caller(ctx).tank.charge(n)
	if n == 0 && err != nil && !errors.Is(err, io.EOF) {
		n = -1
	}
	stack[0] = wapi.EncodeI32(int32(n))
}

func respHead(ctx context.Context, m wapi.Module, stack []uint64) {
	x := request(ctx)
	status, text := int(wapi.DecodeI32(stack[0])), view(m, stack[1], stack[2])
	stack[0] = wapi.EncodeI32(answerHead(x, status, text))
}

func answerHead(x *exchange, status int, text []byte) int32 {
	if x.sent() {
		return errnoExist
	}
	header, err := x.heads.answerOf(text)
	if err != nil || !validStatus(status) {
		return errnoInvalid
	}
	x.respond(status, header)
	return errnoOK
}

func bodyWrite(ctx context.Context, m wapi.Module, stack []uint64) {
	n, err := request(ctx).Write(atMostMaxInt32(view(m, stack[0], stack[1])))
	caller(ctx).tank.charge(n)
	if err != nil {
		n = -1
	}
	stack[0] = wapi.EncodeI32(int32(n))
}

// atMostMaxInt32 keeps a result from being taken for an error.
func atMostMaxInt32(p []byte) []byte { return p[:min(len(p), math.MaxInt32)] }

func flush(ctx context.Context, _ wapi.Module, _ []uint64) { request(ctx).flush() }

var levels = [...]string{"DEBUG", "INFO", "WARN", "ERROR"}

func logLine(ctx context.Context, m wapi.Module, stack []uint64) {
	i, level, text := caller(ctx), min(wapi.DecodeU32(stack[0]), uint32(len(levels)-1)), view(m, stack[1], stack[2])
	if over := len(text) - api.MaxLogLineBytes; over > 0 {
		i.log.lost(over)
		text = text[:api.MaxLogLineBytes]
	}
	i.tank.charge(len(text))
	i.line = appendOneLine(append(append(i.line[:0], levels[level]...), ' '), text)
	i.log.line(i.line)
}
