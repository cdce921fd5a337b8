package objects

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/checksum"
)

func sumOf(algorithm, text string) *api.Checksum {
	h := checksum.New(algorithm)
	h.Write([]byte(text))
	return &api.Checksum{Algorithm: algorithm, Value: checksum.Text(h)}
}

func (w *world) object(key string) *api.Object {
	w.t.Helper()
	o, err := Object(w.rows, "assets", key)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// A copy with another head is of the same bytes, and so has their checksum.
func TestTheChecksumGoesWithTheBytes(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	c := small("a", "hello", Condition{})
	c.Put.Head = Head{CacheControl: "no-store", Tags: map[string]string{"k": "v"}, Checksum: sumOf("SHA1", "hello")}
	w.must(c)
	w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: "assets", Key: "b", Head: &Head{ContentType: "x", Checksum: sumOf("CRC32", "other")}}})
	want := api.ObjectHead{ContentType: "x", Checksum: sumOf("SHA1", "hello")}
	if d := cmp.Diff(want, w.object("b").ObjectHead); d != "" {
		t.Error(d)
	}
	c.Put.Head.Checksum = &api.Checksum{Algorithm: "SHA1", Value: sumOf("SHA1", "hello").Value + "-2", Composite: true}
	w.refuse(api.CodeInvalid, c)
}

// Setting tags changes nothing else of an object, its index included: what was found expired still is.
func TestSetTags(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(small("a", "hello", Condition{}))
	want := w.object("a")
	w.now = w.now.Add(time.Hour)
	w.must(Command{SetTags: &SetTags{Bucket: "assets", Key: "a", Tags: map[string]string{"k": "v"}}})
	want.Tags = map[string]string{"k": "v"}
	if d := cmp.Diff(want, w.object("a")); d != "" {
		t.Error(d)
	}
	w.must(Command{SetTags: &SetTags{Bucket: "assets", Key: "a"}})
	if o := w.object("a"); o.Tags != nil || string(o.Inline) != "hello" {
		t.Errorf("%+v", o)
	}
	w.refuse(api.CodeNotFound, Command{SetTags: &SetTags{Bucket: "assets", Key: "b"}})
	w.refuse(api.CodeNotFound, Command{SetTags: &SetTags{Bucket: "nothing", Key: "a"}})
	w.refuse(api.CodeInvalid, Command{SetTags: &SetTags{Bucket: "assets", Key: "a", Tags: map[string]string{"": "v"}}})
}

func partWith(ref UploadRef, number int, sum *api.Checksum, chunks ...int) Command {
	c := part(ref, number, chunks...)
	c.PutPart.Checksum = sum
	return c
}

// The checksum of an object in parts is made of those of the parts, and is compared with what the client
// says it is.
func TestChecksumsOfParts(t *testing.T) {
	for i := range 3 {
		composite, short := i > 0, i > 1 // short: without the number of parts
		w := newWorld(t)
		w.must(bucketNamed("assets"))
		w.must(open("s1"))
		ref := UploadRef{Bucket: "assets", Key: "k", ID: "u1"}
		w.must(Command{CreateUpload: &CreateUpload{UploadRef: ref, Head: Head{Checksum: &api.Checksum{Algorithm: "CRC32", Composite: composite}}}})
		one, two := sumOf("CRC32", "one"), sumOf("CRC32", "two")
		w.refuse(api.CodeInvalid, partWith(ref, 1, nil, 0, 1))
		w.refuse(api.CodeInvalid, partWith(ref, 1, sumOf("SHA1", "one"), 0, 1))
		w.refuse(api.CodeInvalid, partWith(ref, 1, &api.Checksum{Algorithm: "CRC32", Value: "x"}, 0, 1))
		w.must(partWith(ref, 1, one, 0, 1))
		w.must(partWith(ref, 2, two, 2))
		done := &CompleteUpload{UploadRef: ref, Parts: []PartRef{partRef(1, 0, 1), partRef(2, 2)}}
		done.Parts[0].Checksum = two.Value
		w.refuse(api.CodeInvalid, Command{CompleteUpload: done})
		done.Parts[0].Checksum, done.Checksum = one.Value, two.Value
		w.refuse(api.CodeInvalid, Command{CompleteUpload: done})
		want, err := checksum.Combine(api.Checksum{Algorithm: "CRC32", Composite: composite}, []checksum.Part{{Value: one.Value, Bytes: 6 << 20}, {Value: two.Value, Bytes: 3 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		if done.Checksum = want; short {
			done.Checksum, _, _ = strings.Cut(want, "-")
		}
		if o := w.must(Command{CompleteUpload: done}).Object; *o.Checksum != (api.Checksum{Algorithm: "CRC32", Value: want, Composite: composite}) {
			t.Errorf("%+v", o.Checksum)
		}
	}
}

func TestAnUploadWithAnImpossibleChecksumIsRefused(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	begin := Command{CreateUpload: &CreateUpload{UploadRef: UploadRef{Bucket: "assets", Key: "k", ID: "u1"}, Head: Head{Checksum: &api.Checksum{Algorithm: "SHA256"}}}}
	w.refuse(api.CodeInvalid, begin)
	begin.CreateUpload.Head.Checksum.Composite = true
	w.must(begin)
	if u, err := Upload(w.rows, begin.CreateUpload.UploadRef); err != nil || u.Checksum.Algorithm != "SHA256" {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := Upload(w.rows, UploadRef{Bucket: "assets", Key: "k", ID: "u2"}); api.ReasonOf(err) != api.ReasonNoUpload {
		t.Error(err)
	}
}

// Rules let go what they cover when their time has come, not a moment before, and nothing else.
func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	date := day.Add(100 * time.Hour)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Lifecycle: []api.LifecycleRule{
		{Prefix: "days/", ExpireDays: 2}, {Prefix: "date/", ExpireAt: date}, {Prefix: "off/", ExpireDays: 1, Disabled: true}, {Prefix: "up/", AbortDays: 1},
		{Prefix: "some/", ExpireDays: 2, Tags: map[string]string{"k": "v", "l": ""}, MinBytes: 2, UnderBytes: 4},
	}}})
	for _, key := range []string{"days/a", "date/a", "off/a", "up/a", "days"} {
		w.must(small(key, "x", Condition{}))
	}
	for key, tags := range map[string]map[string]string{"some/xx": {"k": "v", "l": "", "m": ""}, "some/x": {"k": "v", "l": ""}, "some/xxx": {"k": "v", "l": ""}, "some/xxxx": {"k": "v", "l": ""}, "some/other": {"k": "w", "l": ""}, "some/one": {"k": "v"}} {
		c := small(key, strings.Repeat("x", strings.Count(key, "x")), Condition{})
		if c.Put.Head.Tags = tags; !strings.Contains(key, "x") {
			c.Put.Inline = []byte("xx")
		}
		w.must(c)
	}
	expires := func(want ...string) {
		t.Helper()
		cmd, _, err := PlanExpiry(w.rows, "assets", "", w.now)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if cmd != nil {
			for _, row := range cmd.ExpireObjects.Objects {
				got = append(got, row.Key)
			}
			if res := w.must(*cmd); res.Removed != len(got) {
				t.Errorf("%d of %d removed", res.Removed, len(got))
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	w.now = day.Add(48*time.Hour - 1)
	expires()
	w.now = day.Add(48 * time.Hour)
	expires("days/a", "some/xx", "some/xxx")
	w.now = date.Add(-1)
	expires()
	w.now = date
	expires("date/a")
}

func TestUploadsAreAbortedByRules(t *testing.T) {
	w := newWorld(t)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Lifecycle: []api.LifecycleRule{{Prefix: "up/", AbortDays: 1}}}})
	for _, key := range []string{"up/a", "other"} {
		w.must(Command{CreateUpload: &CreateUpload{UploadRef: UploadRef{Bucket: "assets", Key: key, ID: "u1"}}})
	}
	for after, want := range map[time.Duration]int{24*time.Hour - 1: 0, 24 * time.Hour: 1} {
		cmds, err := PlanUploads(w.rows, "assets", day.Add(after))
		if err != nil || len(cmds) != want {
			t.Fatalf("after %v: %+v, %v", after, cmds, err)
		}
	}
	cmds, _ := PlanUploads(w.rows, "assets", day.Add(24*time.Hour))
	w.must(cmds[0])
	if u := w.usage("assets"); u.Uploads != 1 {
		t.Errorf("%+v", u)
	}
	w.must(bucketNamed("other"))
	for _, none := range []string{"other", "nothing"} {
		if cmds, err := PlanUploads(w.rows, none, day.Add(1e6*time.Hour)); cmds != nil || err != nil {
			t.Errorf("%+v, %v", cmds, err)
		}
	}
}
