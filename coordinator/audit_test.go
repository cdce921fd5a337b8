package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
)

func openLog(t *testing.T, dir string) *auditLog {
	t.Helper()
	a, err := openAudit(filepath.Join(dir, fileAudit), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() }) // some tests close it themselves
	return a
}

// act audits a change that ends with err, and gives what its caller is told.
func act(a *auditLog, object string, err error) error {
	return a.audited(auditLine{Who: "t-1", What: "DELETE /v1/nodes/:id"}, func() string { return object }, func() error { return err })
}

func verified(t *testing.T, dir string) AuditSummary {
	t.Helper()
	files, err := AuditFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := VerifyAudit(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheAuditChainGoesOnOverRestarts(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		a := openLog(t, dir)
		for j := range 2 {
			if err := act(a, fmt.Sprint(i, j), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s := verified(t, dir); s.Lines != 6 || s.First != 1 || s.Last != 6 {
		t.Errorf("%+v", s)
	}
	if info, err := os.Stat(filepath.Join(dir, fileAudit)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

func TestATamperedAuditLogIsFound(t *testing.T) {
	dir := t.TempDir()
	a := openLog(t, dir)
	for i := range 5 {
		if err := act(a, fmt.Sprint("node-", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, fileAudit)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	forged := bytes.Replace(lines[4], []byte(`"seq":5`), []byte(`"seq":6`), 1)
	for name, change := range map[string][]byte{
		"a changed line":           bytes.Replace(good, []byte("node-2"), []byte("node-9"), 1),
		"a line taken out":         bytes.Join([][]byte{lines[0], lines[1], lines[3], lines[4]}, nil),
		"lines in another order":   bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[3], lines[4]}, nil),
		"a line added":             append(bytes.Clone(good), forged...),
		"a line written by hand":   append(bytes.Clone(good), []byte("{}\n")...),
		"no line at all":           append(bytes.Clone(good), []byte("hello\n")...),
		"the first line taken out": append([]byte(nil), bytes.Replace(bytes.Join(lines[1:], nil), []byte(`"seq":2`), []byte(`"seq":1`), 1)...),
	} {
		if err := os.WriteFile(path, change, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := VerifyAudit([]string{path}); err == nil {
			t.Errorf("%s was not found: %+v", name, s)
		} else if code := api.CodeOf(err).ExitCode(); code != 1 {
			t.Errorf("%s: exit code %d, which is not that of a failure: %v", name, code, err)
		}
	}
}

func TestACrashInTheMiddleOfAnAuditLineIsRepairedAndTold(t *testing.T) {
	dir := t.TempDir()
	a := openLog(t, dir)
	if err := errors.Join(act(a, "whole", nil), a.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileAudit)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":2,"who":"t-`); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	a = openLog(t, dir)
	if err := act(a, "after", nil); err != nil {
		t.Fatal(err)
	}
	if s := verified(t, dir); s.Lines != 3 {
		t.Errorf("%+v", s)
	}
	if data, _ := os.ReadFile(path); !strings.Contains(string(data), "audit.repaired") {
		t.Error("nobody is told of the repair")
	}
}

func TestADamagedAuditLogIsKeptAsEvidence(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, fileAudit)
	if err := os.WriteFile(path, []byte("overwritten\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := openLog(t, dir)
	if err := act(a, "after", nil); err != nil {
		t.Fatal(err)
	}
	kept, _ := filepath.Glob(path + ".damaged-*")
	if len(kept) != 1 {
		t.Fatalf("kept %q", kept)
	}
	if data, _ := os.ReadFile(kept[0]); string(data) != "overwritten\n" {
		t.Errorf("the evidence is %q", data)
	}
	if s := verified(t, dir); s.Lines != 2 {
		t.Errorf("%+v", s)
	}
}

func TestTheAuditLogIsBoundedAndItsPartsAreOneChain(t *testing.T) {
	dir := t.TempDir()
	a := openLog(t, dir)
	for i := range 3 * auditParts {
		a.size = auditFileBytes * (int64(i) % 2) // every second line begins a new part
		if err := act(a, fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	files, err := AuditFiles(dir)
	if err != nil || len(files) != auditParts {
		t.Fatalf("%d parts, want %d (%v)", len(files), auditParts, err)
	}
	s := verified(t, dir)
	if s.First == 1 || s.Last != 3*auditParts || s.Lines != s.Last-s.First+1 {
		t.Errorf("%+v", s)
	}
	if _, err := VerifyAudit(append(files[:2:2], files[3:]...)); err == nil {
		t.Error("a missing part was not found")
	}
	if err := errors.Join(a.Close()); err != nil {
		t.Fatal(err)
	}
	if err := act(openLog(t, dir), "after a restart", nil); err != nil {
		t.Fatal(err)
	}
	if again := verified(t, dir); again.Last != s.Last+1 {
		t.Errorf("%+v, before %+v", again, s)
	}
}

// However often beginning a new part fails, no part of the log is lost by trying again.
func TestANewPartThatCannotBeginLosesNoOther(t *testing.T) {
	dir := t.TempDir()
	a := openLog(t, dir)
	write := func(object string) {
		t.Helper()
		if err := act(a, object, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range auditParts {
		a.size = auditFileBytes * int64(min(i, 1))
		write(fmt.Sprint(i))
	}
	path := a.path
	for gap := range auditParts { // what a try leaves that could not open the new part, or not move one
		if err := os.Rename(part(path, gap), part(path, auditParts)); err != nil {
			t.Fatal(err)
		}
		held, err := os.ReadFile(part(path, (gap+1)%auditParts))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.rotate(); err != nil {
			t.Fatal(err)
		}
		if after, err := os.ReadFile(part(path, (gap+1)%auditParts)); gap+1 < auditParts && (err != nil || string(after) != string(held)) {
			t.Errorf("part %d, above the gap, is another one: %v", gap+1, err)
		}
	}
}

// Security 12: disk full, so nothing is changed.
func TestWithoutRoomForItsAuditLineAChangeIsNotMade(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	a := openLog(t, t.TempDir())
	if err := a.f.Close(); err != nil {
		t.Fatal(err)
	}
	a.f = full
	ran := false
	err = a.audited(auditLine{}, func() string { return "" }, func() error { ran = true; return nil })
	if ran || api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("ran %v, told %v", ran, err)
	}

	a.reserve = func(auditFile, int64, int64) error { return nil } // there was room a moment ago
	if err := act(a, "x", nil); api.CodeOf(err) != api.CodeInternal || !strings.Contains(err.Error(), "the change was made") {
		t.Errorf("a change without its line is told as %v", err)
	}
	refused := api.Errorf(api.CodeNotFound, "no node x")
	if err := act(a, "x", refused); !errors.Is(err, refused) {
		t.Errorf("a refusal is told as %v", err)
	}
	if a.seq != 0 {
		t.Error("lines that were not written are counted")
	}
}

func TestLongAuditFieldsAreCut(t *testing.T) {
	dir := t.TempDir()
	a := openLog(t, dir)
	huge := strings.Repeat("\x01\n", 1<<20)
	if err := a.audited(auditLine{Who: huge, What: huge, RequestID: huge, Source: huge}, func() string { return huge }, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if s := verified(t, dir); s.Lines != 1 {
		t.Errorf("%+v", s)
	}
	if a.size > maxAuditLine {
		t.Errorf("a line of %d bytes", a.size)
	}
}
