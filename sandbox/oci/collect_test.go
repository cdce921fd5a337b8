package oci

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cloudless/cloudless/sandbox"
)

func TestWhichImagesGo(t *testing.T) {
	now := time.Unix(1e9, 0)
	ago := func(hours int) time.Time { return now.Add(-time.Duration(hours) * time.Hour) }
	all := []stored{
		{"young", now.Add(-imageGrace + 1), 10, false}, {"old", ago(5), 10, false}, {"needed", ago(9), 10, true},
		{"older", ago(7), 10, false}, {"just old enough", now.Add(-imageGrace), 10, false},
	}
	for limit, want := range map[int64][]string{
		50: nil, 49: {"older"}, 40: {"older"}, 39: {"older", "old"}, 29: {"older", "old", "just old enough"}, 0: {"older", "old", "just old enough"},
	} {
		if diff := cmp.Diff(want, surplus(slices.Clone(all), limit, now)); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

// Whatever there is: what is needed or young stays, no more goes than must, and what goes was unused
// for longer than what could have gone and stays.
func TestWhichImagesGoProperty(t *testing.T) {
	now := time.Unix(1e9, 0)
	rapid.Check(t, func(t *rapid.T) {
		var all []stored
		for i := range rapid.IntRange(0, 12).Draw(t, "images") {
			all = append(all, stored{
				name: fmt.Sprint(i), needed: rapid.Bool().Draw(t, "needed"), bytes: rapid.Int64Range(0, 100).Draw(t, "bytes"),
				used: now.Add(-time.Duration(rapid.IntRange(0, 300).Draw(t, "minutes")) * time.Minute),
			})
		}
		limit := rapid.Int64Range(0, 1200).Draw(t, "limit")
		gone := surplus(slices.Clone(all), limit, now)
		var left, last int64
		oldestLeft, newestGone := now.Add(time.Hour), time.Time{}
		for _, i := range all {
			free := !i.needed && now.Sub(i.used) >= imageGrace
			switch at := slices.Index(gone, i.name); {
			case at >= 0 && !free:
				t.Fatalf("%+v goes", i)
			case at >= 0:
				if i.used.After(newestGone) {
					newestGone = i.used
				}
				if at == len(gone)-1 {
					last = i.bytes
				}
			default:
				left += i.bytes
				if free && i.used.Before(oldestLeft) {
					oldestLeft = i.used
				}
			}
		}
		if len(gone) > 0 && left+last <= limit {
			t.Fatalf("%d bytes are left of %d, and one of %d went", left, limit, last)
		}
		if left > limit && oldestLeft.Before(now) {
			t.Fatalf("%d bytes are left of %d, though something may go", left, limit)
		}
		if oldestLeft.Before(newestGone) {
			t.Fatal("a younger one went before an older one")
		}
	})
}

func TestImageLimit(t *testing.T) {
	for disk, want := range map[int64]int64{0: maxImageBytes, 8 << 30: 2 << 30, 64 << 30: 16 << 30, 1 << 40: maxImageBytes} {
		if got := imageLimit(disk); got != want {
			t.Errorf("on a disk of %d: %d, want %d", disk, got, want)
		}
	}
}

// On a real daemon: the longest unused image goes with what it had unpacked, and comes back when it is
// wanted; those that an assignment names, a container runs, or an agent has just used, stay.
func TestUnusedImagesAreRemoved(t *testing.T) {
	d := open(t, config("n-trim"))
	ctx := d.scope(t.Context())
	specs := map[string]sandbox.Spec{}
	for i, name := range []string{"kept", "running", "old", "older", "young"} {
		path := filepath.Join(t.TempDir(), name+".tar")
		must1(writeLayout(path, guestImage(lab.guest, runtime.GOARCH, fmt.Sprint(3001+i))))
		s := artifact(path)
		s.Container.Args = []string{"forever"}
		specs[name] = named(t, s)
		must(d.Prepare(t.Context(), specs[name]))
	}
	h := start(t, d, specs["running"])
	for i, name := range []string{"running", "kept", "older", "old"} {
		at := time.Now().Add(-time.Duration(10-i) * time.Hour).UTC().Format(time.RFC3339)
		must1(d.client.ImageService().Update(ctx, images.Image{Name: storeName(specs[name].Digest), Labels: map[string]string{labelUsed: at}}, "labels."+labelUsed))
	}
	keep := map[string]bool{specs["kept"].Digest: true}
	here := func() (names []string) {
		for name, s := range specs {
			if _, err := d.client.GetImage(ctx, storeName(s.Digest)); err == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	trim := func(limit int64, want ...string) {
		t.Helper()
		d.imageLimit = limit
		must(d.Trim(t.Context(), keep))
		if diff := cmp.Diff(want, here()); diff != "" {
			t.Errorf("within %d bytes: %s", limit, diff)
		}
	}
	var total int64
	for _, i := range must1(d.stored(ctx, keep)) { // of other tests too, which are young
		total += i.bytes
	}
	trim(total, "kept", "old", "older", "running", "young")
	trim(total-1, "kept", "old", "running", "young")
	trim(0, "kept", "running", "young")
	must(d.Prepare(t.Context(), specs["older"]))
	trim(0, "kept", "older", "running", "young")
	must(h.Stop(t.Context(), 0))
	trim(0, "kept", "older", "young")
}

// An assignment's name of an image is the one that the image has in containerd.
func TestKeptName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for spec, want := range map[string]string{
		digest:                        "cloudless.local/" + digest,
		"nginx":                       "docker.io/library/nginx:latest",
		"registry.example:5000/app:2": "registry.example:5000/app:2",
		"No Reference":                "No Reference",
	} {
		if got := keptName(spec); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}
