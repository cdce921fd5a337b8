package meta

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudless/cloudless/api"
)

func someCommands() Commands {
	return Commands{Commands: []Command{
		{CreateBucket: &api.Bucket{Name: "assets"}},
		{Put: &Put{Bucket: "assets", Key: "a", Inline: []byte("\x00\xffbytes")}},
		{Put: &Put{Bucket: "assets", Key: "empty"}},
		{Put: &Put{Bucket: "assets", Key: "b", Manifest: []byte("manifest"), Session: "s"}},
		{PutPart: &PutPart{Number: 1, Manifest: []byte("part")}},
		{Restore: &Restore{ID: "r", Rows: []byte("rows")}},
	}}
}

// What is packed comes out as it went in, and is not changed by it.
func TestPackingLosesNothing(t *testing.T) {
	in := someCommands()
	b, err := in.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(someCommands(), in); d != "" {
		t.Errorf("packing changed what was packed:\n%s", d)
	}
	var out Commands
	if err := out.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, out); d != "" {
		t.Error(d)
	}
	answers := func() Answers {
		return Answers{Answers: []*Answer{
			{Index: 7, Sessions: []string{"s"}},
			{Index: 7, Object: &api.Object{Key: "a", Inline: []byte("x")}},
			{Err: api.Errorf(api.CodeNotFound, "there is none").WithHint("look")},
			{Index: 7, Object: &api.Object{Key: "b", Manifest: []byte("m")}},
			{Index: 7, Object: &api.Object{Key: "empty"}},
		}}
	}
	told := answers()
	if b, err = told.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(answers(), told); d != "" {
		t.Errorf("packing changed what was packed:\n%s", d)
	}
	var heard Answers
	if err := heard.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(told, heard); d != "" {
		t.Error(d)
	}
	for i := range b {
		if err := new(Answers).UnmarshalBinary(b[:i]); err == nil {
			t.Errorf("answers that are cut after %d bytes are taken", i)
		}
	}
	for name, b := range map[string][]byte{"bytes after the end": append(append([]byte{}, b...), 0), "no answer": Pack([]byte(`[null]`), nil)} {
		if err := new(Answers).UnmarshalBinary(b); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// What is cut, goes on, or says what this version does not know is refused, and never a panic.
func TestWhatWasNotPackedIsRefused(t *testing.T) {
	good, err := someCommands().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if err := new(Commands).UnmarshalBinary(good[:i]); err == nil {
			t.Errorf("cut after %d bytes it is taken", i)
		}
	}
	for name, b := range map[string][]byte{
		"bytes after the end": append(append([]byte{}, good...), 0),
		"an unknown field":    Pack([]byte(`[{"fly":true}]`), nil),
		"two lists":           Pack([]byte(`[][]`), nil),
		"bytes in the text":   Pack([]byte(`[{"put":{"bucket":"b","key":"k","inline":"eA=="}}]`), []byte{0, 0}),
		"a length too large":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		if err := new(Commands).UnmarshalBinary(b); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	good, err := someCommands().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Commands
		if c.UnmarshalBinary(b) != nil {
			return
		}
		again, err := c.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var d Commands
		if err := d.UnmarshalBinary(again); err != nil {
			t.Errorf("what was read cannot be packed and read again: %v", err)
		}
		_ = new(Answers).UnmarshalBinary(b)
	})
}
