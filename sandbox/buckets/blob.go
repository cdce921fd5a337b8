package buckets

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
)

// blob is an open one: of the two, one is set.
type blob struct {
	source  *source
	sink    *sink
	release func() // gives its stream back, and ends what is under way; once
}

// source is a blob that is read.
type source struct {
	mu     sync.Mutex // a call's end closes what the guest may be reading
	reader io.ReadCloser
}

// sink is a blob that is written.
type sink struct {
	bucket, key string
	mode        Mode
	body        *io.PipeWriter
	written     int64
	stored      chan stored // one
}

type stored struct {
	object *api.Object
	err    error
}

// What ends the pipe of a blob that is written.
var (
	errWithdrawn = errors.New("the blob was not committed") // for the store: it makes nothing
	errStored    = errors.New("the store takes no more")    // for the guest: the store's answer says why
)

// Open opens a range of an object to be read, and describes the object.
func (c *Call) Open(bucket, key string, offset, length int64) (handle int, o *api.Object, err error) {
	err = checkKey(key)
	if err == nil && offset < 0 {
		err = refuse(ErrnoInvalid, "an offset of %d", offset)
	}
	if err == nil {
		handle, err = c.free()
	}
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(c.ctx) // the reader's too, so it lasts longer than the operation
	slow := time.AfterFunc(opTimeout, cancel)
	s := &source{}
	err = c.do(bucket, key, false, func(context.Context) (err error) {
		o, s.reader, err = c.store.Open(ctx, bucket, key, offset, length)
		if err != nil && !slow.Stop() {
			err = context.DeadlineExceeded
		}
		return err
	})
	if err != nil {
		cancel()
		<-c.streams
		return 0, nil, err
	}
	c.open[handle-1] = &blob{source: s, release: c.hold(func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = s.reader.Close() // nothing more is wanted of it
	})}
	slow.Stop()
	return handle, o, nil
}

// Create begins a blob. What is written to it is there for others when it is committed.
func (c *Call) Create(bucket, key string, mode Mode, etag string) (handle int, err error) {
	on, err := condition(mode, etag)
	if err == nil {
		err = checkKey(key)
	}
	if err == nil {
		err = c.may(bucket, true)
	}
	if err == nil {
		handle, err = c.free()
	}
	if err != nil {
		return 0, err
	}
	body, w := io.Pipe()
	s := &sink{bucket: bucket, key: key, mode: mode, body: w, stored: make(chan stored, 1)}
	ctx, cancel := context.WithCancel(c.ctx)
	withdraw := func() {
		_ = w.CloseWithError(errWithdrawn) // it never fails
		cancel()
	}
	c.open[handle-1] = &blob{sink: s, release: c.hold(withdraw)}
	c.group.Go("blob of "+bucket, func(ending context.Context) error {
		defer context.AfterFunc(ending, withdraw)()
		o, err := c.store.Put(ctx, bucket, key, on, -1, body)
		s.stored <- stored{o, err}
		_ = body.CloseWithError(errStored)
		return nil
	})
	return handle, nil
}

// free finds a handle, and takes a stream for it.
func (c *Call) free() (handle int, err error) {
	for i := range c.open {
		if c.open[i] != nil {
			continue
		}
		select {
		case c.streams <- struct{}{}:
			return i + 1, nil
		default:
			return 0, refuse(ErrnoTooMany, "the replica has %d blobs open", MaxStreams)
		}
	}
	return 0, refuse(ErrnoTooMany, "the call has %d blobs open", MaxOpen)
}

// hold has end called, and a stream given back, once: by the function it returns, or when the call ends.
func (c *Call) hold(end func()) (release func()) {
	once := sync.OnceFunc(func() {
		end()
		<-c.streams
	})
	stop := context.AfterFunc(c.ctx, once)
	return func() {
		stop()
		once()
	}
}

// Read reads on in a blob; 0 at the end of what was asked for.
func (c *Call) Read(handle int, p []byte) (n int, err error) {
	b, err := c.find(handle)
	if err != nil {
		return 0, err
	}
	if b.source == nil {
		return 0, refuse(ErrnoHandle, "blob %d is being written", handle)
	}
	b.source.mu.Lock()
	defer b.source.mu.Unlock()
	for n == 0 && err == nil && len(p) > 0 {
		n, err = b.source.reader.Read(p)
	}
	if n > 0 || errors.Is(err, io.EOF) {
		return n, nil
	}
	return 0, c.explain("blob", "", err)
}

// Write sends bytes of a blob and returns when the store has taken them all.
func (c *Call) Write(handle int, p []byte) (int, error) {
	s, err := c.sink(handle)
	if err != nil {
		return 0, err
	}
	if s.written+int64(len(p)) > MaxBlobBytes {
		return 0, refuse(ErrnoTooLarge, "%s/%.80q: a blob has at most %d bytes", s.bucket, s.key, int64(MaxBlobBytes))
	}
	n, err := s.body.Write(p)
	s.written += int64(n)
	switch {
	case err == nil:
		return n, nil
	case c.ctx.Err() != nil:
		return 0, c.explain(s.bucket, s.key, c.ctx.Err())
	}
	answer := <-s.stored // errStored comes after it
	s.stored <- answer   // for Commit
	return 0, c.explain(s.bucket, s.key, met(s.mode, answer.err))
}

// Commit makes the object of what was written, gives its ETag, and closes the handle, whatever comes of it.
func (c *Call) Commit(handle int) (etag string, err error) {
	s, err := c.sink(handle)
	if err != nil {
		return "", err
	}
	defer c.drop(handle)
	if c.ctx.Err() != nil {
		return "", c.explain(s.bucket, s.key, c.ctx.Err())
	}
	_ = s.body.Close() // it never fails
	select {
	case answer := <-s.stored:
		if answer.err != nil {
			return "", c.explain(s.bucket, s.key, met(s.mode, answer.err))
		}
		return answer.object.ETag, nil
	case <-c.ctx.Done():
		return "", c.explain(s.bucket, s.key, c.ctx.Err())
	}
}

// Close gives a handle back. A blob that is written and was not committed is withdrawn.
func (c *Call) Close(handle int) error {
	if _, err := c.find(handle); err != nil {
		return err
	}
	c.drop(handle)
	return nil
}

func (c *Call) drop(handle int) {
	c.open[handle-1].release()
	c.open[handle-1] = nil
}

func (c *Call) find(handle int) (*blob, error) {
	if handle < 1 || handle > MaxOpen || c.open[handle-1] == nil {
		return nil, refuse(ErrnoHandle, "%d is no open blob", handle)
	}
	return c.open[handle-1], nil
}

func (c *Call) sink(handle int) (*sink, error) {
	b, err := c.find(handle)
	if err == nil && b.sink == nil {
		err = refuse(ErrnoHandle, "blob %d is being read", handle)
	}
	if err != nil {
		return nil, err
	}
	return b.sink, nil
}
