package meta

import "github.com/cloudless/cloudless/api"

// Query asks for exactly one thing. What it gives is as new as every change that was answered before the
// query was sent, whichever coordinator is asked.
type Query struct {
	Bucket  string     `json:"bucket,omitempty"`  // gives Bucket and Usage
	Buckets bool       `json:"buckets,omitempty"` // all of them, by name
	Object  *ObjectRef `json:"object,omitempty"`  // an object whole
	List    *List      `json:"list,omitempty"`
	Uploads *Uploads   `json:"uploads,omitempty"`
	Parts   *Parts     `json:"parts,omitempty"`
	Upload  *UploadRef `json:"upload,omitempty"` // a multipart upload that is under way
	// Unreferenced asks which of these chunks (digests of 32 bytes) nobody names; at most MaxAsked.
	Unreferenced [][]byte `json:"unreferenced,omitempty"`
	// Groups asks in which groups these chunks are (digests of 32 bytes), at most MaxGroups. That one is
	// in none is no error.
	Groups [][]byte `json:"groups,omitempty"`
	// Sessions asks which of these upload sessions live; at most MaxAsked.
	Sessions []string `json:"sessions,omitempty"`
}

// MaxAsked is how many chunks or sessions one query may ask about.
const MaxAsked = 1_000

// MaxGroups is of how many chunks one query may ask for the groups.
const MaxGroups = 64

// Queries asks several things in one request, each of which is answered for itself.
type Queries struct {
	Queries []Query `json:"queries"`
}

const (
	MaxQueries = 256 // in one request
	// MaxAnswersBytes is after how much of manifests and inline bytes a request gets no more answers.
	MaxAnswersBytes = 4 << 20
)

// Answers answers Queries in their order, the first of them at least. What comes after the last answer is to be
// asked again. If there is only one query, what was wrong with it is the error of the request.
type Answers struct {
	Answers []*Answer `json:"answers"`
}

// Answer is what a query gave, or why it gave nothing; Index is the log's up to which it counts.
type Answer struct {
	Err      *api.Error       `json:"error,omitempty"`
	Index    uint64           `json:"index"`
	Bucket   *api.Bucket      `json:"bucket,omitempty"`
	Usage    *api.BucketUsage `json:"usage,omitempty"`
	Buckets  []*api.Bucket    `json:"buckets,omitempty"`
	Object   *api.Object      `json:"object,omitempty"`
	Page     *Page            `json:"page,omitempty"`
	Uploads  []*api.Upload    `json:"uploads,omitempty"`
	Upload   *api.Upload      `json:"upload,omitempty"`
	Parts    []*api.Part      `json:"parts,omitempty"`
	Chunks   [][]byte         `json:"chunks,omitempty"`
	Groups   []*Group         `json:"groups,omitempty"` // each once
	Sessions []string         `json:"sessions,omitempty"`
}

// Operands of queries, and a page.
type (
	// ObjectRef names an object.
	ObjectRef struct {
		Bucket string `json:"bucket"`
		Key    string `json:"key"`
	}
	// List asks for a page of a bucket.
	List struct {
		Bucket string `json:"bucket"`
		Prefix string `json:"prefix,omitempty"`
		// Delimiter gathers the keys that have it after the prefix: up to it they are one common prefix.
		Delimiter string `json:"delimiter,omitempty"`
		// After is a key or common prefix behind which the page begins: a page's Cursor, or any key.
		After string `json:"after,omitempty"`
		Limit int    `json:"limit,omitempty"` // objects and common prefixes; 0: api.DefaultListLimit
	}
	// Page is what a list gives, in the order of keys.
	Page struct {
		Objects  []*api.Object `json:"objects"`
		Prefixes []string      `json:"prefixes,omitempty"`
		Cursor   string        `json:"cursor,omitempty"` // where the next page begins; "" when there is none
	}
	// Uploads asks for unfinished multipart uploads, by key and id, behind the one that After names.
	Uploads struct {
		Bucket string    `json:"bucket"`
		Prefix string    `json:"prefix,omitempty"`
		After  UploadRef `json:"after,omitzero"`
		Limit  int       `json:"limit,omitempty"`
	}
	// Parts asks for the parts of an upload with numbers over After, without their manifests.
	Parts struct {
		UploadRef
		After int `json:"after,omitempty"`
		Limit int `json:"limit,omitempty"`
	}
)
