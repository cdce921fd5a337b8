package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// boardMemory is what /proc/meminfo tells of a small board.
const boardMemory = "MemTotal:       524288 kB\nMemFree:        393216 kB\nMemAvailable:   393216 kB\n"

// measureBoard is the most memory that an agent on a small board ever had, while eight clients put large
// objects through its door.
func measureBoard(ctx context.Context, l *lab) result {
	if os.Geteuid() != 0 {
		return result{skipped: "needs root, to show an agent another /proc/meminfo"}
	}
	k, err := l.newCluster(ctx, 1, 0, "off")
	if err != nil {
		return result{err: err}
	}
	most, err := l.boardOnce(ctx, k)
	return result{runs: most, err: errors.Join(err, k.close())}
}

func (l *lab) boardOnce(ctx context.Context, k *cluster) (sample, error) {
	path := filepath.Join(k.dir, "meminfo")
	if err := os.WriteFile(path, []byte(boardMemory), 0o600); err != nil {
		return nil, err
	}
	k.enter = func() error { return showMemory(path) }
	if err := k.startAgent(ctx, 0); err != nil {
		return nil, err
	}
	if err := k.whole(ctx); err != nil {
		return nil, err
	}
	s3, err := k.s3(ctx, 1)
	if err != nil {
		return nil, err
	}
	if _, _, err := putHeavy.run(ctx, s3, s3Bucket, 2*s3Round); err != nil {
		return nil, err
	}
	most, err := k.agents[0].MostMemory()
	return sample{most}, err
}

// showMemory gives the calling thread, and what it starts, a mount namespace where a file is /proc/meminfo.
func showMemory(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount(path, "/proc/meminfo", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s as /proc/meminfo: %w", path, err)
	}
	return nil
}
