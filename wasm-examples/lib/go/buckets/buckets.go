//go:build wasip1

// Package buckets reaches the buckets that the manifest's spec.buckets grants (docs/GUEST-STORAGE.md). A
// module that uses it is refused where nothing is granted there, so it is a package of its own.
package buckets

import (
	"encoding/binary"
	"fmt"
	"io"
	"unsafe"
)

//go:wasmimport cl kv_get
func kvGet(bucket *byte, bucketLen int32, key *byte, keyLen int32, ptr *byte, limit int32, etag *byte) int32

//go:wasmimport cl kv_set
func kvSet(bucket *byte, bucketLen int32, key *byte, keyLen int32, ptr *byte, size, mode int32, etag *byte) int32

//go:wasmimport cl kv_delete
func kvDelete(bucket *byte, bucketLen int32, key *byte, keyLen int32, mode int32, etag *byte) int32

//go:wasmimport cl kv_list
func kvList(bucket *byte, bucketLen int32, prefix *byte, prefixLen int32, after *byte, afterLen int32, ptr *byte, limit int32) int32

//go:wasmimport cl blob_open
func blobOpen(bucket *byte, bucketLen int32, key *byte, keyLen int32, offset, length int64, info *byte) int32

//go:wasmimport cl blob_read
func blobRead(blob int32, ptr *byte, limit int32) int32

//go:wasmimport cl blob_create
func blobCreate(bucket *byte, bucketLen int32, key *byte, keyLen int32, mode int32, etag *byte) int32

//go:wasmimport cl blob_write
func blobWrite(blob int32, ptr *byte, size int32) int32

//go:wasmimport cl blob_commit
func blobCommit(blob int32, etag *byte) int32

//go:wasmimport cl blob_close
func blobClose(blob int32) int32

// Errno is the number that the host has told; the workload's log has the reason.
type Errno int

// Answers that a guest may expect.
const (
	Absent Errno = 2
	Again  Errno = 11
	Exists Errno = 17
	Stale  Errno = 116
)

func (e Errno) Error() string { return fmt.Sprintf("errno %d", int(e)) }

// Bucket is one of the buckets that are granted, by its name.
type Bucket string

// ETag names the bytes that an object has; the zero ETag those of an object that is not there.
type ETag [64]byte

func (t *ETag) ptr() *byte { return &t[0] }

// mode lets a change depend on what is there.
func (t *ETag) mode() int32 {
	if *t == (ETag{}) {
		return 1
	}
	return 2
}

func text(s string) (*byte, int32) { return unsafe.StringData(s), int32(len(s)) }

// Get reads a value; Absent if there is none.
func (b Bucket) Get(key string) ([]byte, ETag, error) {
	bp, bn := text(string(b))
	kp, kn := text(key)
	for p := make([]byte, 4096); ; {
		var etag ETag
		n, err := result(kvGet(bp, bn, kp, kn, unsafe.SliceData(p), int32(len(p)), etag.ptr()))
		if err != nil || n <= len(p) {
			return p[:n], etag, err
		}
		p = make([]byte, n)
	}
}

// Set writes a value, whatever is there.
func (b Bucket) Set(key string, value []byte) error { return b.set(key, value, 0, nil) }

// Swap writes a value if what is there has the ETag was, and gives the new one; Stale, Exists or Absent if
// it has not.
func (b Bucket) Swap(key string, value []byte, was ETag) (ETag, error) {
	err := b.set(key, value, was.mode(), was.ptr())
	return was, err
}

func (b Bucket) set(key string, value []byte, mode int32, etag *byte) error {
	bp, bn := text(string(b))
	kp, kn := text(key)
	_, err := result(kvSet(bp, bn, kp, kn, unsafe.SliceData(value), int32(len(value)), mode, etag))
	return err
}

// Update puts what f makes of a value in its place, and calls f again if somebody else was first: no update
// is lost. f is given nil where there is none.
func (b Bucket) Update(key string, f func(old []byte) []byte) error {
	for {
		old, etag, err := b.Get(key)
		if err != nil && err != Absent {
			return err
		}
		switch _, err := b.Swap(key, f(old), etag); err {
		case Stale, Exists, Absent:
			continue
		default:
			return err
		}
	}
}

// Delete removes an object, whatever it is.
func (b Bucket) Delete(key string) error {
	bp, bn := text(string(b))
	kp, kn := text(key)
	_, err := result(kvDelete(bp, bn, kp, kn, 0, nil))
	return err
}

// List gives keys that begin with prefix and are greater than after, in their order, some at a time; none
// when there are no more.
func (b Bucket) List(prefix, after string) (keys []string, err error) {
	bp, bn := text(string(b))
	pp, pn := text(prefix)
	ap, an := text(after)
	p := make([]byte, 64<<10)
	n, err := result(kvList(bp, bn, pp, pn, ap, an, unsafe.SliceData(p), int32(len(p))))
	for p = p[:n]; len(p) > 0; {
		size := binary.LittleEndian.Uint32(p)
		keys = append(keys, string(p[12:12+size]))
		p = p[12+size:]
	}
	return keys, err
}

// Open reads an object as a stream; who is done closes it.
func (b Bucket) Open(key string) (io.ReadCloser, error) {
	bp, bn := text(string(b))
	kp, kn := text(key)
	n, err := result(blobOpen(bp, bn, kp, kn, 0, -1, nil))
	return reader(n), err
}

type reader int32

// Read implements io.Reader.
func (r reader) Read(p []byte) (int, error) {
	n, err := result(blobRead(int32(r), unsafe.SliceData(p), int32(len(p))))
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (r reader) Close() error {
	_, err := result(blobClose(int32(r)))
	return err
}

// Writer writes an object as a stream. Others see it when it is committed; what is closed without that was
// never there.
type Writer int32

// Create begins an object.
func (b Bucket) Create(key string) (Writer, error) {
	bp, bn := text(string(b))
	kp, kn := text(key)
	n, err := result(blobCreate(bp, bn, kp, kn, 0, nil))
	return Writer(n), err
}

// Write implements io.Writer.
func (w Writer) Write(p []byte) (int, error) {
	return result(blobWrite(int32(w), unsafe.SliceData(p), int32(len(p))))
}

// Commit makes the object.
func (w Writer) Commit() error {
	_, err := result(blobCommit(int32(w), nil))
	return err
}

// Close implements io.Closer.
func (w Writer) Close() error { return reader(w).Close() }

func result(n int32) (int, error) {
	if n < 0 {
		return 0, Errno(-n)
	}
	return int(n), nil
}
