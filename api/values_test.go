package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQuantitiesAreRead(t *testing.T) {
	for text, want := range map[string]MilliCPU{"250m": 250, "0.25": 250, "1": 1000, "0": 0, " 2 ": 2000, "1000000000": 1e12} {
		if got, err := ParseMilliCPU(text); got != want || err != nil {
			t.Errorf("cpu %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]Bytes{
		"64Mi": 64 << 20, "1.5Gi": 3 << 29, "64M": 64e6, "1k": 1000, "4096": 4096, "5GiB": 5 << 30, "1152921504606846975": 1<<60 - 1, "1048576Ti": 1 << 60,
	} {
		if got, err := ParseBytes(text); got != want || err != nil {
			t.Errorf("size %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "m", "-1", "NaN", "Inf", "1 core", "1e300", "1000000001"} {
		if got, err := ParseMilliCPU(text); err == nil {
			t.Errorf("cpu %q: %d", text, got)
		}
	}
	for _, text := range []string{"", "Mi", "-1", "NaN", "Inf", "1Xi", "1e300", "1152921504606846977", "1048577Ti", "9223372036854775808"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("size %q: %d", text, got)
		}
	}
}

// What is written is read back as it was, in JSON too.
func TestQuantitiesRoundTrip(t *testing.T) {
	type all struct {
		CPU  MilliCPU
		Size Bytes
		Time Duration
	}
	rapid.Check(t, func(t *rapid.T) {
		want := all{
			MilliCPU(rapid.Int64Range(0, 1e12).Draw(t, "cpu")), Bytes(rapid.Int64Range(0, 1<<60).Draw(t, "size")),
			Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "time")),
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got all
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Fatalf("%+v became %s and then %+v (%v)", want, text, got, err)
		}
	})
	var n all
	if err := json.Unmarshal([]byte(`{"CPU":2,"Size":4096,"Time":"90s"}`), &n); err != nil || n != (all{2000, 4096, Duration(90 * time.Second)}) {
		t.Errorf("numbers: %+v, %v", n, err)
	}
	for _, bad := range []string{`{"CPU":{}}`, `{"Size":true}`, `{"Time":5}`, `{"Time":"-1s"}`, `{"CPU":null}`} {
		if err := json.Unmarshal([]byte(bad), &n); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"250m", "0.5", "64Mi", "1T", "5GB", "1e3", "0x10", "+1", ".5", "-0", "NaN", "1152921504606846976"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseMilliCPU(s); err == nil {
			if again, err := ParseMilliCPU(m.String()); m < 0 || again != m || err != nil {
				t.Errorf("cpu %q: %d, then %d (%v)", s, m, again, err)
			}
		}
		if b, err := ParseBytes(s); err == nil {
			if again, err := ParseBytes(b.String()); b < 0 || again != b || err != nil {
				t.Errorf("size %q: %d, then %d (%v)", s, b, again, err)
			}
		}
	})
}

func TestFrames(t *testing.T) {
	var stream bytes.Buffer
	sizes := []int{0, 1, MaxFrame - 1, MaxFrame}
	for _, n := range sizes {
		if err := WriteFrame(&stream, bytes.Repeat([]byte{7}, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteFrame(&stream, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame over the limit was written")
	}
	for _, n := range sizes {
		if msg, err := ReadFrame(&stream); err != nil || !bytes.Equal(msg, bytes.Repeat([]byte{7}, n)) {
			t.Errorf("%d bytes came of %d: %v", len(msg), n, err)
		}
	}
	if _, err := ReadFrame(&stream); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for name, bytes := range map[string]string{"head": "\x00\x00", "body": "\x00\x00\x00\x05abc", "length": "\xff\xff\xff\xff"} {
		if _, err := ReadFrame(strings.NewReader(bytes)); err == nil || err == io.EOF {
			t.Errorf("a cut or wrong %s: %v", name, err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02hi\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x01\x00\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		var again bytes.Buffer
		for {
			msg, err := ReadFrame(r)
			if err != nil {
				break
			}
			if err := WriteFrame(&again, msg); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(stream, again.Bytes()) {
			t.Errorf("%q was read as %q", stream, again.Bytes())
		}
	})
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id, secret := NewID("r"), NewSecret()
		if !ValidName(id) || len(id) != 12 || !strings.HasPrefix(id, "r-") || len(secret) != 52 || !ValidName(secret) {
			t.Fatalf("id %q, secret of %d characters", id, len(secret))
		}
		if seen[id] || seen[secret] {
			t.Fatal("an id came twice")
		}
		seen[id], seen[secret] = true, true
	}
}

func TestDigests(t *testing.T) {
	hex := strings.Repeat("0a", 32)
	for s, want := range map[string]bool{
		"sha256:" + hex: true, hex: false, "sha256:" + hex[1:]: false, "sha256:" + hex + "0": false, "sha256:" + strings.ToUpper(hex): false,
		"sha256:" + hex[:63] + "g": false, "sha512:" + hex: false, "": false, "sha256:": false, "sha256:../" + hex[:61]: false,
	} {
		if IsDigest(s) != want {
			t.Errorf("%q: %v, want %v", s, !want, want)
		}
	}
}

// An epoch comes before any generation of it, and no pair comes before itself.
func TestOlder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) uint64 { return rapid.Uint64Range(0, 3).Draw(t, name) }
		e1, g1, e2, g2 := draw("e1"), draw("g1"), draw("e2"), draw("g2")
		before, after := Older(e1, g1, e2, g2), Older(e2, g2, e1, g1)
		switch {
		case e1 == e2 && g1 == g2 && (before || after), before && after:
			t.Fatal("it is no order")
		case e1 != e2 && before != (e1 < e2), e1 == e2 && before != (g1 < g2):
			t.Fatal("the epoch does not come first")
		}
	})
}

func TestErrorsAreOneLineWithACode(t *testing.T) {
	cause := errors.New("disk on fire")
	e := Errorf(CodeNoRoom, "cannot write: %w", cause).WithHint("free %d bytes", 7).WithOp("store it")
	if e.Error() != "store it: cannot write: disk on fire (free 7 bytes)" || !errors.Is(e, cause) || CodeOf(e) != CodeNoRoom {
		t.Error(e, CodeOf(e))
	}
	if got := AsError(cause); got.Code != CodeInternal || strings.Contains(got.Error(), "fire") || !errors.Is(got, cause) {
		t.Errorf("a fault of ours is shown as %v", got)
	}
	if CodeOf(nil) != "" || CodeOf(cause) != CodeInternal {
		t.Error("codes of no error and of any error")
	}
	if Code("no_such").HTTPStatus() != 500 || Code("no_such").ExitCode() != 1 {
		t.Error("an unknown code has another status")
	}
	for code, row := range codeTable {
		if row.http < 400 || row.http > 599 || row.exit < 1 || row.exit > 7 {
			t.Errorf("%s: %+v", code, row)
		}
	}
}

func TestEventFilters(t *testing.T) {
	at := time.Unix(1000, 0)
	e := &Event{Index: 7, Time: at, Type: "replica.ready", Severity: SeverityWarning, Resource: "workload/default/hello"}
	for want, queries := range map[bool][]EventQuery{
		true: {
			{}, {Type: "replica.ready"}, {Type: "replica."}, {Type: "replica"}, {Severity: SeverityInfo}, {Severity: SeverityWarning},
			{Resource: "workload/default/hello"}, {Resource: "workload/"}, {Resource: "workload/default"}, {Since: at}, {Until: at.Add(1)}, {After: 6},
		},
		false: {
			{Type: "replica.re"}, {Type: "replica.ready.x"}, {Type: "node"}, {Severity: SeverityError}, {Resource: "workload/default/hell"},
			{Resource: "node/"}, {Since: at.Add(1)}, {Until: at}, {After: 7},
		},
	} {
		for _, q := range queries {
			if q.Match(e) != want {
				t.Errorf("%+v matches: %v, want %v", q, !want, want)
			}
		}
	}
	if local := (&Event{Type: "node.trouble"}); !(EventQuery{After: 9}).Match(local) {
		t.Error("a node's own event, which has no index, is left out")
	}
}

func TestReservations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Reserved {
			n := func(what string) int64 { return rapid.Int64Range(0, 1<<40).Draw(t, name+what) }
			return Reserved{MilliCPU(n("cpu")), Bytes(n("memory")), Bytes(n("storage"))}
		}
		a, b := draw("a"), draw("b")
		if a.Add(b).Sub(b) != a || !a.Fits(a.Add(b)) || !a.Fits(a) {
			t.Fatal("sums and differences do not agree")
		}
		if a.CPU > 0 && a.Fits(Reserved{a.CPU - 1, a.Memory, a.Storage}) || a.Memory > 0 && a.Fits(Reserved{a.CPU, a.Memory - 1, a.Storage}) ||
			a.Storage > 0 && a.Fits(Reserved{a.CPU, a.Memory, a.Storage - 1}) {
			t.Fatal("it fits where one dimension is too small")
		}
	})
	w := wasmWorkload(nil)
	if got := w.Spec.Reserve(VariantWasm); got != (Reserved{DefaultCPUMilli, DefaultWasmMemory, 0}) {
		t.Error(got)
	}
	if got := w.Spec.Reserve(VariantContainer); got.Memory != DefaultContainerMemory {
		t.Error(got)
	}
}

func TestNodeStates(t *testing.T) {
	for want, n := range map[NodeState]Node{
		NodeReady: {Liveness: NodeReady}, NodeDraining: {Liveness: NodeReady, Drain: &Drain{}, Cordoned: true}, NodeCordoned: {Liveness: NodeReady, Cordoned: true},
		NodeLost: {Liveness: NodeLost, Drain: &Drain{}}, NodeSuspect: {Liveness: NodeSuspect, Cordoned: true},
	} {
		if n.Effective() != want {
			t.Errorf("%+v is %s", n, n.Effective())
		}
	}
}
