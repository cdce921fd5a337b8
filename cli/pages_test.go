package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
)

// pageServer lists n workloads, api.DefaultListLimit a page unless asked otherwise. before is told which
// page is asked for, and may hold it back.
func pageServer(t *testing.T, n int, before func(page int)) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor")) // ours, or none
		size := api.DefaultListLimit
		if text := r.URL.Query().Get("limit"); text != "" {
			size, _ = strconv.Atoi(text) // the command's own
		}
		before(from / size)
		answer(w, listOf(from, min(from+size, n), n))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func listOf(from, to, n int) api.List[api.Workload] {
	list := api.List[api.Workload]{Index: 7, Items: []api.Workload{}}
	for i := from; i < to; i++ {
		name := fmt.Sprintf("w-%05d", i)
		if i == n-1 {
			name += "-with-a-longer-name"
		}
		list.Items = append(list.Items, api.Workload{Metadata: api.Metadata{Namespace: "default", Name: name, Labels: map[string]string{"a": "<&>"}}})
	}
	if to < n {
		list.Cursor = strconv.Itoa(to)
	}
	return list
}

func list(address string, out io.Writer, args ...string) (code int, stderr string) {
	var errs bytes.Buffer
	e := &Env{In: strings.NewReader(""), Out: out, Err: &errs, Now: time.Now, Getenv: func(k string) string {
		return map[string]string{"CLOUDLESS_ADDRESS": address, "CLOUDLESS_TOKEN": "cl_t_s", "CLOUDLESS_CONFIG": os.DevNull}[k]
	}}
	return e.Main(append([]string{"workload", "list"}, args...)), errs.String()
}

// The first rows of a list are out before its last page is asked for, in every form.
func TestListsAreStreamed(t *testing.T) {
	for format, first := range map[string]string{"table": "w-00000 ", "wide": "w-00000 ", "name": "w-00000", "json": `        "name": "w-00000",`, "yaml": "    name: w-00000"} {
		t.Run(format, func(t *testing.T) {
			seen := make(chan struct{})
			address := pageServer(t, 3*api.DefaultListLimit, func(page int) {
				if page == 2 {
					<-seen // the reader has the first row
				}
			})
			r, w := io.Pipe()
			done := make(chan int)
			go func() {
				code, _ := list(address, w, "-o", format)
				w.Close()
				done <- code
			}()
			scanner, lines := bufio.NewScanner(r), 0
			for scanner.Scan() {
				if strings.HasPrefix(scanner.Text(), first) {
					close(seen)
				}
				lines++
			}
			if code := <-done; code != 0 || lines < 3*api.DefaultListLimit {
				t.Errorf("code %d, %d lines", code, lines)
			}
		})
	}
}

// What is printed in pages is what would be printed of the whole.
func TestPagesMakeOneList(t *testing.T) {
	const n = 2*api.DefaultListLimit + 1
	address := pageServer(t, n, func(int) {})
	var got, want bytes.Buffer
	list(address, &got, "-o", "json")
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(listOf(0, n, n)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("JSON, want - got +:\n%s", diff)
	}
	got.Reset()
	list(address, &got, "-o", "yaml")
	yaml, err := manifest.YAML(listOf(0, n, n))
	if diff := cmp.Diff(string(yaml), got.String()); diff != "" || err != nil {
		t.Errorf("YAML, want - got +: %v\n%s", err, diff)
	}
	got.Reset()
	if code, stderr := list(address, &got, "-o", "json", "--limit", "2", "--continue", "3"); code != 0 || stderr != "" || !strings.Contains(got.String(), `"cursor": "5"`) {
		t.Errorf("one page: %d %q\n%s", code, stderr, &got)
	}
	got.Reset()
	if code, stderr := list(address, &got, "-q", "--limit", "2"); code != 0 || got.String() != "w-00000\nw-00001\n" {
		t.Errorf("names: %d %q %q", code, stderr, &got)
	}
	got.Reset()
	if code, stderr := list(address, &got, "--limit", "1"); code != 0 || stderr != "more: --continue 1\n" {
		t.Errorf("more: %d %q", code, stderr)
	}
	got.Reset()
	if list(address, &got, "-q", "--continue", "1000"); strings.Count(got.String(), "\n") != n-1000 {
		t.Errorf("--continue gave %d names", strings.Count(got.String(), "\n"))
	}
}

// Columns stay in line from page to page, and widen for a longer value.
func TestColumnsStayInLine(t *testing.T) {
	var got bytes.Buffer
	e := &Env{Out: &got, Getenv: func(string) string { return "" }}
	g := grid{e: e, titles: []string{"A", "B", "C"}}
	for _, rows := range [][][]string{{{"long-é", "2", "x"}, {"1", "22\x1b[31m", "y"}}, {{"a", "b", "c"}}, nil, {{"longer value", "b", "c"}}, {{"a", "b", "c"}}} {
		if err := g.print(rows); err != nil {
			t.Fatal(err)
		}
	}
	want := "A       B        C\nlong-é  2        x\n1       22 [31m  y\na       b        c\nlonger value  b        c\na             b        c\n"
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}
