// Package meta is what may be asked of the object store's metadata, which the coordinators keep:
// commands, which go through the Raft log, and queries, with what they give. The bytes of objects are
// elsewhere, in chunks on the nodes; here they are manifests.
package meta

import (
	"time"

	"github.com/cloudless/cloudless/api"
)

// Command is one change that was asked for: when, and exactly one operation.
type Command struct {
	At time.Time `json:"at"`

	CreateBucket   *api.Bucket     `json:"createBucket,omitempty"`
	UpdateBucket   *UpdateBucket   `json:"updateBucket,omitempty"`
	DeleteBucket   *DeleteBucket   `json:"deleteBucket,omitempty"`
	OpenSession    *OpenSession    `json:"openSession,omitempty"`
	RenewSession   *RenewSession   `json:"renewSession,omitempty"`
	EndSession     *EndSession     `json:"endSession,omitempty"`
	ExpireSessions *ExpireSessions `json:"expireSessions,omitempty"`
	Put            *Put            `json:"put,omitempty"`
	Delete         *Delete         `json:"delete,omitempty"`
	Copy           *Copy           `json:"copy,omitempty"`
	SetTags        *SetTags        `json:"setTags,omitempty"`
	ExpireObjects  *ExpireObjects  `json:"expireObjects,omitempty"`
	CreateUpload   *CreateUpload   `json:"createUpload,omitempty"`
	PutPart        *PutPart        `json:"putPart,omitempty"`
	CompleteUpload *CompleteUpload `json:"completeUpload,omitempty"`
	AbortUpload    *UploadRef      `json:"abortUpload,omitempty"`
	SealGroup      *SealGroup      `json:"sealGroup,omitempty"`
	Restore        *Restore        `json:"restore,omitempty"`
}

// Bucket names the bucket that a command changes; "" is none, or that of a session alone.
func (c *Command) Bucket() string {
	switch {
	case c.CreateBucket != nil:
		return c.CreateBucket.Name
	case c.UpdateBucket != nil:
		return c.UpdateBucket.Bucket.Name
	case c.DeleteBucket != nil:
		return c.DeleteBucket.Name
	case c.OpenSession != nil:
		return c.OpenSession.Bucket
	case c.Put != nil:
		return c.Put.Bucket
	case c.Delete != nil:
		return c.Delete.Bucket
	case c.Copy != nil:
		return c.Copy.Bucket
	case c.SetTags != nil:
		return c.SetTags.Bucket
	case c.ExpireObjects != nil:
		return c.ExpireObjects.Bucket
	case c.CreateUpload != nil:
		return c.CreateUpload.Bucket
	case c.PutPart != nil:
		return c.PutPart.Bucket
	case c.CompleteUpload != nil:
		return c.CompleteUpload.Bucket
	case c.AbortUpload != nil:
		return c.AbortUpload.Bucket
	}
	return ""
}

// Operands of commands.
type (
	// Condition must hold, or nothing is changed.
	Condition struct {
		IfAbsent bool   `json:"ifAbsent,omitempty"` // If-None-Match: *
		IfMatch  string `json:"ifMatch,omitempty"`  // an ETag without quotes, or * for any object
	}
	// Head is what a client says of an object beside its bytes.
	Head = api.ObjectHead
	// UpdateBucket changes a bucket's settings.
	UpdateBucket struct {
		Bucket  api.Bucket `json:"bucket"`
		IfMatch uint64     `json:"ifMatch,omitempty"` // its ModifyIndex; 0: any
	}
	// DeleteBucket removes an empty bucket.
	DeleteBucket struct {
		Name    string `json:"name"`
		IfMatch uint64 `json:"ifMatch,omitempty"`
	}
	// OpenSession begins an upload.
	OpenSession struct {
		ID     string `json:"id"`
		Bucket string `json:"bucket"`
	}
	// RenewSession gives a session another api.SessionLifetime, and lets it name chunks that were found
	// present: they count as referenced while the session lives.
	RenewSession struct {
		ID     string   `json:"id"`
		Chunks [][]byte `json:"chunks,omitempty"` // digests of 32 bytes
	}
	// EndSession ends a session; one that is not there has ended.
	EndSession struct {
		ID string `json:"id"`
	}
	// ExpireSessions ends those of the sessions whose time is over.
	ExpireSessions struct {
		IDs []string `json:"ids"`
	}
	// Put makes or replaces an object. It has either Inline bytes or a Manifest; a manifest with chunks
	// needs the session under which they were stored.
	Put struct {
		Bucket   string `json:"bucket"`
		Key      string `json:"key"`
		Head     Head   `json:"head,omitzero"`
		Inline   []byte `json:"inline,omitempty"`
		Manifest []byte `json:"manifest,omitempty"`
		Session  string `json:"session,omitempty"`
		End      bool   `json:"end,omitempty"` // the session ends with it
		Condition
	}
	// Delete removes an object; one that is not there is gone already, unless IfMatch names it.
	Delete struct {
		Bucket  string `json:"bucket"`
		Key     string `json:"key"`
		IfMatch string `json:"ifMatch,omitempty"`
	}
	// Copy makes another row for the same bytes.
	Copy struct {
		FromBucket    string `json:"fromBucket"`
		FromKey       string `json:"fromKey"`
		SourceIfMatch string `json:"sourceIfMatch,omitempty"`
		Bucket        string `json:"bucket"`
		Key           string `json:"key"`
		Head          *Head  `json:"head,omitempty"` // nil: the source's; the checksum is the source's always
		Condition
	}
	// SetTags replaces the tags of an object, and nothing else of it.
	SetTags struct {
		Bucket string            `json:"bucket"`
		Key    string            `json:"key"`
		Tags   map[string]string `json:"tags,omitempty"`
	}
	// ExpireObjects removes objects whose time is over, if they are still those that were found.
	ExpireObjects struct {
		Bucket  string       `json:"bucket"`
		Objects []ExpiredRow `json:"objects"`
	}
	// ExpiredRow is one object that was found expired.
	ExpiredRow struct {
		Key   string `json:"key"`
		Index uint64 `json:"index"`
	}
	// UploadRef names a multipart upload.
	UploadRef struct {
		Bucket string `json:"bucket"`
		Key    string `json:"key"`
		ID     string `json:"id"`
	}
	// CreateUpload begins a multipart upload.
	CreateUpload struct {
		UploadRef
		Head Head `json:"head,omitzero"`
	}
	// PutPart adds or replaces a part.
	PutPart struct {
		UploadRef
		Number   int           `json:"number"`
		Manifest []byte        `json:"manifest"`
		Checksum *api.Checksum `json:"checksum,omitempty"`
		Session  string        `json:"session,omitempty"`
		End      bool          `json:"end,omitempty"`
	}
	// CompleteUpload makes an object of parts.
	CompleteUpload struct {
		UploadRef
		Parts    []PartRef `json:"parts"`
		Checksum string    `json:"checksum,omitempty"` // that the object is to have; "": any
		Condition
	}
	// SealGroup lets chunks be kept as a group of package erasure: each once, and two more that were
	// computed of them, from which any two that are lost can be made again. All of them are named by
	// objects of cold buckets only; the two more are stored under the session, which ends with it.
	SealGroup struct {
		Session string `json:"session"`
		Group
	}
	// Group is the shards of a group, those of data first. Its id is GroupID of them.
	Group struct {
		Shards []Shard `json:"shards"`
	}
	// Shard is one chunk of a group.
	Shard struct {
		Digest []byte `json:"digest"` // 32 bytes
		Bytes  int    `json:"bytes"`
	}
	// Restore is a piece of a backup that is to replace all rows, an entry of the log by itself. Nothing is
	// replaced before the Last one, which must be the next one after all others; the first one begins
	// anew. A piece that has come already may come again.
	Restore struct {
		ID     string `json:"id"`
		Number int    `json:"number"`         // from 0
		Rows   []byte `json:"rows,omitempty"` // as in a backup
		More   bool   `json:"more,omitempty"` // the first of the rows goes on with the last one of the piece before
		Last   bool   `json:"last,omitempty"`
		Drop   bool   `json:"drop,omitempty"` // what has come is given up
	}
	// PartRef names a part that the client has uploaded.
	PartRef struct {
		Number   int    `json:"number"`
		ETag     string `json:"etag"`
		Checksum string `json:"checksum,omitempty"` // "": any
	}
)

// Result is what a command gave. Err is a refusal: nothing was changed.
type Result struct {
	Err     *api.Error         `json:"error,omitempty"`
	Bucket  *api.Bucket        `json:"bucket,omitempty"`
	Object  *api.Object        `json:"object,omitempty"` // as a list shows it
	Session *api.UploadSession `json:"session,omitempty"`
	Upload  *api.Upload        `json:"upload,omitempty"`
	Part    *api.Part          `json:"part,omitempty"`    // as a list shows it
	Removed int                `json:"removed,omitempty"` // rows that are gone
}
