package api

import (
	"time"
	"unicode/utf8"
)

// SessionLifetime is how long an upload session lives after it was opened or last renewed.
const SessionLifetime = 15 * time.Minute

// Limits of uploads; those of parts are S3's.
const (
	MaxParts          = 10_000
	MinPartBytes      = 5 << 20 // of each part but the last
	MaxUploads        = 1_000   // unfinished multipart uploads of one bucket
	MaxUploadSessions = 10_000
	MaxSessionChunks  = 10_000 // that one session names beside those that nodes pin for it
)

// Terms are how the chunks of a row are kept: as its bucket says when it is made. What is changed of the
// bucket holds for rows made later.
type Terms struct {
	Replicas int    `json:"replicas,omitempty"`
	Class    string `json:"class,omitempty"`
}

// Object is one row of a bucket. Its bytes are either Inline or in the chunks that Manifest names.
type Object struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	ETag   string `json:"etag"`             // without quotes
	SHA256 string `json:"sha256,omitempty"` // hexadecimal; "" where nobody has computed it
	ObjectHead
	Modified time.Time `json:"modified"`
	Index    uint64    `json:"index"` // of the log entry that put it
	Terms
	Inline   []byte `json:"inline,omitempty"`   // left out of lists
	Manifest []byte `json:"manifest,omitempty"` // as chunkstore/split encodes it; left out of lists
}

// UploadSession keeps the chunks of an upload from being collected until an object names them.
type UploadSession struct {
	ID      string    `json:"id"`
	Bucket  string    `json:"bucket"`
	Expires time.Time `json:"expires"`
	Chunks  int       `json:"chunks,omitempty"` // that it names
	Terms             // of the chunks that it names
}

// Upload is a multipart upload that is neither completed nor aborted.
type Upload struct {
	Bucket     string    `json:"bucket"`
	Key        string    `json:"key"`
	ID         string    `json:"id"`
	ObjectHead           // of the object to be; its checksum says which one the parts have
	Started    time.Time `json:"started"`
}

// Part is one part of a multipart upload.
type Part struct {
	Number   int       `json:"number"`
	Size     int64     `json:"size"`
	ETag     string    `json:"etag"`
	Modified time.Time `json:"modified"`
	Checksum *Checksum `json:"checksum,omitempty"`
	Terms
	Manifest []byte `json:"manifest,omitempty"` // left out of lists
}

// CheckObjectKey refuses what cannot be an object's key: it is any UTF-8 of 1 to MaxObjectKeyBytes bytes.
func CheckObjectKey(key string) *Error {
	switch {
	case key == "":
		return Errorf(CodeInvalid, "an object needs a key").WithHint("give it one of 1 to %d bytes", MaxObjectKeyBytes)
	case len(key) > MaxObjectKeyBytes:
		return Errorf(CodeInvalid, "the key has %d bytes, at most %d are allowed", len(key), MaxObjectKeyBytes).WithReason(ReasonKeyTooLong).WithHint("shorten the key")
	case !utf8.ValidString(key):
		return Errorf(CodeInvalid, "the key %q is not UTF-8", key).WithHint("encode the key as UTF-8")
	}
	return nil
}
