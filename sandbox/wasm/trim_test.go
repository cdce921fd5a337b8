package wasm

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func TestWhatCompiledCodeGoes(t *testing.T) {
	at := func(hours int) time.Time { return time.Unix(0, 0).Add(time.Duration(hours) * time.Hour) }
	all := func() []cached {
		return []cached{{"new", at(3), 40}, {"old", at(1), 40}, {"mid", at(2), 40}}
	}
	for limit, want := range map[int64][]string{120: nil, 119: {"old"}, 80: {"old"}, 79: {"old", "mid"}, 0: {"old", "mid", "new"}} {
		if diff := cmp.Diff(want, surplus(all(), limit)); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

// Code that is over the bound goes, the longest unused first, and a module whose code has gone runs.
func TestTheCacheOfCompiledModulesIsBounded(t *testing.T) {
	d := newDriver(t)
	start(t, d, moduleSpec("hello", api.ModeHTTP))
	files, err := listCache(d.config.CacheDir)
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of compiled code, %v", len(files), err)
	}
	huge := filepath.Join(d.config.CacheDir, "huge")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(maxCacheBytes); err != nil { // takes no room on disk
		t.Fatal(err)
	}
	f.Close()
	before := time.Now().Add(-48 * time.Hour)
	for _, old := range files {
		if err := os.Chtimes(old.path, before, before); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Trim(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	left, _ := listCache(d.config.CacheDir)
	if len(left) != 1 || left[0].path != huge {
		t.Errorf("%v is left, want the newest file alone", left)
	}
	server, _, _ := serve(t, d, moduleSpec("hello", api.ModeHTTP))
	if status, body := get(t, server.URL); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}
