package api

import (
	"strings"
	"testing"
	"time"
)

func TestBucketNamesAreThoseOfS3(t *testing.T) {
	for name, ok := range map[string]bool{
		"abc": true, "ab": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, "": false,
		"a.b-c": true, "0ab": true, "a..b": false, ".ab": false, "ab.": false, "-ab": false, "ab-": false, "a.-b": false, "a-.b": false,
		"Abc": false, "a_c": false, "a/c": false, "a\x00c": false, "abü": false,
		"10.0.0.1": false, "10.0.0.1a": true, "xn--abc": false, "sthree-a": false, "amzn-s3-demo-a": false,
		"abc-s3alias": false, "abc--ol-s3": false, "abc.mrap": false, "abc--x-s3": false, "abc--table-s3": false,
	} {
		err := CheckBucketName(name)
		if (err == nil) != ok {
			t.Errorf("%q: %v, want it to be allowed: %v", name, err, ok)
		}
		if err != nil && (err.Code != CodeInvalid || err.Hint == "") {
			t.Errorf("%q: code %s, hint %q", name, err.Code, err.Hint)
		}
	}
}

func TestBucketLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(*Bucket)
		field string // that is wrong; "" for none
	}{
		{"as it is by default", func(*Bucket) {}, ""},
		{"most replicas", func(b *Bucket) { b.Replicas = MaxBucketReplicas }, ""},
		{"too many replicas", func(b *Bucket) { b.Replicas = MaxBucketReplicas + 1 }, "replicas"},
		{"fewer than none", func(b *Bucket) { b.Replicas = -1 }, "replicas"},
		{"a quorum of all", func(b *Bucket) { b.Replicas, b.WriteQuorum = 2, 2 }, ""},
		{"a quorum of more", func(b *Bucket) { b.Replicas, b.WriteQuorum = 2, 3 }, "writeQuorum"},
		{"a quorum alone raises the replicas", func(b *Bucket) { b.WriteQuorum = MaxBucketReplicas }, ""},
		{"a quorum over all limits", func(b *Bucket) { b.WriteQuorum = MaxBucketReplicas + 1 }, "writeQuorum"},
		{"a negative quorum", func(b *Bucket) { b.WriteQuorum = -1 }, "writeQuorum"},
		{"cut by content", func(b *Bucket) { b.Chunking = ChunkingContent }, ""},
		{"cut otherwise", func(b *Bucket) { b.Chunking = "rabin" }, "chunking"},
		{"another compression", func(b *Bucket) { b.Compression = "gzip" }, "compression"},
		{"another class", func(b *Bucket) { b.Class = "warm" }, "class"},
		{"a negative quota", func(b *Bucket) { b.Quota = -1 }, "quota"},
		{"the shortest expiry", func(b *Bucket) { b.Expiry = Duration(MinBucketExpiry) }, ""},
		{"a shorter one", func(b *Bucket) { b.Expiry = Duration(MinBucketExpiry - time.Nanosecond) }, "expiry"},
	} {
		b := Bucket{Name: "assets"}
		c.set(&b)
		b.Default()
		errs := b.Validate()
		if c.field == "" && len(errs) > 0 || c.field != "" && (len(errs) != 1 || errs[0].Path != c.field) {
			t.Errorf("%s: %v, want a fault of %q", c.name, errs, c.field)
		}
	}
	cold := Bucket{Name: "old", Class: ClassCold}
	if cold.Default(); cold.Compression != CompressionZstd {
		t.Errorf("a cold bucket is compressed with %s", cold.Compression)
	}
}

func TestObjectKeys(t *testing.T) {
	for key, ok := range map[string]bool{
		"a": true, "": false, strings.Repeat("k", MaxObjectKeyBytes): true, strings.Repeat("k", MaxObjectKeyBytes+1): false,
		"..": true, "/": true, "a//b/": true, "\x00\x01\xc3\xbc\n": true, "\xff": false, "a\xc3": false,
	} {
		if err := CheckObjectKey(key); (err == nil) != ok {
			t.Errorf("%.20q: %v, want it to be allowed: %v", key, err, ok)
		}
	}
}
