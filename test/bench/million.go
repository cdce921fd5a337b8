package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudless/cloudless/api/client"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/test/manyobjects"
)

const (
	millionObjects = 1_000_000
	millionKeys    = 1000 // of a list
	millionLists   = 50   // that are measured, after as many that are not
	millionTimeout = 10 * time.Minute
)

// millionFigures are of a coordinator that keeps a million objects.
type millionFigures struct {
	most  sample // bytes
	lists sample // seconds
}

// million is a row of them; they are measured once for all rows.
func million(of func(*millionFigures) sample) func(context.Context, *lab) result {
	return func(ctx context.Context, l *lab) result {
		if l.million == nil {
			ctx, cancel := context.WithTimeout(ctx, millionTimeout)
			defer cancel()
			f, err := l.measureMillion(ctx)
			if err != nil {
				return result{err: err}
			}
			l.million = f
		}
		return result{runs: of(l.million)}
	}
}

func (l *lab) measureMillion(ctx context.Context) (*millionFigures, error) {
	k, err := l.newCluster(ctx, 1, 0, "off")
	if err != nil {
		return nil, err
	}
	f := &millionFigures{}
	err = k.restoreMany(ctx, millionObjects)
	if err == nil {
		err = f.list(ctx, k.client)
	}
	if err == nil {
		var most float64
		most, err = k.coords[0].MostMemory()
		f.most = sample{most}
	}
	return f, errors.Join(err, k.close())
}

// restoreMany gives a cluster that many objects.
func (k *cluster) restoreMany(ctx context.Context, n int) error {
	path := filepath.Join(k.dir, "many.backup")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(manyobjects.Backup(f, n), f.Close()); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return k.client.RestoreStorage(ctx, info.Size(), func() (io.ReadCloser, error) { return os.Open(path) })
}

// list asks for pages of keys from anywhere.
func (f *millionFigures) list(ctx context.Context, c *client.Client) error {
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 2 * millionLists {
		q := meta.List{Bucket: manyobjects.Bucket, After: manyobjects.Key(rng.IntN(millionObjects - millionKeys - 1)), Limit: millionKeys}
		began := time.Now()
		page, err := c.Objects(ctx, q)
		took := time.Since(began)
		if err != nil || len(page.Items) != millionKeys {
			return errors.Join(err, fmt.Errorf("%d keys behind %s are listed", len(page.Items), q.After))
		}
		if i >= millionLists {
			f.lists = append(f.lists, took.Seconds())
		}
	}
	return nil
}
