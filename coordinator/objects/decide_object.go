package objects

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// object gives an object, nil when there is none.
func (d *decision) object(bucket, key string) *api.Object {
	value := d.get(objectKey(bucket, key))
	if value == nil {
		return nil
	}
	o, err := decodeObject(bucket, key, value, true)
	if err != nil {
		d.fail(err)
		return nil
	}
	return o
}

func noObject(bucket, key string) *api.Error {
	return api.Errorf(api.CodeNotFound, "bucket %s has no object %q", bucket, key).
		WithReason(api.ReasonNoObject).WithHint("see 'cloudless storage object list %s'", bucket)
}

// holds refuses a change whose condition the object that is there, or nil, does not meet.
func holds(c Condition, bucket, key string, old *api.Object) *api.Error {
	switch {
	case c.IfAbsent && old != nil:
		return api.Errorf(api.CodeConflict, "object %s/%q exists already", bucket, key).
			WithReason(api.ReasonPrecondition).WithHint("choose another key, or leave out If-None-Match")
	case c.IfMatch != "" && old == nil:
		return noObject(bucket, key)
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != old.ETag:
		return api.Errorf(api.CodeConflict, "object %s/%q has changed: its ETag is %s, not %s", bucket, key, old.ETag, c.IfMatch).
			WithReason(api.ReasonPrecondition).WithHint("read it again and repeat the change")
	}
	return nil
}

// save makes or replaces an object, in the place of what was dropped for it.
func (d *decision) save(b *api.Bucket, o *api.Object, m *split.Manifest, c Condition, dropped api.BucketUsage) *api.Error {
	if err := firstOf(api.CheckObjectKey(o.Key), o.Check()); err != nil {
		return err
	}
	old := d.object(b.Name, o.Key)
	if err := holds(c, b.Name, o.Key, old); err != nil {
		return err
	}
	more := api.BucketUsage{Objects: 1, Bytes: o.Size}
	if old != nil {
		more = api.BucketUsage{Bytes: o.Size - old.Size}
		d.refer(d.kept(old.Manifest), old.Terms, -1)
	}
	o.Bucket, o.Modified, o.Index, o.Terms = b.Name, d.at, d.index, termsOf(b)
	d.refer(m, o.Terms, 1)
	d.set[objectKey(b.Name, o.Key)] = encodeObject(o)
	return d.charge(b, more.Add(dropped))
}

// shown is an object as a list shows it.
func shown(o *api.Object) Result {
	c := *o
	c.Inline, c.Manifest = nil, nil
	return Result{Object: &c}
}

func (d *decision) put(c *Put) Result {
	b, err := d.bucket(c.Bucket)
	if err != nil {
		return refused(err)
	}
	o, m, err := objectOf(c)
	if err = firstOf(err, checkSum(c.Head.Checksum)); err != nil {
		return refused(err)
	}
	chunks := 0
	if m != nil {
		chunks = len(m.Chunks)
	}
	if err := firstOf(d.under(c.Session, chunks, c.End), d.save(b, o, m, c.Condition, api.BucketUsage{})); err != nil {
		return refused(err)
	}
	return shown(o)
}

// objectOf is what a put makes, with its manifest, if it has one.
func objectOf(c *Put) (*api.Object, *split.Manifest, *api.Error) {
	o := &api.Object{Key: c.Key, ObjectHead: c.Head}
	switch {
	case len(c.Manifest) > 0 && len(c.Inline) > 0:
		return nil, nil, api.Errorf(api.CodeInvalid, "an object is either inline or in chunks, not both")
	case len(c.Manifest) > 0:
		m, err := manifest(c.Manifest)
		if err != nil {
			return nil, nil, err
		}
		describe(o, m)
		o.Manifest = c.Manifest
		return o, m, nil
	case len(c.Inline) > api.MaxInlineBytes:
		return nil, nil, api.Errorf(api.CodeTooLarge, "%d bytes inline, at most %d are allowed", len(c.Inline), api.MaxInlineBytes).
			WithHint("store them as chunks")
	}
	tag, sum := md5.Sum(c.Inline), sha256.Sum256(c.Inline)
	o.Inline, o.Size = c.Inline, int64(len(c.Inline))
	o.ETag, o.SHA256 = hex.EncodeToString(tag[:]), hex.EncodeToString(sum[:])
	return o, nil, nil
}

// describe fills in what the manifest says of an object.
func describe(o *api.Object, m *split.Manifest) {
	o.Size, o.ETag = m.Size(), m.ETag()
	if m.SHA256 != (digest{}) {
		o.SHA256 = hex.EncodeToString(m.SHA256[:])
	}
}

func (d *decision) delete(c *Delete) Result {
	b, err := d.bucket(c.Bucket)
	if err != nil {
		return refused(err)
	}
	old := d.object(b.Name, c.Key)
	if err := holds(Condition{IfMatch: c.IfMatch}, b.Name, c.Key, old); err != nil {
		return refused(err)
	}
	if old == nil {
		return Result{}
	}
	return d.drop(b, old)
}

// drop removes an object that is there.
func (d *decision) drop(b *api.Bucket, o *api.Object) Result {
	d.refer(d.kept(o.Manifest), o.Terms, -1)
	d.set[objectKey(b.Name, o.Key)] = nil
	return Result{Removed: 1, Err: d.charge(b, api.BucketUsage{Objects: -1, Bytes: -o.Size})}
}

func (d *decision) copy(c *Copy) Result {
	_, err := d.bucket(c.FromBucket)
	to, toErr := d.bucket(c.Bucket)
	if err = firstOf(err, toErr); err != nil {
		return refused(err)
	}
	from := d.object(c.FromBucket, c.FromKey)
	if from == nil {
		return refused(noObject(c.FromBucket, c.FromKey))
	}
	if err := holds(Condition{IfMatch: c.SourceIfMatch}, c.FromBucket, c.FromKey, from); err != nil {
		return refused(err)
	}
	o := *from
	o.Key = c.Key
	if c.Head != nil {
		o.ObjectHead = *c.Head
		o.Checksum = from.Checksum // of the same bytes
	}
	if err := d.save(to, &o, d.kept(from.Manifest), c.Condition, api.BucketUsage{}); err != nil {
		return refused(err)
	}
	return shown(&o)
}

func (d *decision) setTags(c *SetTags) Result {
	b, err := d.bucket(c.Bucket)
	if err = firstOf(err, api.CheckTags(c.Tags, api.MaxObjectTags)); err != nil {
		return refused(err)
	}
	o := d.object(b.Name, c.Key)
	if o == nil {
		return refused(noObject(b.Name, c.Key))
	}
	o.Tags = c.Tags
	d.set[objectKey(b.Name, c.Key)] = encodeObject(o)
	return shown(o)
}

func (d *decision) expireObjects(c *ExpireObjects) Result {
	b, err := d.bucket(c.Bucket)
	if err == nil && len(c.Objects) > MaxExpired {
		err = tooManyExpired(len(c.Objects))
	}
	if err != nil {
		return refused(err)
	}
	removed := 0
	for _, row := range c.Objects {
		o := d.object(b.Name, row.Key)
		if o == nil || o.Index != row.Index || !expired(b, o, d.at) {
			continue // it was put again, or the bucket keeps it longer now
		}
		if res := d.drop(b, o); res.Err != nil {
			return res
		}
		removed++
	}
	return Result{Removed: removed}
}
