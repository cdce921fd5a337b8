package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// s3Server is where an S3 API is served, and who may use it. An empty access key asks without a signature.
type s3Server struct {
	address        string // HOST:PORT
	access, secret string
}

const s3Region = "us-east-1"

// head is the head of a request, signed (Signature Version 4, payload not signed, as SDKs do over TLS).
// Paths need no escaping here.
func (s s3Server) head(method, path string, length int, now time.Time) string {
	stamp := now.UTC().Format("20060102T150405Z")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\nx-amz-date: %s\r\n", method, path, s.address, length, stamp)
	if s.access != "" {
		scope := stamp[:8] + "/" + s3Region + "/s3/aws4_request"
		request := method + "\n" + path + "\n\nhost:" + s.address + "\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:" + stamp + "\n\nhost;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
		sum := sha256.Sum256([]byte(request))
		key := []byte("AWS4" + s.secret)
		for _, part := range []string{stamp[:8], s3Region, "s3", "aws4_request"} {
			key = mac(key, part)
		}
		signature := mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
		fmt.Fprintf(&b, "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=%x\r\n", s.access, scope, signature)
	}
	b.WriteString("\r\n")
	return b.String()
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// s3Conn is one client with a connection of its own. Its payload is random, so that nothing is saved by
// compressing, and is never the same twice, so that nothing is saved by storing once.
type s3Conn struct {
	s3Server
	conn    net.Conn
	in      *bufio.Reader
	payload []byte
	id      int
	serial  uint64
}

func (s s3Server) dial(ctx context.Context, id, payload int) (*s3Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	p := make([]byte, payload)
	r := rand.NewChaCha8([32]byte{byte(id), byte(payload)})
	_, _ = r.Read(p) // never fails (rand.ChaCha8)
	return &s3Conn{s3Server: s, conn: c, in: bufio.NewReaderSize(c, 64<<10), payload: p, id: id, serial: r.Uint64()}, nil
}

// fresh is the payload as it was never before: a mark in each 64 KiB makes every chunk another one.
func (c *s3Conn) fresh() []byte {
	c.serial++
	for at := 0; at+8 <= len(c.payload); at += 64 << 10 {
		binary.LittleEndian.PutUint64(c.payload[at:], c.serial)
	}
	return c.payload
}

func (c *s3Conn) put(path string) error {
	return c.do(http.MethodPut, path, c.fresh(), 0)
}

func (c *s3Conn) get(path string) error {
	return c.do(http.MethodGet, path, nil, int64(len(c.payload)))
}

// do makes one request; want is the length of the answer's body, 0 for any.
func (c *s3Conn) do(method, path string, body []byte, want int64) error {
	now := time.Now()
	if err := c.conn.SetDeadline(now.Add(answerTimeout)); err != nil {
		return err
	}
	send := net.Buffers{[]byte(c.head(method, path, len(body), now)), body}
	if _, err := send.WriteTo(c.conn); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
		return fmt.Errorf("%s %s: answer %s: %s", method, path, res.Status, text)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil && want > 0 && n != want {
		err = fmt.Errorf("%s %s: %d bytes, want %d", method, path, n, want)
	}
	return err
}

// s3Work is what every client does again and again.
type s3Work struct {
	name    string
	clients int
	bytes   int // of an object
	read    bool
}

const s3Objects = 64 // per client: what is read, and what is written over

func (w s3Work) path(bucket string, client, i int) string {
	return fmt.Sprintf("/%s/%s/%d/%d", bucket, w.name, client, i%s3Objects)
}

// run has all clients work for d, and gives how often, and in what time.
func (w s3Work) run(ctx context.Context, s s3Server, bucket string, d time.Duration) (done int64, took time.Duration, err error) {
	conns := make([]*s3Conn, w.clients)
	for i := range conns {
		if conns[i], err = s.dial(ctx, i, w.bytes); err != nil {
			return 0, 0, err
		}
		defer conns[i].conn.Close()
	}
	var n atomic.Int64
	began := time.Now()
	err = together(w.clients, func(i int) error { return w.until(ctx, conns[i], bucket, began.Add(d), &n) })
	return n.Load(), time.Since(began), err
}

// together calls do for each of n clients at the same time.
func together(n int, do func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w s3Work) until(ctx context.Context, c *s3Conn, bucket string, end time.Time, n *atomic.Int64) error {
	for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
		do := c.put
		if w.read {
			do = c.get
		}
		if err := do(w.path(bucket, c.id, i)); err != nil {
			return err
		}
		n.Add(1)
	}
	return ctx.Err()
}

// fill puts what is read.
func (w s3Work) fill(ctx context.Context, s s3Server, bucket string) error {
	for id := range w.clients {
		c, err := s.dial(ctx, id, w.bytes)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		for i := range s3Objects {
			if err := c.put(w.path(bucket, id, i)); err != nil {
				return err
			}
		}
	}
	return nil
}
