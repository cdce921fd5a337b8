package api

import (
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Limits of the object store. Names and keys have those of S3, so that its clients find what they expect.
const (
	MinBucketNameLen      = 3
	MaxBucketNameLen      = 63
	MaxBuckets            = 1_000
	MaxBucketReplicas     = 7 // copies of a chunk
	DefaultBucketReplicas = 3
	MinBucketExpiry       = time.Minute // shorter, and an object could go before its upload is answered
	MaxObjectKeyBytes     = 1_024
	MaxInlineBytes        = 4 << 10 // an object up to this is kept with its metadata, not in chunks
)

// Chunking is how the objects of a bucket are cut.
const (
	ChunkingFixed   = "fixed"
	ChunkingContent = "cdc" // by content: what is inserted changes the chunks around it alone
)

// Compression of chunks.
const (
	CompressionNone = "none"
	CompressionS2   = "s2"
	CompressionZstd = "zstd"
)

// Classes of buckets. A cold one is read seldom: it is compressed harder and, when six nodes keep chunks, kept
// once with parity in place of copies.
const (
	ClassHot  = "hot"
	ClassCold = "cold"
)

// Bucket holds objects and says how they are kept. What is changed of it holds for objects put later.
type Bucket struct {
	Name        string            `json:"name"`
	Replicas    int               `json:"replicas,omitempty"`
	WriteQuorum int               `json:"writeQuorum,omitempty"` // copies that must be durable before a put is acknowledged; 0: more than half
	Chunking    string            `json:"chunking,omitempty"`
	Compression string            `json:"compression,omitempty"`
	Class       string            `json:"class,omitempty"`
	Quota       Bytes             `json:"quota,omitempty"`  // of all objects and unfinished uploads; 0: none
	Expiry      Duration          `json:"expiry,omitempty"` // after which an object goes by itself; 0: never
	Lifecycle   []LifecycleRule   `json:"lifecycle,omitempty"`
	CORS        []CORSRule        `json:"cors,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	CreatedAt   time.Time         `json:"createdAt,omitzero"`
	CreateIndex uint64            `json:"createIndex,omitempty"`
	ModifyIndex uint64            `json:"modifyIndex,omitempty"`
}

// BucketUsage is what a bucket holds.
type BucketUsage struct {
	Objects     int64 `json:"objects"`
	Bytes       int64 `json:"bytes"`
	Uploads     int64 `json:"uploads"`     // multipart uploads that are neither completed nor aborted
	UploadBytes int64 `json:"uploadBytes"` // of their parts
}

// Add gives the sum.
func (u BucketUsage) Add(v BucketUsage) BucketUsage {
	return BucketUsage{u.Objects + v.Objects, u.Bytes + v.Bytes, u.Uploads + v.Uploads, u.UploadBytes + v.UploadBytes}
}

// Total is what counts against a quota.
func (u BucketUsage) Total() int64 { return u.Bytes + u.UploadBytes }

// Default fills in what was left out.
func (b *Bucket) Default() {
	if b.Replicas == 0 {
		b.Replicas = max(DefaultBucketReplicas, min(b.WriteQuorum, MaxBucketReplicas))
	}
	if b.Chunking == "" {
		b.Chunking = ChunkingFixed
	}
	if b.Class == "" {
		b.Class = ClassHot
	}
	if b.Compression == "" {
		b.Compression = CompressionS2
		if b.Class == ClassCold {
			b.Compression = CompressionZstd
		}
	}
}

// Validate returns everything that is wrong with a bucket.
func (b *Bucket) Validate() FieldErrors {
	v := &validator{}
	if why := bucketNameFault(b.Name); why != "" {
		v.add("name", "%q %s", b.Name, why)
	}
	v.check(b.Replicas >= 1 && b.Replicas <= MaxBucketReplicas, "replicas", "is %d, allowed are 1 to %d", b.Replicas, MaxBucketReplicas)
	v.check(b.WriteQuorum >= 0 && b.WriteQuorum <= max(b.Replicas, 0), "writeQuorum", "is %d, allowed are 1 to the %d replicas, or 0 for more than half", b.WriteQuorum, b.Replicas)
	v.oneOf("chunking", b.Chunking, ChunkingFixed, ChunkingContent)
	v.oneOf("compression", b.Compression, CompressionNone, CompressionS2, CompressionZstd)
	v.oneOf("class", b.Class, ClassHot, ClassCold)
	v.check(b.Quota >= 0, "quota", "is negative")
	v.check(b.Expiry == 0 || b.Expiry.D() >= MinBucketExpiry, "expiry", "is %v, at least %v is needed", b.Expiry, MinBucketExpiry)
	v.lifecycle(b.Lifecycle)
	v.cors(b.CORS)
	if err := CheckTags(b.Tags, MaxBucketTags); err != nil {
		v.add("tags", "%s", err.Message)
	}
	return v.errs
}

var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*[a-z0-9]$`)

// Beginnings and ends of names that S3 keeps for itself.
var (
	reservedBucketPrefixes = []string{"xn--", "sthree-", "amzn-s3-demo-"}
	reservedBucketSuffixes = []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"}
)

// CheckBucketName refuses names that S3 does not allow.
func CheckBucketName(name string) *Error {
	if why := bucketNameFault(name); why != "" {
		return Errorf(CodeInvalid, "bucket name %q %s", name, why).WithReason(ReasonBucketName).
			WithHint("use %d to %d lower-case letters, digits, dots and hyphens", MinBucketNameLen, MaxBucketNameLen)
	}
	return nil
}

// bucketNameFault says what is wrong with a name, or "".
func bucketNameFault(name string) string {
	switch {
	case len(name) < MinBucketNameLen || len(name) > MaxBucketNameLen:
		return "has the wrong length"
	case !bucketPattern.MatchString(name):
		return "has characters that a bucket's name may not have there"
	case strings.Contains(name, ".."):
		return "has two dots in a row"
	case strings.Contains(name, ".-") || strings.Contains(name, "-."):
		return "has a hyphen beside a dot" // BUCKET.DOMAIN would be no host name
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "looks like an IP address"
	}
	for _, p := range reservedBucketPrefixes {
		if strings.HasPrefix(name, p) {
			return "begins with " + p + ", which is reserved"
		}
	}
	for _, s := range reservedBucketSuffixes {
		if strings.HasSuffix(name, s) {
			return "ends with " + s + ", which is reserved"
		}
	}
	return ""
}
