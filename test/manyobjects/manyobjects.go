// Package manyobjects gives a cluster a great many objects at once: it makes the backup of a store that has
// them, which a coordinator restores in a few large entries of its log. Put one by one they would take an
// hour.
package manyobjects

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/coordinator/objects"
)

// Bucket is where they are.
const Bucket = "many"

const (
	perFolder = 100
	perEntry  = 500
)

// Key is that of object i. Keys sort as their numbers do.
func Key(i int) string { return fmt.Sprintf("folder-%07d/key-%02d", i/perFolder, i%perFolder) }

// Content is what object i holds.
func Content(i int) string { return fmt.Sprint("object ", i) }

// Backup writes the backup of a store with n objects, all small enough to be kept in their rows. It needs
// a folder, which it removes.
func Backup(out io.Writer, n int) (err error) {
	dir, err := os.MkdirTemp("", "many-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := objects.Open(nil, dir, zerolog.Nop())
	if err != nil {
		return err
	}
	return errors.Join(write(s, out, n), s.Close())
}

func write(s *objects.Store, out io.Writer, n int) error {
	b := api.Bucket{Name: Bucket}
	b.Default()
	if err := apply(s, objects.Command{CreateBucket: &b}); err != nil {
		return err
	}
	for from := 0; from < n; from += perEntry {
		var cmds []objects.Command
		for i := from; i < min(from+perEntry, n); i++ {
			cmds = append(cmds, objects.Command{Put: &objects.Put{Bucket: Bucket, Key: Key(i), Inline: []byte(Content(i))}})
		}
		if err := apply(s, cmds...); err != nil {
			return err
		}
	}
	v := s.View()
	return errors.Join(v.Backup(out), v.Close())
}

func apply(s *objects.Store, cmds ...objects.Command) error {
	for i := range cmds {
		cmds[i].At = time.Now().UTC()
	}
	results, err := s.Apply(s.Applied()+1, cmds)
	for _, r := range results {
		if r.Err != nil {
			err = errors.Join(err, r.Err)
		}
	}
	return err
}
