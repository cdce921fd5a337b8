package objects

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

func TestBuckets(t *testing.T) {
	w := newWorld(t)
	made := w.must(bucketNamed("assets")).Bucket
	want := &api.Bucket{
		Name: "assets", Replicas: 3, Chunking: "fixed", Compression: "s2", Class: "hot",
		CreatedAt: day, CreateIndex: 1, ModifyIndex: 1,
	}
	if d := cmp.Diff(want, made); d != "" {
		t.Error(d)
	}
	w.refuse(api.CodeConflict, bucketNamed("assets"))
	w.refuse(api.CodeInvalid, bucketNamed("A"))
	w.refuse(api.CodeInvalid, Command{})
	update := func(name string, quota api.Bytes, index uint64) Command {
		return Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: name, Quota: quota}, IfMatch: index}}
	}
	w.refuse(api.CodeNotFound, update("nothing", 1, 0))
	w.refuse(api.CodeConflict, update("assets", 1, 7))
	w.refuse(api.CodeInvalid, update("assets", -1, 1))
	b := w.must(update("assets", 5, 1)).Bucket
	if b.Quota != 5 || b.CreateIndex != 1 || b.ModifyIndex != w.index || !b.CreatedAt.Equal(day) {
		t.Errorf("%+v", b)
	}
	w.refuse(api.CodeNotFound, Command{DeleteBucket: &DeleteBucket{Name: "nothing"}})
	w.refuse(api.CodeConflict, Command{DeleteBucket: &DeleteBucket{Name: "assets", IfMatch: 1}})
	w.must(Command{DeleteBucket: &DeleteBucket{Name: "assets", IfMatch: b.ModifyIndex}})
	if len(w.rows) != 0 {
		t.Errorf("%d rows are left", len(w.rows))
	}
}

func TestABucketThatIsNotEmptyStays(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	remove := Command{DeleteBucket: &DeleteBucket{Name: "assets"}}
	w.must(small("a", "x", Condition{}))
	w.must(small("b", "x", Condition{}))
	ref := UploadRef{Bucket: "assets", Key: "k", ID: "u1"}
	w.must(Command{CreateUpload: &CreateUpload{UploadRef: ref}})
	res := w.do(remove)
	if res.Err == nil || res.Err.Code != api.CodeConflict || !strings.Contains(res.Err.Message, "2 objects and 1 unfinished") {
		t.Errorf("%v", res.Err)
	}
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "a"}})
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "b"}})
	w.refuse(api.CodeConflict, remove)
	w.must(Command{AbortUpload: &ref})
	w.must(remove)
	w.refuse(api.CodeNotFound, small("c", "x", Condition{})) // deleted while somebody writes
	if len(w.rows) != 0 {
		t.Errorf("%d rows are left", len(w.rows))
	}
}

func TestLimitOfBuckets(t *testing.T) {
	w := newWorld(t)
	for i := range api.MaxBuckets {
		w.rows[bucketKeys+fmt.Sprint("b-", i)] = []byte{}
	}
	w.refuse(api.CodeTooLarge, bucketNamed("one-more"))
	delete(w.rows, bucketKeys+"b-0")
	w.must(bucketNamed("one-more"))
}

func TestPutInline(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	for n, code := range map[int]api.Code{0: "", 1: "", api.MaxInlineBytes: "", api.MaxInlineBytes + 1: api.CodeTooLarge} {
		c := small("k", strings.Repeat("x", n), Condition{})
		if code != "" {
			w.refuse(code, c)
			continue
		}
		w.must(c)
		o, err := Object(w.rows, "assets", "k")
		if err != nil || o.Size != int64(n) || len(o.Inline) != n || o.ETag != tagOf(strings.Repeat("x", n)) || len(o.SHA256) != 64 || o.Index != w.index {
			t.Errorf("%d bytes: %+v, %v", n, o, err)
		}
		if u := w.usage("assets"); u != (api.BucketUsage{Objects: 1, Bytes: int64(n)}) {
			t.Errorf("%d bytes: %+v", n, u)
		}
	}
	w.refuse(api.CodeInvalid, small("", "x", Condition{}))
	w.refuse(api.CodeInvalid, Command{Put: &Put{Bucket: "assets", Key: "k", Inline: []byte("x"), Manifest: manifestNo(1).Encode()}})
	w.refuse(api.CodeInvalid, Command{Put: &Put{Bucket: "assets", Key: "k", Manifest: []byte("no")}})
	w.refuse(api.CodeTooLarge, Command{Put: &Put{Bucket: "assets", Key: "k", Manifest: make([]byte, MaxManifestBytes+1)}})
	w.refuse(api.CodeInvalid, Command{Put: &Put{Bucket: "assets", Key: "k", Manifest: make([]byte, MaxManifestBytes)}})
	w.refuse(api.CodeTooLarge, Command{Put: &Put{Bucket: "assets", Key: "k", Head: Head{ContentType: strings.Repeat("x", 1000)}}})
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name        string
		cond        Condition
		absent, old api.Code // what comes of it without an object, and with one of ETag "x"
	}{
		{"none", Condition{}, "", ""},
		{"if absent", Condition{IfAbsent: true}, "", api.CodeConflict},
		{"if any", Condition{IfMatch: "*"}, api.CodeNotFound, ""},
		{"if that", Condition{IfMatch: tagOf("x")}, api.CodeNotFound, ""},
		{"if another", Condition{IfMatch: tagOf("y")}, api.CodeNotFound, api.CodeConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, have := range []bool{false, true} {
				want := c.absent
				w := newWorld(t)
				w.must(bucketNamed("assets"))
				w.must(small("from", "z", Condition{}))
				if have {
					want = c.old
					w.must(small("k", "x", Condition{}))
				}
				for _, cmd := range []Command{
					small("k", "z", c.cond),
					{Copy: &Copy{FromBucket: "assets", FromKey: "from", Bucket: "assets", Key: "k", Condition: c.cond}},
				} {
					_, res, err := Decide(w.rows, 9, cmd)
					if err != nil || codeOf(res.Err) != want {
						t.Errorf("with an object %v: %v, %v, want %q", have, res.Err, err, want)
					}
				}
			}
		})
	}
}

func codeOf(err *api.Error) api.Code {
	if err == nil {
		return ""
	}
	return err.Code
}

func TestDeleteIsIdempotent(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(small("k", "x", Condition{}))
	w.refuse(api.CodeConflict, Command{Delete: &Delete{Bucket: "assets", Key: "k", IfMatch: tagOf("y")}})
	for _, removed := range []int{1, 0} {
		if res := w.must(Command{Delete: &Delete{Bucket: "assets", Key: "k"}}); res.Removed != removed {
			t.Errorf("%d removed, want %d", res.Removed, removed)
		}
	}
	w.refuse(api.CodeNotFound, Command{Delete: &Delete{Bucket: "assets", Key: "k", IfMatch: tagOf("x")}})
	w.refuse(api.CodeNotFound, Command{Delete: &Delete{Bucket: "nothing", Key: "k"}})
	if u := w.usage("assets"); u != (api.BucketUsage{}) {
		t.Errorf("%+v", u)
	}
}

// Chunks may be named only while their session keeps them from being collected.
func TestAPutNeedsALiveSession(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.refuse(api.CodeConflict, put("k", 1))
	w.must(open("s1"))
	w.now = w.now.Add(api.SessionLifetime - 1)
	w.must(Command{RenewSession: &RenewSession{ID: "s1"}})
	w.now = w.now.Add(api.SessionLifetime - 1)
	w.must(put("k", 1))
	w.now = w.now.Add(1)
	w.refuse(api.CodeConflict, put("k", 1))
	w.refuse(api.CodeConflict, Command{RenewSession: &RenewSession{ID: "s1"}})
	w.must(open("s2"))
	c := put("k2", 1)
	c.Put.Session, c.Put.End = "s2", true
	w.must(c)
	w.refuse(api.CodeConflict, c) // it has ended
	w.must(Command{EndSession: &EndSession{ID: "s2"}})
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	for _, id := range []string{"", "a b", "a\x00", strings.Repeat("x", maxIDBytes+1)} {
		w.refuse(api.CodeInvalid, open(id))
	}
	w.must(open(strings.Repeat("x", maxIDBytes)))
	w.must(open("s1"))
	w.refuse(api.CodeConflict, open("s1"))
	w.refuse(api.CodeNotFound, Command{OpenSession: &OpenSession{ID: "s3", Bucket: "nothing"}})
	one, two := chunkNo(1).Digest, chunkNo(2).Digest
	name := func(chunks ...[]byte) Command {
		return Command{RenewSession: &RenewSession{ID: "s1", Chunks: chunks}}
	}
	w.refuse(api.CodeInvalid, name([]byte("short")))
	w.must(name(one[:], two[:], one[:]))
	if s := w.must(name(one[:])).Session; s.Chunks != 2 {
		t.Errorf("%+v", s)
	}
	w.wantRefs(0, 1, 1)
	w.must(put("k", 1))
	w.wantRefs(0, 2, 1)
	w.must(Command{ExpireSessions: &ExpireSessions{IDs: []string{"s1", "none"}}})
	w.wantRefs(0, 2, 1) // it has not expired
	w.now = w.now.Add(api.SessionLifetime)
	cmd, err := PlanSessions(w.rows, w.now)
	if err != nil || len(cmd.ExpireSessions.IDs) != 2 {
		t.Fatalf("%+v, %v", cmd, err)
	}
	if res := w.must(*cmd); res.Removed != 2 {
		t.Errorf("%+v", res)
	}
	w.wantRefs(0, 1, 0)
	if cmd, err := PlanSessions(w.rows, w.now); cmd != nil || err != nil {
		t.Errorf("%+v, %v", cmd, err)
	}
	w.refuse(api.CodeTooLarge, Command{ExpireSessions: &ExpireSessions{IDs: make([]string, MaxExpired+1)}})
	w.must(Command{ExpireSessions: &ExpireSessions{IDs: make([]string, MaxExpired)}})
}

func TestLimitsOfSessions(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(open("s1"))
	var chunks [][]byte
	for i := range api.MaxSessionChunks + 1 {
		d := chunkNo(i).Digest
		chunks = append(chunks, d[:])
	}
	w.refuse(api.CodeTooLarge, Command{RenewSession: &RenewSession{ID: "s1", Chunks: chunks}})
	w.must(Command{RenewSession: &RenewSession{ID: "s1", Chunks: chunks[1:]}})
	w.must(Command{EndSession: &EndSession{ID: "s1"}})
	w.wantRefs(0, 0, 0)
	for i := range api.MaxUploadSessions - 1 {
		w.rows[sessionKeys+fmt.Sprint("x", i)] = []byte{}
	}
	w.must(open("s1"))
	w.refuse(api.CodeRateLimited, open("s2"))
}

func TestReferencesFollowObjects(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(open("s1"))
	w.must(put("a", 0, 1, 0))
	w.wantRefs(1, 1, 0)
	w.must(put("a", 1, 2))
	w.wantRefs(0, 1, 1)
	w.must(put("b", 2))
	w.wantRefs(0, 1, 2)
	w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: "assets", Key: "c"}})
	w.wantRefs(0, 2, 3)
	w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: "assets", Key: "a", Head: &Head{ContentType: "text/plain"}}})
	w.wantRefs(0, 2, 3)
	w.must(small("a", "now inline", Condition{}))
	w.wantRefs(0, 1, 2)
	gone, err := Unreferenced(w.rows, [][32]byte{chunkNo(0).Digest, chunkNo(1).Digest, chunkNo(9).Digest})
	if err != nil || len(gone) != 2 || gone[0] != chunkNo(0).Digest || gone[1] != chunkNo(9).Digest {
		t.Errorf("%x, %v", gone, err)
	}
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "c"}})
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "b"}})
	w.wantRefs(0, 0, 0)
}

func TestCopy(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(bucketNamed("other"))
	w.must(open("s1"))
	c := put("a", 1)
	c.Put.Head = Head{ContentType: "image/png", Metadata: map[string]string{"x": "y"}}
	w.must(c)
	w.now = w.now.Add(time.Hour)
	o := w.must(Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: "other", Key: "b"}}).Object
	want := &api.Object{
		Bucket: "other", Key: "b", Size: 3 << 20, ETag: manifestNo(1).ETag(),
		ObjectHead: api.ObjectHead{ContentType: "image/png", Metadata: map[string]string{"x": "y"}}, Modified: w.now, Index: w.index,
		Terms: api.Terms{Replicas: 3, Class: api.ClassHot},
	}
	if d := cmp.Diff(want, o); d != "" {
		t.Error(d)
	}
	got, err := Object(w.rows, "other", "b")
	if err != nil || !bytes.Equal(got.Manifest, manifestNo(1).Encode()) {
		t.Errorf("%+v, %v", got, err)
	}
	for code, c := range map[api.Code]Copy{
		api.CodeNotFound: {FromBucket: "assets", FromKey: "none", Bucket: "other", Key: "b"},
		api.CodeConflict: {FromBucket: "assets", FromKey: "a", SourceIfMatch: "other", Bucket: "other", Key: "b"},
		api.CodeInvalid:  {FromBucket: "assets", FromKey: "a", Bucket: "other"},
	} {
		w.refuse(code, Command{Copy: &c})
	}
	w.refuse(api.CodeNotFound, Command{Copy: &Copy{FromBucket: "nothing", FromKey: "a", Bucket: "other", Key: "b"}})
	w.refuse(api.CodeNotFound, Command{Copy: &Copy{FromBucket: "assets", FromKey: "a", Bucket: "nothing", Key: "b"}})
}

func TestQuota(t *testing.T) {
	w := newWorld(t)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Quota: 10}})
	w.must(small("a", "123456", Condition{}))
	w.must(small("b", "1234", Condition{}))
	w.refuse(api.CodeNoRoom, small("c", "1", Condition{}))
	w.must(small("c", "", Condition{}))
	w.refuse(api.CodeNoRoom, small("b", "12345", Condition{}))
	w.must(small("b", "123", Condition{}))
	w.must(small("c", "1", Condition{}))
	w.must(Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "assets", Quota: 5}}})
	w.must(small("a", "1234", Condition{})) // less than before, though still over
	w.must(Command{Delete: &Delete{Bucket: "assets", Key: "a"}})
}

func TestExpiry(t *testing.T) {
	w := newWorld(t)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Expiry: api.Duration(time.Hour)}})
	w.must(small("old", "x", Condition{}))
	w.must(small("again", "x", Condition{}))
	w.now = w.now.Add(time.Hour)
	w.must(small("young", "x", Condition{}))
	cmd, next, err := PlanExpiry(w.rows, "assets", "", w.now)
	if err != nil || next != "" || len(cmd.ExpireObjects.Objects) != 2 {
		t.Fatalf("%+v, %q, %v", cmd, next, err)
	}
	w.must(small("again", "x", Condition{})) // between the plan and its command
	if res := w.must(*cmd); res.Removed != 1 {
		t.Errorf("%d removed", res.Removed)
	}
	if _, err := Object(w.rows, "assets", "again"); err != nil {
		t.Error(err)
	}
	if u := w.usage("assets"); u != (api.BucketUsage{Objects: 2, Bytes: 2}) {
		t.Errorf("%+v", u)
	}
	w.must(Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "assets"}}})
	if cmd, next, err := PlanExpiry(w.rows, "assets", "", w.now.Add(1e6*time.Hour)); cmd != nil || next != "" || err != nil {
		t.Errorf("without an expiry: %+v, %q, %v", cmd, next, err)
	}
	w.refuse(api.CodeTooLarge, Command{ExpireObjects: &ExpireObjects{Bucket: "assets", Objects: make([]ExpiredRow, MaxExpired+1)}})
	w.must(Command{ExpireObjects: &ExpireObjects{Bucket: "assets", Objects: make([]ExpiredRow, MaxExpired)}})
}

// What does not fit into one command comes with the next, and nothing is passed over.
func TestExpiryGoesOnWhereItStopped(t *testing.T) {
	w := newWorld(t)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Expiry: api.Duration(time.Hour)}})
	for i := range MaxExpired + 1 {
		w.must(small(fmt.Sprint("k", i), "x", Condition{}))
	}
	w.now = w.now.Add(time.Hour)
	removed := 0
	for next := ""; ; {
		cmd, after, err := PlanExpiry(w.rows, "assets", next, w.now)
		if err != nil {
			t.Fatal(err)
		}
		if cmd != nil {
			removed += w.must(*cmd).Removed
		}
		if next = after; next == "" {
			break
		}
	}
	if removed != MaxExpired+1 || w.usage("assets") != (api.BucketUsage{}) {
		t.Errorf("%d removed, %+v is left", removed, w.usage("assets"))
	}
}

func TestMultipart(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(open("s1"))
	ref := UploadRef{Bucket: "assets", Key: "big\x00key", ID: "u1"}
	w.refuse(api.CodeNotFound, part(ref, 1, 0))
	w.must(Command{CreateUpload: &CreateUpload{UploadRef: ref, Head: Head{ContentType: "image/png"}}})
	w.refuse(api.CodeConflict, Command{CreateUpload: &CreateUpload{UploadRef: ref}})
	for _, n := range []int{0, api.MaxParts + 1} {
		w.refuse(api.CodeInvalid, part(ref, n, 0))
	}
	w.must(part(ref, 1, 7, 8))
	w.must(part(ref, 1, 0, 1)) // sent again
	w.must(part(ref, 2, 1, 2))
	w.must(part(ref, 5, 3))
	w.must(part(ref, api.MaxParts, 4))
	w.wantRefs(1, 2, 1, 1, 1, 0, 0, 0, 0)
	if u := w.usage("assets"); u != (api.BucketUsage{Uploads: 1, UploadBytes: 18 << 20}) {
		t.Errorf("%+v", u)
	}
	one, two, five := partRef(1, 0, 1), partRef(2, 1, 2), partRef(5, 3)
	for name, parts := range map[string][]PartRef{
		"none": {}, "too many": make([]PartRef, api.MaxParts+1), "in disorder": {two, one}, "twice": {one, one},
		"one that is not there": {one, partRef(3, 1)}, "of another tag": {one, {Number: 2, ETag: "x"}}, "a small one not at the end": {five, partRef(api.MaxParts, 4)},
	} {
		t.Log(name)
		w.refuse(api.CodeInvalid, Command{CompleteUpload: &CompleteUpload{UploadRef: ref, Parts: parts}})
	}
	done := Command{CompleteUpload: &CompleteUpload{UploadRef: ref, Parts: []PartRef{one, two, five}}}
	o := w.must(done).Object
	sum := md5.New()
	for _, m := range []*split.Manifest{manifestNo(0, 1), manifestNo(1, 2), manifestNo(3)} {
		sum.Write(m.MD5[:])
	}
	if want := hex.EncodeToString(sum.Sum(nil)) + "-3"; o.ETag != want || o.Size != 15<<20 || o.ContentType != "image/png" || o.Key != ref.Key {
		t.Errorf("%+v, want ETag %s", o, want)
	}
	w.wantRefs(1, 1, 1, 1, 0)
	if u := w.usage("assets"); u != (api.BucketUsage{Objects: 1, Bytes: 15 << 20}) {
		t.Errorf("%+v", u)
	}
	w.refuse(api.CodeNotFound, done)
	w.refuse(api.CodeNotFound, Command{AbortUpload: &ref})
}

func part(ref UploadRef, number int, chunks ...int) Command {
	return Command{PutPart: &PutPart{UploadRef: ref, Number: number, Manifest: manifestNo(chunks...).Encode(), Session: "s1"}}
}

func partRef(number int, chunks ...int) PartRef {
	return PartRef{Number: number, ETag: manifestNo(chunks...).ETag()}
}

func TestUploadsCountAgainstTheQuotaUntilAborted(t *testing.T) {
	w := newWorld(t)
	w.must(Command{CreateBucket: &api.Bucket{Name: "assets", Quota: 7 << 20}})
	w.must(open("s1"))
	ref := UploadRef{Bucket: "assets", Key: "k", ID: "u1"}
	w.must(Command{CreateUpload: &CreateUpload{UploadRef: ref}})
	w.must(part(ref, 1, 0, 1))
	w.refuse(api.CodeNoRoom, part(ref, 2, 2))
	w.refuse(api.CodeNoRoom, put("o", 3))
	w.must(Command{AbortUpload: &ref})
	w.wantRefs(0, 0, 0, 0)
	w.must(put("o", 3))
	w.rows[usageKeys+"assets"] = encodeRow(&api.BucketUsage{Uploads: api.MaxUploads}, nil)
	w.refuse(api.CodeTooLarge, Command{CreateUpload: &CreateUpload{UploadRef: ref}})
}

// To complete an upload takes no more room than its parts have, also in a bucket that is over its quota by now.
func TestAnUploadIsCompletedOverTheQuota(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(open("s1"))
	ref := UploadRef{Bucket: "assets", Key: "k", ID: "u1"}
	w.must(Command{CreateUpload: &CreateUpload{UploadRef: ref}})
	made := w.must(part(ref, 1, 0, 1)).Part
	w.must(Command{UpdateBucket: &UpdateBucket{Bucket: api.Bucket{Name: "assets", Quota: 1}}})
	w.must(Command{CompleteUpload: &CompleteUpload{UploadRef: ref, Parts: []PartRef{{Number: 1, ETag: made.ETag}}}})
	if u := w.usage("assets"); u != (api.BucketUsage{Objects: 1, Bytes: made.Size}) {
		t.Errorf("%+v", u)
	}
}

func TestUploadsAndPartsAreListedInOrder(t *testing.T) {
	w := newWorld(t)
	w.must(bucketNamed("assets"))
	w.must(open("s1"))
	refs := []UploadRef{ // in their order
		{Bucket: "assets", Key: "a", ID: "u1"}, {Bucket: "assets", Key: "a", ID: "u2"}, {Bucket: "assets", Key: "a\x00", ID: "u0"}, {Bucket: "assets", Key: "a\x00\xc3\xbf", ID: "u0"}, {Bucket: "assets", Key: "a\x01", ID: "u0"}, {Bucket: "assets", Key: "b/c", ID: "u0"},
	}
	for i := range refs {
		w.must(Command{CreateUpload: &CreateUpload{UploadRef: refs[len(refs)-1-i]}})
	}
	begin := UploadRef{}
	for i := 0; i < len(refs); i++ {
		got, err := Uploads(w.rows, "assets", "", begin, 1)
		if err != nil || len(got) != 1 || (UploadRef{Bucket: got[0].Bucket, Key: got[0].Key, ID: got[0].ID}) != refs[i] {
			t.Fatalf("upload %d: %+v, %v", i, got, err)
		}
		begin = refs[i]
	}
	if got, err := Uploads(w.rows, "assets", "a\x00", UploadRef{}, 0); err != nil || len(got) != 2 {
		t.Errorf("%d under a prefix, %v", len(got), err)
	}
	for _, n := range []int{300, 2, 1, api.MaxParts} {
		w.must(part(refs[0], n, n))
	}
	w.must(part(refs[1], 7, 7))
	got, err := Parts(w.rows, refs[0], 1, 2)
	if err != nil || len(got) != 2 || got[0].Number != 2 || got[1].Number != 300 || got[0].Size != 3<<20 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Parts(w.rows, refs[0], api.MaxParts, 0); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Parts(w.rows, UploadRef{Bucket: "assets", Key: "a", ID: "none"}, 0, 0); api.CodeOf(err) != api.CodeNotFound {
		t.Error(err)
	}
}
