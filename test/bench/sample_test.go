package main

import (
	"math"
	"testing"
)

func TestQuantiles(t *testing.T) {
	hundred := make(sample, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, tc := range []struct {
		name        string
		s           sample
		median, p95 float64
	}{
		{"one", sample{7}, 7, 7},
		{"odd", sample{9, 1, 5}, 5, 9},
		{"even", sample{4, 1, 3, 2}, 2.5, 4},
		{"hundred, unsorted", hundred, 50.5, 95},
	} {
		if got := tc.s.median(); got != tc.median {
			t.Errorf("%s: median %v, not %v", tc.name, got, tc.median)
		}
		if got := tc.s.quantile(0.95); got != tc.p95 {
			t.Errorf("%s: p95 %v, not %v", tc.name, got, tc.p95)
		}
	}
	if hundred[0] != 100 {
		t.Error("a quantile sorted the sample itself")
	}
	if !math.IsNaN(sample(nil).quantile(0.95)) {
		t.Error("nothing measured has a quantile")
	}
}

func TestGoals(t *testing.T) {
	for _, tc := range []struct {
		name string
		g    goal
		s    sample
		met  bool
	}{
		{"at the limit", goal{median: 2}, sample{2}, true},
		{"above it", goal{median: 2}, sample{3}, false},
		{"median good, tail bad", goal{median: 2, p95: 3}, sample{1, 1, 9}, false},
		{"rate reached", goal{median: 2, atLeast: true}, sample{5}, true},
		{"rate missed", goal{median: 2, atLeast: true}, sample{1}, false},
	} {
		if got := tc.g.met(tc.s); got != tc.met {
			t.Errorf("%s: met is %v", tc.name, got)
		}
	}
}

func TestUniqueModulesDifferAndStayModules(t *testing.T) {
	base := []byte("\x00asm\x01\x00\x00\x00")
	a, b := unique(base, 1), unique(base, 2)
	if string(a) == string(b) || string(a[:8]) != string(base) {
		t.Fatalf("%q and %q", a, b)
	}
	if section := a[8:]; section[0] != 0 || int(section[1]) != len(section)-2 {
		t.Errorf("the custom section %v does not tell its own length", section)
	}
}
