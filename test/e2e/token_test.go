package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/test/process"
)

// Tokens that are given by file are nowhere else: in the command line of no process, in no log, no data
// folder and no support bundle, metrics and events included.
func TestATokenGivenByFileStaysThere(t *testing.T) {
	t.Parallel()
	argv := watchCommandLines(t)
	k := newCluster(t, 2, 1, func(int) []string { return []string{"--log-level", "debug"} })
	viewer := k.token(api.RoleViewer)
	follow, err := process.Start(t.Context(), process.Config{ // its first line is an event
		Binary: binary, Args: []string{"event", "list", "--follow", "-o", "json", "--token", "@" + viewer}, Env: k.cli.env,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := follow.End(syscall.SIGINT); err != nil {
			t.Error(err)
		}
	})
	k.apply("hi", fmt.Sprintf("{replicas: 1, wasm: {module: %q}}", absolute(t, helloModule)))
	bundle := filepath.Join(k.dir, "bundle.tar.gz")
	k.cli.must("support", "bundle", bundle)

	places := map[string]string{"a command line": argv(), "the support bundle": unpacked(t, bundle)}
	for _, m := range append(slices.Clone(k.coords), k.agents...) {
		places["the log of "+m.name] = m.Log()
		maps.Copy(places, folder(t, m.dir))
	}
	for what, file := range map[string]string{
		"admin": filepath.Join(k.coords[0].dir, "admin.token"), "viewer": viewer, "node": filepath.Join(k.dir, "node.token"), "server": filepath.Join(k.dir, "server.token"),
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		token := strings.TrimSpace(string(text))
		secret := token[strings.LastIndexAny(token, "._")+1:]
		if strings.HasPrefix(token, "CL1.") { // its secret may hold a "_"
			secret = token[strings.LastIndex(token, ".")+1:]
		}
		for place, text := range places {
			if strings.Contains(text, secret) && place != file {
				t.Errorf("the %s token is in %s", what, place)
			}
		}
	}
	// What must be found, or the search proves nothing.
	for place, text := range map[string]string{"a command line": "@" + viewer, "the support bundle": "cloudless_raft_applied_index", "the log of a0": "replica"} {
		if !strings.Contains(places[place], text) {
			t.Errorf("%q is not in %s", text, place)
		}
	}
}

// watchCommandLines looks at every process of this namespace again and again; calling what it gives
// ends that, and tells all command lines that were seen.
func watchCommandLines(t *testing.T) func() string {
	ctx, cancel := context.WithCancel(t.Context())
	seen := map[string]bool{}
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
			for _, f := range files {
				if line, err := os.ReadFile(f); err == nil { // it may have ended
					seen[string(line)] = true
				}
			}
			<-tick.C
		}
	})
	t.Cleanup(cancel)
	return func() string {
		cancel()
		done.Wait()
		var all strings.Builder
		for line := range seen {
			all.WriteString(line)
			all.WriteByte('\n')
		}
		return all.String()
	}
}

// folder reads all files below a folder.
func folder(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return ignoreGone(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// ignoreGone leaves out what was removed while we looked.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func unpacked(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for in := tar.NewReader(zip); ; {
		if _, err := in.Next(); errors.Is(err, io.EOF) {
			return all.String()
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, in); err != nil {
			t.Fatal(err)
		}
	}
}
