package wasi

import (
	"errors"
	"io"
	"sync"
)

// aheadBytes is how much is read ahead at most.
const aheadBytes = 16 << 10

// input is the guest's standard input.
//
// An io.Reader cannot be asked whether a Read would wait, and cannot be told to give up. So a goroutine
// reads one piece ahead whenever the guest asks and nothing is there, into memory of its own: a Read
// that does not return can hold up neither the guest nor its memory.
type input struct {
	wake  signal
	ahead *ahead
}

// ahead is what was read of one reader and not yet taken.
type ahead struct {
	from io.Reader
	wake signal

	mu      sync.Mutex
	reading bool
	space   []byte // data lies in it
	data    []byte
	err     error // the reader's last word
}

func (in *input) filetype() filetype { return typeUnknown } // a pipe, for which preview 1 has no name
func (in *input) close() error       { return nil }

// bind begins anew with another reader; what was read of the old one is forgotten.
func (in *input) bind(from io.Reader) {
	if from == nil && in.ahead != nil && in.ahead.from == nil {
		return // it is at its end, and stays there
	}
	next := &ahead{from: from, wake: in.wake}
	if in.ahead != nil && in.idle() {
		next.space = in.ahead.space
	}
	if from == nil {
		next.err = io.EOF
	}
	in.ahead = next
}

// idle tells that no Read is under way.
func (in *input) idle() bool {
	in.ahead.mu.Lock()
	defer in.ahead.mu.Unlock()
	return !in.ahead.reading
}

func (in *input) read(w *World, _ *descriptor, p []byte, wait bool) (int, error) {
	for {
		n, err := in.ahead.take(p)
		if err != eAgain || !wait {
			return n, err
		}
		w.pause(nil)
	}
}

// take gives what is there. If there is nothing it is eAgain, and more is asked for.
func (a *ahead) take(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.data) > 0 {
		n := copy(p, a.data)
		a.data = a.data[n:]
		return n, nil
	}
	if a.err != nil {
		if errors.Is(a.err, io.EOF) {
			return 0, nil
		}
		return 0, a.err
	}
	a.ask()
	return 0, eAgain
}

// ask begins to read if nobody does; a.mu is held.
func (a *ahead) ask() {
	if a.reading {
		return
	}
	a.reading = true
	if a.space == nil {
		a.space = make([]byte, aheadBytes)
	}
	go func() {
		n, err := a.from.Read(a.space)
		a.mu.Lock()
		a.data, a.err, a.reading = a.space[:n], err, false
		a.mu.Unlock()
		a.wake.raise()
	}()
}

// readable asks for more if there is nothing, and tells what there is. The end is something.
func (in *input) readable(*descriptor) readiness {
	a := in.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.data) == 0 && a.err == nil {
		a.ask()
		return readiness{}
	}
	return readiness{ready: true, bytes: uint64(len(a.data)), hangup: len(a.data) == 0}
}

// output is the guest's standard output or error.
type output struct{ io.Writer }

func (o *output) filetype() filetype { return typeUnknown }
func (o *output) close() error       { return nil }

func (o *output) write(w *World, _ *descriptor, p []byte, _ bool) (n int, err error) {
	if o.Writer == nil {
		return len(p), nil
	}
	w.config.Wait(func() { n, err = o.Write(p) })
	w.ended()
	return n, err
}

// writable: a writer takes whatever it is given.
func (o *output) writable(*descriptor) readiness { return readiness{ready: true, bytes: chunkBytes} }
