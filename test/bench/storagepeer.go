package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudless/cloudless/test/process"
)

// The peers, which are measured when a binary of theirs is named.
const (
	peerMinIO = "MinIO"
	peerWeed  = "SeaweedFS"
)

var errNotNamed = errors.New("no binary of it was named")

func (l *lab) startMinIO(ctx context.Context) (*system, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, "minio")
	s3 := s3Server{address, "benchmark", "benchmark-secret"}
	return l.startPeerStore(ctx, peerMinIO, l.minio, s3, dir,
		[]string{"server", "--quiet", "--address", address, dir}, "MINIO_ROOT_USER="+s3.access, "MINIO_ROOT_PASSWORD="+s3.secret)
}

func (l *lab) startWeed(ctx context.Context) (*system, error) {
	ports := make([]string, 4)
	for i := range ports {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		if _, ports[i], err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(l.dir, "weed")
	return l.startPeerStore(ctx, peerWeed, l.weed, s3Server{address: "127.0.0.1:" + ports[0]}, dir,
		[]string{"server", "-ip", "127.0.0.1", "-dir", dir, "-s3", "-filer", "-s3.port", ports[0], "-master.port", ports[1], "-volume.port", ports[2], "-filer.port", ports[3]})
}

// startPeerStore runs a peer until its port answers, and makes the bucket.
func (l *lab) startPeerStore(ctx context.Context, name, binary string, s3 s3Server, dir string, args []string, env ...string) (*system, error) {
	if binary == "" {
		return nil, errNotNamed
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := process.Launch(process.Config{Binary: path, Args: args, Env: env})
	if err != nil {
		return nil, err
	}
	s := &system{name: name, s3: s3, procs: []*process.Process{p}, agent: p, close: func() error { return errors.Join(endNow(p), os.RemoveAll(dir)) }}
	wait, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	var last error
	if err := poll(wait, func() (bool, error) { last = s3.makeBucket(wait); return last == nil, nil }); err != nil {
		return nil, errors.Join(fmt.Errorf("%s does not serve: %w: %w: %s", name, err, last, p.Log()), s.close())
	}
	return s, nil
}

func (s s3Server) makeBucket(ctx context.Context) error {
	c, err := s.dial(ctx, 0, 0)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	return c.do("PUT", "/"+s3Bucket, nil, 0)
}

// freeAddress is a port of loopback that nobody had a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
