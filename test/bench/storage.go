package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/process"
)

// Lengths of the measurements of the object store.
const (
	s3Warm    = 500 * time.Millisecond
	s3Round   = 1500 * time.Millisecond
	s3Bucket  = "bench"
	s3Idle    = 5 * time.Second // after the start, before memory is looked at
	heavySize = 16 << 20
)

var (
	putSmall = s3Work{"put-4k", 8, 4 << 10, false}
	getSmall = s3Work{"get-4k", 8, 4 << 10, true}
	putMiB   = s3Work{"put-1m", 8, 1 << 20, false}
	getMiB   = s3Work{"get-1m", 8, 1 << 20, true}
	putBig   = s3Work{"put-16m", 1, heavySize, false}
	putHeavy = s3Work{"put-16m-8", 8, heavySize, false}
	putTwo   = s3Work{"put-1m-two", 8, 1 << 20, false}
)

var storageSheet = sheet{"storage", "make bench-storage-report", "MinIO / SeaweedFS, unsynced, on such a machine", storageNotes, []row{
	{"s3-put-4k", "S3 PUT 4 KiB, 8 clients", "≥ 2,500/s", "1,360 / 2,215", goal{median: 2500, atLeast: true}, perSecond, stored(putSmall, opsPerSecond, perSecond)},
	{"s3-get-4k", "S3 GET 4 KiB, 8 clients", "≥ 6,000/s", "5,741 / 4,507", goal{median: 6000, atLeast: true}, perSecond, stored(getSmall, opsPerSecond, perSecond)},
	{"s3-put-1m", "S3 PUT 1 MiB, 8 clients", "≥ 280 MB/s", "229 / 193", goal{median: 280e6, atLeast: true}, megabytesPerSecond, stored(putMiB, bytesPerSecond, megabytesPerSecond)},
	{"s3-get-1m", "S3 GET 1 MiB, 8 clients", "≥ 1,800 MB/s", "1,607 / 1,619", goal{median: 1800e6, atLeast: true}, megabytesPerSecond, stored(getMiB, bytesPerSecond, megabytesPerSecond)},
	{"s3-put-16m", "S3 PUT 16 MiB, 1 client", "≥ 350 MB/s", "304 / 154", goal{median: 350e6, atLeast: true}, megabytesPerSecond, stored(putBig, bytesPerSecond, megabytesPerSecond)},
	{"s3-put-two", "PUT 1 MiB on two of three agents on this machine, 8 clients", "≥ 150 MB/s", "– / 124", goal{median: 150e6, atLeast: true}, megabytesPerSecond, storedTwice},
	{"s3-cpu-1m", "CPU of the server for a 1 MiB PUT", "≤ 3.5 ms", "4.7 / 8.7", goal{median: 3.5e6}, millisecondsOfCPU, stored(putMiB, cpuOfOp, millisecondsOfCPU)},
	{"s3-memory", "resident memory, idle: the agent", "≤ 50 MB", "110 / 111", goal{median: 50e6}, megabytes, storedMemory(idleMemory)},
	{"s3-memory-load", "the same, most under PUTs of 16 MiB by 8 clients", "≤ 256 MB", "668 / 2,002", goal{median: 256e6}, megabytes, storedMemory(loadedMemory)},
	{"s3-memory-small", "the same on a board with 512 MiB, which has the small profile", "≤ 96 MB", "", goal{median: 96e6}, megabytes, measureBoard},
	{"store", "the store alone: puts of eight chunks of 1 MiB, flushed", "≥ 1,200 MB/s", "", goal{median: 1200, atLeast: true}, megabytesOf, figure(storeWrite, "1MiB/group8", "MB/s")},
	{"store-amplification", "the same: bytes written for each byte put", "≤ 1.1", "", goal{median: 1.1}, factor, figure(storeWrite, "1MiB/group8", "write-amp")},
	{"store-cpu", "the same: bytes put for each second of a processor", "", "", goal{}, megabytesOf, figure(storeWrite, "1MiB/group8", "MB/cpu-s")},
	{"disk", "flushed appends of the same size, with no digest and no index, for comparison", "", "", goal{}, megabytesOf, figure(rawAppend, "1MiB/group8", "MB/s")},
	{"million-memory", "a million objects: the coordinator's memory, most since its start", "≤ 256 MB", "", goal{median: 256e6}, megabytes, million(func(f *millionFigures) sample { return f.most })},
	{"million-list", "the same: a list of 1,000 keys by the API, from anywhere", "≤ 10 ms", "", goal{median: 0.010}, milliseconds, million(func(f *millionFigures) sample { return f.lists })},
	{"repair", "kill -9 of one of four agents, 10,000 chunks: rate of repair, of the disk's flushed appends", "≥ 50 %", "by hand", goal{median: 0.5, atLeast: true}, percent, measureRepair},
}}

const storageNotes = `Every PUT is acknowledged when it is on the disk, flushed; what the peers reached they reached without that. Payloads are
random and never the same twice. Server and client share the machine's processors; requests are signed, and go over
plain HTTP on loopback. One coordinator and one agent serve, two processes, whose CPU is counted together; with three
agents there are four. In one run all systems are asked in turn. Memory is the kernel's (VmRSS, VmHWM) of the agent.
A peer is measured when its binary is named by -minio or -weed. The store alone is measured by the benchmarks of
chunkstore; ` + "`make bench-storage`" + ` runs all of them. The board is this machine with another /proc/meminfo. The million
objects come from a backup, which is counted in the memory; a list is a page by the REST API, on a connection that is open.
`

func megabytesOf(v float64) string        { return fmt.Sprintf("%.0f MB/s", v) }
func factor(v float64) string             { return fmt.Sprintf("%.3f", v) }
func megabytesPerSecond(v float64) string { return fmt.Sprintf("%.0f MB/s", v/1e6) }
func millisecondsOfCPU(v float64) string  { return fmt.Sprintf("%.2f ms", v/1e6) }

// system is one object store under measurement.
type system struct {
	name  string
	s3    s3Server
	procs []*process.Process // whose processor time counts
	agent *process.Process   // whose memory counts
	close func() error
}

// used is the processor time of all its processes.
func (s *system) used() (total time.Duration, err error) { return cpuOf(s.procs) }

// cpuOf is the processor time of processes that live.
func cpuOf(procs []*process.Process) (total time.Duration, err error) {
	for _, p := range procs {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^p.Pid()<<3|unix.CLOCK_PROCESS_CPUTIME_ID), &t); err != nil {
			return 0, fmt.Errorf("the clock of process %d: %w", p.Pid(), err)
		}
		total += time.Duration(t.Nano())
	}
	return total, nil
}

// storeKey is one kind of work on one system.
type storeKey struct{ work, system string }

// storeFigures are what each run measured.
type storeFigures struct {
	ops, cpu map[storeKey]sample // a second; nanoseconds an operation
	idle     sample
	loaded   sample
	missing  map[string]error
}

// ours is the name of the system that this project is.
const ours = "cloudless"

// storeFiguresOf measures all work on all systems, once for all rows.
func (l *lab) storeFiguresOf(ctx context.Context) (*storeFigures, error) {
	if l.stored != nil {
		return l.stored, nil
	}
	f := &storeFigures{map[storeKey]sample{}, map[storeKey]sample{}, nil, nil, map[string]error{}}
	var systems []*system
	defer func() {
		for _, s := range systems {
			_ = s.close()
		}
	}()
	for name, start := range map[string]func(context.Context) (*system, error){ours: l.startStore, peerMinIO: l.startMinIO, peerWeed: l.startWeed} {
		s, err := start(ctx)
		if err != nil {
			f.missing[name] = err
			continue
		}
		systems = append(systems, s)
	}
	if err := f.missing[ours]; err != nil {
		return nil, err
	}
	for _, s := range systems {
		if err := f.measure(ctx, s, l.storageRuns()); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	l.stored = f
	return f, nil
}

// storageRuns are fewer than the other rows', as each takes seconds; at least five.
func (l *lab) storageRuns() int { return max(5, l.runs/4) }

func (f *storeFigures) measure(ctx context.Context, s *system, runs int) error {
	if s.name == ours {
		if err := f.rest(ctx, s); err != nil {
			return err
		}
	}
	for _, w := range []s3Work{getSmall, getMiB} {
		if err := w.fill(ctx, s.s3, s3Bucket); err != nil {
			return err
		}
	}
	for range runs {
		for _, w := range []s3Work{putSmall, getSmall, putMiB, getMiB, putBig} {
			if err := f.round(ctx, s, w); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	if s.name != ours {
		return nil
	}
	if _, _, err := putHeavy.run(ctx, s.s3, s3Bucket, 2*s3Round); err != nil {
		return err
	}
	most, err := s.agent.MostMemory()
	f.loaded = append(f.loaded, most)
	return err
}

// rest looks at the memory of an agent that has done nothing yet.
func (f *storeFigures) rest(ctx context.Context, s *system) error {
	if err := rest(ctx, s3Idle); err != nil {
		return err
	}
	resident, _, err := s.agent.Memory()
	f.idle = append(f.idle, resident)
	return err
}

func (f *storeFigures) round(ctx context.Context, s *system, w s3Work) error {
	if _, _, err := w.run(ctx, s.s3, s3Bucket, s3Warm); err != nil {
		return err
	}
	before, err := s.used()
	if err != nil {
		return err
	}
	n, took, err := w.run(ctx, s.s3, s3Bucket, s3Round)
	if err != nil {
		return err
	}
	after, err := s.used()
	key := storeKey{w.name, s.name}
	f.ops[key] = append(f.ops[key], float64(n)/took.Seconds())
	f.cpu[key] = append(f.cpu[key], float64(after-before)/float64(n))
	return err
}

// figureOf picks a row's figures for a system.
type figureOf func(f *storeFigures, w s3Work, system string) sample

func opsPerSecond(f *storeFigures, w s3Work, system string) sample {
	return f.ops[storeKey{w.name, system}]
}

func bytesPerSecond(f *storeFigures, w s3Work, system string) (out sample) {
	for _, v := range opsPerSecond(f, w, system) {
		out = append(out, v*float64(w.bytes))
	}
	return out
}

func cpuOfOp(f *storeFigures, w s3Work, system string) sample {
	return f.cpu[storeKey{w.name, system}]
}

// stored is a row of one kind of work; what peers reached in the same run is the remark.
func stored(w s3Work, of figureOf, as unit) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		f, err := l.storeFiguresOf(ctx)
		if err != nil {
			return result{err: err}
		}
		mine := of(f, w, ours)
		remark := ""
		for _, name := range []string{peerMinIO, peerWeed} {
			if theirs := of(f, w, name); len(theirs) > 0 {
				remark = join(remark, fmt.Sprintf("%s %s in this run, ours is %.2f×", name, as(theirs.median()), mine.median()/theirs.median()))
			} else if err := f.missing[name]; err != nil && !errors.Is(err, errNotNamed) {
				remark = join(remark, fmt.Sprintf("%s: %v", name, err))
			}
		}
		return result{runs: mine, remark: remark}
	}
}

func idleMemory(f *storeFigures) sample   { return f.idle }
func loadedMemory(f *storeFigures) sample { return f.loaded }

func storedMemory(of func(*storeFigures) sample) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		f, err := l.storeFiguresOf(ctx)
		if err != nil {
			return result{err: err}
		}
		return result{runs: of(f)}
	}
}

// storedTwice measures puts of which two copies are flushed before they are acknowledged.
func storedTwice(ctx context.Context, l *lab) result {
	s, err := l.startStoreOf(ctx, 3, 2)
	if err != nil {
		return result{err: err}
	}
	out := repeat(ctx, l.storageRuns(), func(ctx context.Context, _ int) (float64, error) {
		n, took, err := putTwo.run(ctx, s.s3, s3Bucket, s3Round)
		return float64(n) * float64(putTwo.bytes) / took.Seconds(), err
	})
	out.err = errors.Join(out.err, s.close())
	return out
}

func (l *lab) startStore(ctx context.Context) (*system, error) { return l.startStoreOf(ctx, 1, 1) }

// startStoreOf starts one coordinator and some agents, with a bucket of that many copies, all of which are
// flushed before a put is acknowledged.
func (l *lab) startStoreOf(ctx context.Context, agents, copies int) (*system, error) {
	k, err := l.newCluster(ctx, 1, agents, "off")
	if err != nil {
		return nil, err
	}
	s := &system{name: ours, procs: append(append([]*process.Process{}, k.coords...), k.agents...), agent: k.agents[0], close: k.close}
	if s.s3, err = k.s3(ctx, copies); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return s, nil
}

// endNow ends a peer's process.
func endNow(p *process.Process) error { return p.End(syscall.SIGTERM) }

// s3 makes a key and the bucket, and gives the first agent's door. Every put waits for all copies.
func (k *cluster) s3(ctx context.Context, copies int) (s3Server, error) {
	key, err := k.client.CreateToken(ctx, api.TokenRequest{S3: true})
	if err != nil {
		return s3Server{}, err
	}
	door, err := url.Parse(k.agents[0].Get("s3"))
	if err != nil {
		return s3Server{}, err
	}
	if _, err = k.client.CreateBucket(ctx, api.Bucket{Name: s3Bucket, Replicas: copies, WriteQuorum: copies}); err != nil {
		return s3Server{}, err
	}
	s := s3Server{door.Host, key.ID, key.Secret}
	return s, s.serves(ctx)
}

// serves waits until an object of more than a row's size is taken: by then the agent knows the others.
func (s s3Server) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	c, err := s.dial(ctx, 0, 2*api.MaxInlineBytes)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	var last error
	if err := poll(ctx, func() (bool, error) { last = c.put("/" + s3Bucket + "/first"); return last == nil, nil }); err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
}
