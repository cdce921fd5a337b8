package objects

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// samples are one command of each kind, with each field set.
func samples() map[string]Command {
	ref := UploadRef{Bucket: "assets", Key: "a/ü", ID: "u1"}
	cond := Condition{IfAbsent: true, IfMatch: "*"}
	sum := &api.Checksum{Algorithm: "CRC32", Value: "AAAAAA=="}
	head := Head{
		ContentType: "text/plain", Metadata: map[string]string{"x": "y"}, CacheControl: "no-store", ContentDisposition: "inline", ContentEncoding: "br",
		ContentLanguage: "de", Expires: "0", Tags: map[string]string{"a": "b"}, Checksum: sum,
	}
	rules := api.Bucket{
		Name: "assets", Replicas: 3, Tags: map[string]string{"a": "b"}, Lifecycle: []api.LifecycleRule{{ID: "r", Prefix: "p/", ExpireDays: 3, AbortDays: 7}, {Tags: map[string]string{"k": "v"}, MinBytes: 1, UnderBytes: 2, Disabled: true, ExpireAt: day}},
		CORS: []api.CORSRule{{ID: "r", Origins: []string{"*"}, Methods: []string{"GET"}, Headers: []string{"*"}, ExposeHeaders: []string{"ETag"}, MaxAgeSeconds: 60}},
	}
	d := chunkNo(1).Digest
	return map[string]Command{
		"createBucket":   {CreateBucket: &api.Bucket{Name: "assets", Replicas: 2, WriteQuorum: 1, Chunking: "cdc", Compression: "zstd", Class: "cold", Quota: 1 << 30, Expiry: api.Duration(3600e9)}},
		"updateBucket":   {UpdateBucket: &UpdateBucket{Bucket: rules, IfMatch: 7}},
		"deleteBucket":   {DeleteBucket: &DeleteBucket{Name: "assets", IfMatch: 7}},
		"openSession":    {OpenSession: &OpenSession{ID: "s1", Bucket: "assets"}},
		"renewSession":   {RenewSession: &RenewSession{ID: "s1", Chunks: [][]byte{d[:]}}},
		"endSession":     {EndSession: &EndSession{ID: "s1"}},
		"expireSessions": {ExpireSessions: &ExpireSessions{IDs: []string{"s1"}}},
		"put":            {Put: &Put{Bucket: "assets", Key: "a\x00/ü", Head: head, Manifest: manifestNo(1).Encode(), Session: "s1", End: true, Condition: cond}},
		"putInline":      {Put: &Put{Bucket: "assets", Key: "k", Inline: []byte("hello")}},
		"restore":        {Restore: &RestorePiece{ID: "r1", Number: 2, Rows: []byte("rows"), More: true, Last: true, Drop: true}},
		"delete":         {Delete: &Delete{Bucket: "assets", Key: "k", IfMatch: "e"}},
		"copy":           {Copy: &Copy{FromBucket: "assets", FromKey: "k", SourceIfMatch: "e", Bucket: "other", Key: "l", Head: &head, Condition: cond}},
		"setTags":        {SetTags: &SetTags{Bucket: "assets", Key: "k", Tags: map[string]string{"a": "b"}}},
		"expireObjects":  {ExpireObjects: &ExpireObjects{Bucket: "assets", Objects: []ExpiredRow{{Key: "k", Index: 7}}}},
		"createUpload":   {CreateUpload: &CreateUpload{UploadRef: ref, Head: head}},
		"putPart":        {PutPart: &PutPart{UploadRef: ref, Number: 3, Manifest: manifestNo(2).Encode(), Checksum: sum, Session: "s1", End: true}},
		"completeUpload": {CompleteUpload: &CompleteUpload{UploadRef: ref, Parts: []PartRef{{Number: 1, ETag: "e", Checksum: "AAAAAA=="}}, Checksum: "AAAAAA==", Condition: cond}},
		"abortUpload":    {AbortUpload: &ref},
	}
}

// Bytes that are in a log must be read for ever.
func TestCommandsHaveTheirGoldenBytes(t *testing.T) {
	for name, c := range samples() {
		b, err := Encode([]Command{at(c)})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, b)
		back, err := Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff([]Command{at(c)}, back); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestLimitsOfEntries(t *testing.T) {
	c := at(samples()["delete"])
	for n, ok := range map[int]bool{0: false, 1: true, MaxEntryCommands: true, MaxEntryCommands + 1: false} {
		var cmds []Command
		for range n {
			cmds = append(cmds, c)
		}
		if _, err := Encode(cmds); (err == nil) != ok {
			t.Errorf("%d commands: %v", n, err)
		}
		text := strings.TrimSuffix(strings.Repeat(`{"at":"2026-03-01T12:00:00Z"},`, n), ",")
		if _, err := Decode(append([]byte("O\x01"), meta.Pack([]byte("["+text+"]"), nil)...)); (err == nil) != ok {
			t.Errorf("%d commands decoded: %v", n, err)
		}
	}
	const half = MaxEntryBytes / 2 // whose length is written in as many bytes
	big := at(Command{Delete: &Delete{Bucket: "assets", Key: strings.Repeat("k", half)}})
	less, err := Encode([]Command{big})
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []int{-1, 0, 1} {
		big.Delete.Key = strings.Repeat("k", MaxEntryBytes-len(less)+half+more)
		b, err := Encode([]Command{big})
		if (err == nil) != (more <= 0) {
			t.Errorf("%d bytes over: %v", more, err)
		}
		if err == nil && len(b) != MaxEntryBytes+more {
			t.Errorf("%d bytes", len(b))
		}
	}
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	for _, b := range []string{"", "O", "O\x02\x04[{}]", "\x01\x01\x04[{}]", "O\x01", "O\x01\x02{}", "O\x01\x0f" + `[{"unknown":1}]`, "O\x01\x07[{}] {}", "O\x01\x05[{}]x", "O\x01\x04[{}]x", "O\x01\x02[]"} {
		if cmds, err := Decode([]byte(b)); err == nil {
			t.Errorf("%q gave %+v", b, cmds)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range samples() {
		b, err := Encode([]Command{at(c)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cmds, err := Decode(b)
		if err != nil {
			return
		}
		for _, c := range cmds { // whatever is asked for, a decision comes of it, and no fault
			if _, _, err := Decide(mapRows{}, 1, c); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		}
		again, err := Encode(cmds)
		if err != nil {
			return // a time that JSON reads and does not write, or over the limit when written out
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

// A row is read as it was written, or refused; what is damaged never makes a decision panic.
func FuzzRows(f *testing.F) {
	w := newWorld(f)
	for _, cmds := range life() {
		for _, c := range cmds {
			w.do(c)
		}
	}
	for _, value := range w.rows {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := decodeObject("assets", "k", b, true); err == nil {
			again, err := decodeObject("assets", "k", encodeObject(o), true)
			if err != nil || again.Size != o.Size || !bytes.Equal(again.Manifest, o.Manifest) || !bytes.Equal(again.Inline, o.Inline) {
				t.Errorf("%+v became %+v: %v", o, again, err)
			}
		}
		if r, err := decodeReference(b); err == nil && !bytes.Equal(r.encode(), b) {
			if again, err := decodeReference(r.encode()); err != nil || again != r {
				t.Errorf("%+v became %+v: %v", r, again, err)
			}
		}
		for key := range w.rows {
			rows := mapRows{}
			for k, v := range w.rows {
				rows[k] = v
			}
			rows[key] = b
			for _, c := range samples() {
				_, _, _ = Decide(rows, 9, at(c))
			}
		}
	})
}

func FuzzCatchUp(f *testing.F) {
	from := openStore(f, vfs.NewMem())
	defer closeStore(f, from)
	applyAll(f, from, life())
	f.Add(dump(f, from))
	restore(f, from, "r1", backup(f, from))
	apply(f, from, from.Applied()+1, pieces(f, "r2", backup(f, from))[0])
	f.Add(dump(f, from))
	f.Add([]byte("\x02{}" + backupMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := openStore(t, vfs.NewMem())
		defer closeStore(t, s)
		before := backup(t, s)
		err := catchUp(s, b)
		if err == nil && s.Applied() > 0 && !bytes.Contains(b, backup(t, s)) {
			t.Error("other rows than in the dump")
		}
		if err != nil && !bytes.Equal(backup(t, s), before) {
			t.Error("a dump that was refused changed rows")
		}
	})
}
