package objects

import "github.com/cloudless/cloudless/api"

// bucket gives a bucket that must be there.
func (d *decision) bucket(name string) (*api.Bucket, *api.Error) {
	b := &api.Bucket{}
	if !d.read(bucketKeys+name, b) {
		return nil, noBucket(name)
	}
	return b, nil
}

func noBucket(name string) *api.Error {
	return api.Errorf(api.CodeNotFound, "there is no bucket %q", name).WithReason(api.ReasonNoBucket).WithHint("make it with 'cloudless storage bucket create %s'", name)
}

// match refuses what was decided on an older version of a bucket.
func match(b *api.Bucket, index uint64) *api.Error {
	if index != 0 && index != b.ModifyIndex {
		return api.Errorf(api.CodeConflict, "bucket %s has changed: it is at index %d, not %d", b.Name, b.ModifyIndex, index).
			WithReason(api.ReasonPrecondition).WithHint("read it again and repeat the change")
	}
	return nil
}

func (d *decision) saveBucket(b *api.Bucket) Result {
	b.ModifyIndex = d.index
	d.set[bucketKeys+b.Name] = encodeRow(b, nil)
	return Result{Bucket: b}
}

func validBucket(b *api.Bucket) *api.Error {
	b.Default()
	if errs := b.Validate(); len(errs) > 0 {
		if err := api.CheckBucketName(b.Name); err != nil {
			return err
		}
		return api.Errorf(api.CodeInvalid, "bucket %q: %w", b.Name, errs).WithHint("see 'cloudless storage bucket create --help'")
	}
	return nil
}

func (d *decision) createBucket(b api.Bucket) Result {
	if err := validBucket(&b); err != nil {
		return refused(err)
	}
	if d.get(bucketKeys+b.Name) != nil {
		return refused(api.Errorf(api.CodeConflict, "bucket %s exists already", b.Name).WithReason(api.ReasonBucketExists).WithHint("choose another name, or use the bucket that is there"))
	}
	if d.number(bucketKeys, api.MaxBuckets) >= api.MaxBuckets {
		return refused(api.Errorf(api.CodeTooLarge, "there are %d buckets, no more are allowed", api.MaxBuckets).
			WithReason(api.ReasonBucketLimit).WithHint("delete one, or use prefixes of keys in one bucket"))
	}
	b.CreateIndex, b.CreatedAt = d.index, d.at
	return d.saveBucket(&b)
}

func (d *decision) updateBucket(c *UpdateBucket) Result {
	old, err := d.bucket(c.Bucket.Name)
	if err != nil {
		return refused(err)
	}
	b := c.Bucket
	if err := firstOf(match(old, c.IfMatch), validBucket(&b)); err != nil {
		return refused(err)
	}
	b.CreateIndex, b.CreatedAt = old.CreateIndex, old.CreatedAt
	return d.saveBucket(&b)
}

func (d *decision) deleteBucket(c *DeleteBucket) Result {
	b, err := d.bucket(c.Name)
	if err == nil {
		err = match(b, c.IfMatch)
	}
	if err != nil {
		return refused(err)
	}
	if u := d.used(b.Name); u.Objects > 0 || u.Uploads > 0 {
		return refused(api.Errorf(api.CodeConflict, "bucket %s is not empty: it has %d objects and %d unfinished uploads", b.Name, u.Objects, u.Uploads).
			WithReason(api.ReasonBucketNotEmpty).WithHint("delete the objects and abort the uploads first"))
	}
	d.set[bucketKeys+b.Name] = nil
	return Result{Bucket: b, Removed: 1}
}
