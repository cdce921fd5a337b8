package wasm

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	wapi "github.com/tetratelabs/wazero/api"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox/buckets"
	"github.com/cloudless/cloudless/sandbox/rewrite"
)

// infoBytes is what describes an object in a guest's memory: its size and the time of its last change in
// nanoseconds since 1970, 8 bytes each, and its ETag.
const infoBytes = 8 + 8 + buckets.ETagBytes

// storeFunctions are the functions of module cl by which a guest reaches the buckets that its manifest
// grants, with the types of their parameters; their result is an i32. docs/GUEST-STORAGE.md is their contract.
var storeFunctions = map[string]struct {
	call   func(c *storeCall) (int, error)
	params []wapi.ValueType
}{
	"kv_get":      {kvGet, words(7)},
	"kv_set":      {kvSet, words(8)},
	"kv_delete":   {kvDelete, words(6)},
	"kv_list":     {kvList, words(8)},
	"blob_open":   {blobOpen, append(words(4), wapi.ValueTypeI64, wapi.ValueTypeI64, wapi.ValueTypeI32)},
	"blob_read":   {blobRead, words(3)},
	"blob_create": {blobCreate, words(6)},
	"blob_write":  {blobWrite, words(3)},
	"blob_commit": {blobCommit, words(2)},
	"blob_close":  {blobClose, words(1)},
	"blob_stat":   {blobStat, words(5)},
	"blob_delete": {kvDelete, words(6)},
	"blob_list":   {kvList, words(8)},
}

func words(n int) []wapi.ValueType { return slices.Repeat([]wapi.ValueType{wapi.ValueTypeI32}, n) }

// openBuckets makes the replica's way to the buckets that its manifest grants, if there are any.
func (b *base) openBuckets() error {
	if len(b.spec.Buckets) == 0 {
		return nil
	}
	if b.spec.Storage == nil {
		return api.Errorf(api.CodeUnavailable, "this node has no way to the cluster's buckets")
	}
	b.buckets = buckets.New(b.spec.Storage, b.spec.Buckets)
	return nil
}

func (b *base) closeBuckets() {
	if b.buckets == nil {
		return
	}
	if err := b.buckets.Close(); err != nil {
		b.driver.config.Log.Error().Err(err).Str("replica", b.ID()).Msg("a blob failed in a way of ours")
	}
}

// storeCall is one call of such a function. Its parameters are taken one after the other, all of them
// before it waits.
type storeCall struct {
	*buckets.Call
	instance *instance
	module   wapi.Module
	params   []uint64
}

// storing makes a host function of one that reaches a bucket.
func storing(f func(*storeCall) (int, error)) wapi.GoModuleFunc {
	return func(ctx context.Context, m wapi.Module, stack []uint64) {
		i := caller(ctx)
		if i.storage == nil {
			i.storage = i.buckets.Begin(i.bounds)
		}
		n, err := f(&storeCall{i.storage, i, m, stack})
		stack[0] = i.told("storage", n, err)
	}
}

// wait runs what waits for the cluster, so that this does not count as the guest's CPU.
func (c *storeCall) wait(f func()) { c.instance.clock.wait(f) }

func (c *storeCall) take() uint64 {
	v := c.params[0]
	c.params = c.params[1:]
	return v
}

func (c *storeCall) handle() int { return int(wapi.DecodeI32(c.take())) }

// bytes is the guest's memory from a pointer on, as long as the parameter that follows it.
func (c *storeCall) bytes() []byte {
	ptr, length := c.take(), c.take()
	return view(c.module, ptr, length)
}

// text is a copy of such bytes, cut where it is longer than anything that could be meant.
func (c *storeCall) text(most int) string {
	p := c.bytes()
	p = p[:min(len(p), most+1)]
	c.instance.tank.charge(len(p))
	return string(p)
}

func (c *storeCall) object() (bucket, key string) {
	bucket = c.text(api.MaxBucketNameLen)
	return bucket, c.text(api.MaxObjectKeyBytes)
}

// area is size bytes from a pointer on; nil where the pointer is 0.
func (c *storeCall) area(size uint64) []byte {
	ptr := c.take()
	if wapi.DecodeU32(ptr) == 0 {
		return nil
	}
	return view(c.module, ptr, size)
}

// condition is a mode and the area of an ETag.
func (c *storeCall) condition() (mode buckets.Mode, etag string, area []byte) {
	mode, area = buckets.Mode(wapi.DecodeU32(c.take())), c.area(buckets.ETagBytes)
	etag, _, _ = strings.Cut(string(area), "\x00")
	return mode, etag, area
}

// putETag fills an ETag's area.
func putETag(area []byte, etag string) {
	clear(area[copy(area, etag):])
}

// putInfo fills an object's area.
func putInfo(area []byte, o *api.Object) {
	if area == nil {
		return
	}
	binary.LittleEndian.PutUint64(area, uint64(o.Size))
	binary.LittleEndian.PutUint64(area[8:], uint64(o.Modified.UnixNano()))
	putETag(area[16:], o.ETag)
}

func kvGet(c *storeCall) (n int, err error) {
	bucket, key := c.object()
	p, area := c.bytes(), c.area(buckets.ETagBytes)
	var etag string
	c.wait(func() { n, etag, err = c.Get(bucket, key, p) })
	if err == nil {
		c.instance.tank.charge(min(n, len(p)))
		putETag(area, etag)
	}
	return n, err
}

func kvSet(c *storeCall) (_ int, err error) {
	bucket, key := c.object()
	value := c.bytes()
	mode, etag, area := c.condition()
	c.instance.tank.charge(min(len(value), buckets.MaxValueBytes))
	c.wait(func() { etag, err = c.Set(bucket, key, value, mode, etag) })
	if err == nil {
		putETag(area, etag)
	}
	return 0, err
}

func kvDelete(c *storeCall) (_ int, err error) {
	bucket, key := c.object()
	mode, etag, _ := c.condition()
	c.wait(func() { err = c.Delete(bucket, key, mode, etag) })
	return 0, err
}

func kvList(c *storeCall) (n int, err error) {
	bucket, prefix := c.object()
	after, p := c.text(api.MaxObjectKeyBytes), atMostMaxInt32(c.bytes())
	c.wait(func() { n, err = c.List(bucket, prefix, after, p) })
	c.instance.tank.charge(n)
	return n, err
}

func blobStat(c *storeCall) (_ int, err error) {
	bucket, key := c.object()
	area := c.area(infoBytes)
	var o *api.Object
	c.wait(func() { o, err = c.Stat(bucket, key) })
	if err == nil {
		putInfo(area, o)
	}
	return 0, err
}

func blobOpen(c *storeCall) (n int, err error) {
	bucket, key := c.object()
	offset, length := int64(c.take()), int64(c.take())
	area := c.area(infoBytes)
	var o *api.Object
	c.wait(func() { n, o, err = c.Open(bucket, key, offset, length) })
	if err == nil {
		putInfo(area, o)
	}
	return n, err
}

func blobRead(c *storeCall) (n int, err error) {
	handle, p := c.handle(), atMostMaxInt32(c.bytes())
	c.wait(func() { n, err = c.Read(handle, p) })
	c.instance.tank.charge(n)
	return n, err
}

func blobCreate(c *storeCall) (n int, err error) {
	bucket, key := c.object()
	mode, etag, _ := c.condition()
	c.wait(func() { n, err = c.Create(bucket, key, mode, etag) })
	return n, err
}

func blobWrite(c *storeCall) (n int, err error) {
	handle, p := c.handle(), atMostMaxInt32(c.bytes())
	c.wait(func() { n, err = c.Write(handle, p) })
	c.instance.tank.charge(n)
	return n, err
}

func blobCommit(c *storeCall) (_ int, err error) {
	handle, area := c.handle(), c.area(buckets.ETagBytes)
	var etag string
	c.wait(func() { etag, err = c.Commit(handle) })
	if err == nil {
		putETag(area, etag)
	}
	return 0, err
}

func blobClose(c *storeCall) (int, error) { return 0, c.Close(c.handle()) }

// isStore tells whether a guest that imports the function wants to reach a bucket.
func isStore(module, name string) bool {
	_, ok := storeFunctions[name]
	return ok && module == rewrite.TickModule
}
