// Guest is a Go program for WASI preview 1, as anybody would write it. Its first argument says what it
// does.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	jobs := map[string]func() error{"serve": serve, "files": files, "copy": copyInput, "sleep": sleep, "exit": exit}
	if err := jobs[os.Args[1]](); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

// serve is an HTTP server on descriptor 3, until it is told to stop.
func serve() error {
	if err := syscall.SetNonblock(3, true); err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	server := &http.Server{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	done := make(chan error, 1)
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		go func() { done <- server.Shutdown(context.Background()) }()
	})
	server.Handler = mux
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

func copyInput() error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}

func sleep() error {
	time.Sleep(time.Hour)
	return nil
}

func exit() error {
	os.Exit(7)
	return nil
}

// files does with files what programs do.
func files() error {
	for _, step := range []func() error{writeAndRead, directories, links, times, appendAndTruncate, temporary} {
		if err := step(); err != nil {
			return err
		}
	}
	fmt.Println("ok")
	return nil
}

func expect(what string, got, want any) error {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func writeAndRead() error {
	text := strings.Repeat("some text ", 100_000)
	if err := os.WriteFile("/data/file", []byte(text), 0o644); err != nil {
		return err
	}
	got, err := os.ReadFile("/data/file")
	if err != nil || string(got) != text {
		return fmt.Errorf("read %d bytes: %v", len(got), err)
	}
	_, err = os.ReadFile("/data/none")
	return expect("a missing file", errors.Is(err, fs.ErrNotExist), true)
}

func directories() error {
	if err := os.MkdirAll("/data/a/b/c", 0o755); err != nil {
		return err
	}
	if err := os.Rename("/data/file", "/data/a/b/file"); err != nil {
		return err
	}
	var seen []string
	err := fs.WalkDir(os.DirFS("/data"), ".", func(path string, d fs.DirEntry, err error) error {
		seen = append(seen, path)
		return err
	})
	return errors.Join(err, expect("the tree", seen, []string{".", "a", "a/b", "a/b/c", "a/b/file"}))
}

func links() error {
	if err := os.Symlink("b/file", "/data/a/link"); err != nil {
		return err
	}
	target, err := os.Readlink("/data/a/link")
	if err := errors.Join(err, expect("the link's target", target, "b/file")); err != nil {
		return err
	}
	a, err1 := os.Stat("/data/a/link")
	b, err2 := os.Stat("/data/a/b/file")
	if err := errors.Join(err1, err2, expect("the link's size", a.Size(), b.Size())); err != nil {
		return err
	}
	if err := os.Link("/data/a/b/file", "/data/hard"); err != nil {
		return err
	}
	hard, err := os.Stat("/data/hard")
	return errors.Join(err, expect("a hard link is the same file", os.SameFile(hard, b), true))
}

func times() error {
	when := time.Unix(1234, 567)
	if err := os.Chtimes("/data/hard", when, when); err != nil {
		return err
	}
	info, err := os.Stat("/data/hard")
	return errors.Join(err, expect("the time", info.ModTime().UnixNano(), when.UnixNano()))
}

func appendAndTruncate() error {
	f, err := os.OpenFile("/data/log", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := f.WriteString(line); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Truncate(5), f.Sync()); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	got, err := io.ReadAll(f)
	return errors.Join(err, expect("the log", string(got), "one\nt"))
}

func temporary() error {
	dir, err := os.MkdirTemp("/data", "t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/x", nil, 0o600); err != nil {
		return err
	}
	return os.RemoveAll("/data/a")
}
