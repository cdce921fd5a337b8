package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

// The loss of an agent: how much is stored, and how long its repair may take.
const (
	repairChunks  = 10_000
	repairClients = 8
	repairBytes   = 128 << 10 // of an object, which is one chunk
	repairTimeout = 4 * time.Minute
	diskBytes     = 512 << 20 // appended to learn the disk's rate
	diskFlush     = 8 << 20
)

// measureRepair kills one of four agents, and gives the rate at which its copies come back, of the rate at
// which this disk takes flushed appends. All agents share the disk and the processors.
func measureRepair(ctx context.Context, l *lab) result {
	k, err := l.newCluster(ctx, 1, 4, "off")
	if err != nil {
		return result{err: err}
	}
	ratio, remark, err := l.repairOnce(ctx, k)
	return result{runs: ratio, remark: remark, err: errors.Join(err, k.close())}
}

func (l *lab) repairOnce(ctx context.Context, k *cluster) (sample, string, error) {
	s3, err := k.s3(ctx, 2)
	if err != nil {
		return nil, "", err
	}
	if err := fillChunks(ctx, s3); err != nil {
		return nil, "", err
	}
	if err := k.stored(ctx, time.Time{}); err != nil {
		return nil, "", err
	}
	disk, err := diskRate(l.dir)
	if err != nil {
		return nil, "", err
	}
	lost := time.Now()
	if err := k.agents[3].Signal(syscall.SIGKILL); err != nil {
		return nil, "", err
	}
	rest := slices.Concat(k.coords, k.agents[:3])
	before, err := cpuOf(rest)
	if err != nil {
		return nil, "", err
	}
	copied, bytes, took, err := k.repaired(ctx)
	if err != nil {
		return nil, "", err
	}
	after, err := cpuOf(rest)
	if err != nil {
		return nil, "", err
	}
	rate := float64(bytes) / took.Seconds()
	return sample{rate / disk}, fmt.Sprintf("%d copies, %s in %.1f s, %s; %.1f s of the processors for a GB; all was well %.1f s after kill -9; flushed appends %s",
		copied, megabytes(float64(bytes)), took.Seconds(), megabytesPerSecond(rate), (after-before).Seconds()/float64(bytes)*1e9, time.Since(lost).Seconds(), megabytesPerSecond(disk)), nil
}

// fillChunks puts that many objects of one chunk each.
func fillChunks(ctx context.Context, s s3Server) error {
	return together(repairClients, func(id int) error {
		c, err := s.dial(ctx, id, repairBytes)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		for i := range repairChunks / repairClients {
			if err := c.put(fmt.Sprintf("/%s/chunk/%d/%d", s3Bucket, id, i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// stored waits until the leader has looked at all chunks since then, and all have their copies.
func (k *cluster) stored(ctx context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	if err := k.client.RepairStorage(ctx); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		r, err := k.client.StorageReport(ctx)
		return err == nil && healed(r.Upkeep, since), nil // the deadline bounds what cannot be asked
	})
}

func healed(u api.StorageUpkeep, since time.Time) bool {
	return u.Chunks >= repairChunks && u.Short == 0 && u.Waiting == 0 && u.Copying == 0 && u.LookedAt.After(since)
}

// repaired waits from the first copy that is made to the last.
func (k *cluster) repaired(ctx context.Context) (copied, bytes int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	var before, last api.StorageUpkeep
	var began, ended time.Time
	err = poll(ctx, func() (bool, error) {
		r, err := k.client.StorageReport(ctx)
		if err != nil {
			return false, nil // the deadline bounds it
		}
		u := r.Upkeep
		switch {
		case began.IsZero() && (u.Copying > 0 || u.Copied > before.Copied && !before.Since.IsZero()):
			began = time.Now()
		case began.IsZero():
			before = u
		case u.BytesDone > last.BytesDone:
			ended = time.Now()
		}
		last = u
		return !began.IsZero() && u.Short == 0 && u.Copying == 0 && u.Waiting == 0, nil
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("not repaired: %d of %d chunks are short, %d copies made: %w", last.Short, last.Chunks, last.Copied, err)
	}
	if !ended.After(began) {
		return 0, 0, 0, fmt.Errorf("%d copies were made before the first look", last.Copied-before.Copied)
	}
	return last.Copied - before.Copied, last.BytesDone - before.BytesDone, ended.Sub(began), nil
}

// diskRate is how many bytes a second a file takes that is flushed now and then.
func diskRate(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "append"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, diskFlush)
	began := time.Now()
	for range diskBytes / diskFlush {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
	}
	return diskBytes / time.Since(began).Seconds(), nil
}
