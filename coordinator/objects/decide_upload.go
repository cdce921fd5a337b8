package objects

import (
	"crypto/md5"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// upload gives an upload that must be there, with its bucket.
func (d *decision) upload(ref UploadRef) (*api.Bucket, *api.Upload, *api.Error) {
	b, err := d.bucket(ref.Bucket)
	if err = firstOf(checkID(ref.ID), err); err != nil {
		return nil, nil, err
	}
	u := &api.Upload{}
	if !d.read(uploadKey(ref), u) {
		return nil, nil, noUpload(ref)
	}
	return b, u, nil
}

func noUpload(ref UploadRef) *api.Error {
	return api.Errorf(api.CodeNotFound, "there is no upload %s of %s/%q", ref.ID, ref.Bucket, ref.Key).
		WithHint("it was completed or aborted: begin a new one")
}

func (d *decision) createUpload(c *CreateUpload) Result {
	b, err := d.bucket(c.Bucket)
	err = firstOf(err, checkID(c.ID), api.CheckObjectKey(c.Key), api.CheckObjectHead(c.Head.ContentType, c.Head.Metadata))
	if err != nil {
		return refused(err)
	}
	if d.get(uploadKey(c.UploadRef)) != nil {
		return refused(api.Errorf(api.CodeConflict, "upload %s exists already", c.ID).WithHint("use another id"))
	}
	if d.used(b.Name).Uploads >= api.MaxUploads {
		return refused(api.Errorf(api.CodeTooLarge, "bucket %s has %d unfinished uploads, no more are allowed", b.Name, api.MaxUploads).
			WithHint("complete or abort some"))
	}
	u := &api.Upload{Bucket: c.Bucket, Key: c.Key, ID: c.ID, ContentType: c.Head.ContentType, Metadata: c.Head.Metadata, Started: d.at}
	d.set[uploadKey(c.UploadRef)] = encodeRow(u, nil)
	return Result{Upload: u, Err: d.charge(b, api.BucketUsage{Uploads: 1})}
}

func (d *decision) putPart(c *PutPart) Result {
	b, _, err := d.upload(c.UploadRef)
	if err != nil {
		return refused(err)
	}
	if c.Number < 1 || c.Number > api.MaxParts {
		return refused(api.Errorf(api.CodeInvalid, "part number %d, allowed are 1 to %d", c.Number, api.MaxParts))
	}
	m, err := manifest(c.Manifest)
	if err != nil {
		return refused(err)
	}
	if err := d.under(c.Session, len(m.Chunks), c.End); err != nil {
		return refused(err)
	}
	p := &api.Part{Number: c.Number, Size: m.Size(), ETag: m.ETag(), Modified: d.at, Manifest: c.Manifest, Terms: termsOf(b)}
	more := api.BucketUsage{UploadBytes: p.Size}
	if old := d.part(c.UploadRef, c.Number); old != nil {
		d.refer(d.kept(old.Manifest), old.Terms, -1)
		more.UploadBytes -= old.Size
	}
	d.refer(m, p.Terms, 1)
	d.set[partKey(c.UploadRef, c.Number)] = encodePart(p)
	head := *p
	head.Manifest = nil
	return Result{Part: &head, Err: d.charge(b, more)}
}

func (d *decision) part(ref UploadRef, number int) *api.Part {
	value := d.get(partKey(ref, number))
	if value == nil {
		return nil
	}
	p, err := decodePart(value, true)
	if err != nil {
		d.fail(err)
		return nil
	}
	return p
}

func (d *decision) completeUpload(c *CompleteUpload) Result {
	b, u, err := d.upload(c.UploadRef)
	if err != nil {
		return refused(err)
	}
	m, err := d.join(c)
	if err != nil {
		return refused(err)
	}
	if err := d.dropUpload(b, c.UploadRef); err != nil {
		return refused(err)
	}
	o := &api.Object{Key: u.Key, ContentType: u.ContentType, Metadata: u.Metadata, Manifest: m.Encode()}
	describe(o, m)
	if err := d.save(b, o, m, c.Condition); err != nil {
		return refused(err)
	}
	return shown(o)
}

// join gives the manifest of the parts named, one after the other.
func (d *decision) join(c *CompleteUpload) (*split.Manifest, *api.Error) {
	if len(c.Parts) == 0 || len(c.Parts) > api.MaxParts {
		return nil, api.Errorf(api.CodeInvalid, "an upload is completed with 1 to %d parts, not %d", api.MaxParts, len(c.Parts)).WithHint("name the parts in their order")
	}
	m, sum := &split.Manifest{Parts: len(c.Parts)}, md5.New()
	for i, named := range c.Parts {
		if i > 0 && named.Number <= c.Parts[i-1].Number {
			return nil, api.Errorf(api.CodeInvalid, "part %d is named after part %d", named.Number, c.Parts[i-1].Number).WithHint("name the parts in ascending order")
		}
		part, err := d.named(c.UploadRef, named)
		if err != nil {
			return nil, err
		}
		if i < len(c.Parts)-1 && part.Size() < api.MinPartBytes {
			return nil, api.Errorf(api.CodeInvalid, "part %d has %d bytes; all but the last need %d", named.Number, part.Size(), api.MinPartBytes).WithHint("upload larger parts")
		}
		if len(m.Chunks)+len(part.Chunks) > split.MaxChunks {
			return nil, api.Errorf(api.CodeTooLarge, "the object would have more than %d chunks", split.MaxChunks).WithHint("store it as several objects")
		}
		m.Chunks = append(m.Chunks, part.Chunks...)
		sum.Write(part.MD5[:])
	}
	sum.Sum(m.MD5[:0])
	return m, nil
}

// named is the manifest of a part that is to be there with the ETag given.
func (d *decision) named(ref UploadRef, p PartRef) (*split.Manifest, *api.Error) {
	var part *api.Part
	if p.Number >= 1 && p.Number <= api.MaxParts {
		part = d.part(ref, p.Number)
	}
	if part == nil || part.ETag != p.ETag {
		return nil, api.Errorf(api.CodeInvalid, "upload %s has no part %d with ETag %s", ref.ID, p.Number, p.ETag).WithHint("upload the part again")
	}
	if m := d.kept(part.Manifest); m != nil {
		return m, nil
	}
	return &split.Manifest{}, nil // it could not be read: nothing of this is used
}

func (d *decision) abortUpload(ref UploadRef) Result {
	b, _, err := d.upload(ref)
	if err != nil {
		return refused(err)
	}
	return Result{Removed: 1, Err: d.dropUpload(b, ref)}
}

// dropUpload removes an upload with its parts.
func (d *decision) dropUpload(b *api.Bucket, ref UploadRef) *api.Error {
	less := api.BucketUsage{Uploads: -1}
	d.set[uploadKey(ref)] = nil
	d.each(partsOf(ref), func(key string, value []byte) error {
		p, err := decodePart(value, true)
		if err != nil {
			return err
		}
		d.set[key] = nil
		d.refer(d.kept(p.Manifest), p.Terms, -1)
		less.UploadBytes -= p.Size
		return nil
	})
	return d.charge(b, less)
}
