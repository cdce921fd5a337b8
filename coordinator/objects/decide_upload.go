package objects

import (
	"crypto/md5"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/checksum"
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
		WithReason(api.ReasonNoUpload).WithHint("it was completed or aborted: begin a new one")
}

func (d *decision) createUpload(c *CreateUpload) Result {
	b, err := d.bucket(c.Bucket)
	err = firstOf(err, checkID(c.ID), api.CheckObjectKey(c.Key), c.Head.Check(), checkPlan(c.Head.Checksum))
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
	u := &api.Upload{Bucket: c.Bucket, Key: c.Key, ID: c.ID, ObjectHead: c.Head, Started: d.at}
	d.set[uploadKey(c.UploadRef)] = encodeRow(u, nil)
	return Result{Upload: u, Err: d.charge(b, api.BucketUsage{Uploads: 1})}
}

func (d *decision) putPart(c *PutPart) Result {
	b, u, err := d.upload(c.UploadRef)
	if err = firstOf(err, checkPart(u, c)); err != nil {
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
	p := &api.Part{Number: c.Number, Size: m.Size(), ETag: m.ETag(), Modified: d.at, Checksum: c.Checksum, Manifest: c.Manifest, Terms: termsOf(b)}
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
	m, sum, err := d.join(u, c)
	if err != nil {
		return refused(err)
	}
	o := &api.Object{Key: u.Key, ObjectHead: u.ObjectHead, Manifest: m.Encode()}
	o.Checksum = sum
	describe(o, m)
	if err := d.save(b, o, m, c.Condition, d.dropUpload(c.UploadRef)); err != nil {
		return refused(err)
	}
	return shown(o)
}

// join gives the manifest of the parts named, one after the other, and the checksum, if the upload has one.
func (d *decision) join(u *api.Upload, c *CompleteUpload) (*split.Manifest, *api.Checksum, *api.Error) {
	if len(c.Parts) == 0 || len(c.Parts) > api.MaxParts {
		return nil, nil, api.Errorf(api.CodeInvalid, "an upload is completed with 1 to %d parts, not %d", api.MaxParts, len(c.Parts)).WithHint("name the parts in their order")
	}
	for i := 1; i < len(c.Parts); i++ {
		if c.Parts[i].Number <= c.Parts[i-1].Number {
			return nil, nil, api.Errorf(api.CodeInvalid, "part %d is named after part %d", c.Parts[i].Number, c.Parts[i-1].Number).
				WithReason(api.ReasonPartOrder).WithHint("name the parts in ascending order")
		}
	}
	m, tag, sums := &split.Manifest{Parts: len(c.Parts)}, md5.New(), []checksum.Part(nil)
	for i, named := range c.Parts {
		part, sum, err := d.named(c.UploadRef, named)
		if err != nil {
			return nil, nil, err
		}
		if i < len(c.Parts)-1 && part.Size() < api.MinPartBytes {
			return nil, nil, api.Errorf(api.CodeInvalid, "part %d has %d bytes; all but the last need %d", named.Number, part.Size(), api.MinPartBytes).
				WithReason(api.ReasonPartTooSmall).WithHint("upload larger parts")
		}
		if len(m.Chunks)+len(part.Chunks) > split.MaxChunks {
			return nil, nil, api.Errorf(api.CodeTooLarge, "the object would have more than %d chunks", split.MaxChunks).WithHint("store it as several objects")
		}
		m.Chunks = append(m.Chunks, part.Chunks...)
		m.Ends = append(m.Ends, len(m.Chunks))
		tag.Write(part.MD5[:])
		sums = append(sums, checksum.Part{Value: sum, Bytes: part.Size()})
	}
	tag.Sum(m.MD5[:0])
	sum, err := combined(u.Checksum, c.Checksum, sums)
	return m, sum, err
}

// named is the manifest of a part that is to be there with the ETag given, and its checksum.
func (d *decision) named(ref UploadRef, p PartRef) (*split.Manifest, string, *api.Error) {
	var part *api.Part
	if p.Number >= 1 && p.Number <= api.MaxParts {
		part = d.part(ref, p.Number)
	}
	sum := ""
	if part != nil && part.Checksum != nil {
		sum = part.Checksum.Value
	}
	if part == nil || part.ETag != p.ETag || p.Checksum != "" && p.Checksum != sum {
		return nil, "", api.Errorf(api.CodeInvalid, "upload %s has no part %d with ETag %s and the checksum given", ref.ID, p.Number, p.ETag).
			WithReason(api.ReasonPart).WithHint("upload the part again")
	}
	if m := d.kept(part.Manifest); m != nil {
		return m, sum, nil
	}
	return &split.Manifest{}, sum, nil // it could not be read: nothing of this is used
}

func (d *decision) abortUpload(ref UploadRef) Result {
	b, _, err := d.upload(ref)
	if err != nil {
		return refused(err)
	}
	return Result{Removed: 1, Err: d.charge(b, d.dropUpload(ref))}
}

// dropUpload removes an upload with its parts, and gives by how much its bucket holds less then.
func (d *decision) dropUpload(ref UploadRef) api.BucketUsage {
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
	return less
}
