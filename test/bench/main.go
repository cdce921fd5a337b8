// Command bench measures a built binary from outside, as a user would see it: it starts real
// processes on loopback, drives them through the API, kills and freezes them, and prints a table of
// medians and 95th percentiles next to the machine's load.
//
//	go run ./test/bench -binary bin/cloudless [-sandbox | -storage] [-out docs/BENCHMARKS.md] [-runs 20] [-only name,…]
//
// Each row is measured on a cluster of its own, which ends with the row. Every run and every row is
// bounded in time: a row that does not finish says how far it came and why.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

type options struct {
	binary, out, only, module, image string
	workerd, minio, weed             string // peers
	sandbox, storage                 bool
	runs, freezes, elections         int
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == serveArg {
		if err := serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.binary, "binary", "bin/cloudless", "the binary to measure")
	flag.StringVar(&o.out, "out", "", "write the result as Markdown into its section of this page")
	flag.IntVar(&o.runs, "runs", 20, "runs of each row")
	flag.IntVar(&o.freezes, "freeze-runs", 5, "runs of the freeze row, each of which takes many seconds")
	flag.IntVar(&o.elections, "leader-runs", 10, "runs of the row that kills the leader")
	flag.StringVar(&o.only, "only", "", "rows to measure, by name, with commas (default: all)")
	flag.StringVar(&o.module, "module", "wasm-examples/hello-c/hello.wasm", "the small module")
	flag.StringVar(&o.image, "image", "", "an image tarball (default: the one that wasm-examples/hello-oci/mkimage makes)")
	flag.BoolVar(&o.sandbox, "sandbox", false, "measure the wasm sandbox instead, in a quarter of the runs")
	flag.StringVar(&o.workerd, "workerd", "workerd", "the peer of the sandbox's rows, by name or path: npm's package of that name")
	flag.BoolVar(&o.storage, "storage", false, "measure the object store instead, in a quarter of the runs")
	flag.StringVar(&o.minio, "minio", "", "the peer of the object store's rows: MinIO's binary, by name or path")
	flag.StringVar(&o.weed, "weed", "", "the other one: SeaweedFS's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := measure(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measure goes through the rows; a failed one is part of the report, and of the exit status.
func measure(ctx context.Context, o options) error {
	s := clusterSheet
	if o.sandbox {
		s = sandboxSheet
	}
	if o.storage {
		s = storageSheet
	}
	rows, err := s.chosen(o.only)
	if err != nil {
		return err
	}
	l, err := newLab(o)
	if err != nil {
		return err
	}
	defer l.close()
	r := newReport(ctx, l, s)
	var failed []string
	for _, row := range rows {
		fmt.Fprintf(os.Stderr, "bench: %s\n", row.name)
		res := row.run(ctx, l)
		r.add(row, res)
		if res.err != nil {
			failed = append(failed, row.name)
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", row.name, res.err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	r.finish()
	fmt.Print(r.table())
	if o.out != "" {
		err = writeSection(o.out, s.name, r.markdown())
	}
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("not measured, or not to the end: %s", strings.Join(failed, ", ")))
	}
	return err
}

// chosen are the rows that -only names, in the table's order.
func (s sheet) chosen(only string) ([]row, error) {
	if only == "" {
		return s.rows, nil
	}
	names := strings.Split(only, ",")
	var out []row
	for _, r := range s.rows {
		if i := slices.Index(names, r.name); i >= 0 {
			out, names = append(out, r), slices.Delete(names, i, i+1)
		}
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("no row is called %s", strings.Join(names, ", "))
	}
	return out, nil
}

// lab is what all rows share: the binary, the guests, and a folder that is removed at the end.
type lab struct {
	options
	dir      string
	guest    []byte // the small module
	idle     *idleFigures
	idleErr  error
	crowd    *crowdFigures
	crowdErr error
	goBench  map[string]figures // of benchmarks by their package and name
	rounds   *rounds
	stored   *storeFigures
	million  *millionFigures
}

func newLab(o options) (*lab, error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	o.binary = binary
	if _, err := exec.LookPath(binary); err != nil {
		return nil, fmt.Errorf("%w: run 'make build' first", err)
	}
	guest, err := os.ReadFile(o.module)
	if err != nil {
		return nil, err
	}
	// sockets below it are limited to 108 bytes: a short path
	dir, err := os.MkdirTemp("", "clb-*")
	if err != nil {
		return nil, err
	}
	return &lab{options: o, dir: dir, guest: guest}, nil
}

func (l *lab) close() { os.RemoveAll(l.dir) }
