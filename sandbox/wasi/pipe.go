package wasi

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// pipeBytes is what one direction of a connection holds. Then who writes waits.
const pipeBytes = 64 << 10

// errEmpty and errFull are a pipe's "not now": wait for the signal and try again.
var (
	errEmpty = errors.New("the pipe is empty")
	errFull  = errors.New("the pipe is full")
)

// pipe carries bytes one way. Nobody waits in it: each end has a signal for when it is worth trying
// again.
type pipe struct {
	mu       sync.Mutex
	data     []byte // data[taken:] is to be read
	taken    int
	ended    bool  // nothing more will be written
	left     bool  // nothing more will be read
	err      error // what reading gives at the end instead of io.EOF
	toReader signal
	toWriter signal
}

// read gives what is there; with peek it stays there.
func (p *pipe) read(to []byte, peek bool) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.left:
		return 0, io.EOF
	case p.taken == len(p.data) && p.err != nil:
		return 0, p.err
	case p.taken == len(p.data) && p.ended:
		return 0, io.EOF
	case p.taken == len(p.data):
		return 0, errEmpty
	}
	n := copy(to, p.data[p.taken:])
	if peek {
		return n, nil
	}
	if p.taken += n; p.taken == len(p.data) {
		p.data, p.taken = p.data[:0], 0
	}
	p.toWriter.raise()
	return n, nil
}

// write takes as much as there is room for.
func (p *pipe) write(from []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left || p.ended {
		return 0, syscall.EPIPE
	}
	held := len(p.data) - p.taken
	n := min(len(from), pipeBytes-held)
	if n == 0 && len(from) > 0 {
		return 0, errFull
	}
	if p.taken > 0 && len(p.data)+n > cap(p.data) {
		p.data, p.taken = p.data[:copy(p.data, p.data[p.taken:])], 0
	}
	p.data = append(p.data, from[:n]...)
	p.toReader.raise()
	return n, nil
}

// end says that nothing more will be written; err is for a reader who could take the end for a good one.
func (p *pipe) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.err = true, err
	}
	p.toReader.raise()
}

// leave says that nothing more will be read.
func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.data, p.taken = true, nil, 0
	p.toReader.raise()
	p.toWriter.raise()
}

// listen sets the signals of one end: as reader if it is not nil, as writer likewise.
func (p *pipe) listen(reader, writer signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reader != nil {
		p.toReader = reader
	}
	if writer != nil {
		p.toWriter = writer
	}
}

// readiness tells what a poll of the reading end finds, and of the writing end.
func (p *pipe) readReadiness() readiness {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, over := len(p.data)-p.taken, p.ended || p.left
	return readiness{ready: n > 0 || over, bytes: uint64(n), hangup: over}
}

func (p *pipe) writeReadiness() readiness {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, over := pipeBytes-(len(p.data)-p.taken), p.ended || p.left
	return readiness{ready: n > 0 || over, bytes: uint64(n), hangup: over}
}
