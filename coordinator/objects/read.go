package objects

import (
	"encoding/binary"

	"github.com/cloudless/cloudless/api"
)

// Bucket gives a bucket.
func Bucket(rows Rows, name string) (*api.Bucket, error) {
	value, err := rows.Get(bucketKeys + name)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, noBucket(name)
	}
	b := &api.Bucket{}
	_, err = decodeRow(value, b)
	return b, err
}

// Buckets are all of them, by name.
func Buckets(rows Rows) (out []*api.Bucket, err error) {
	err = each(rows, bucketKeys, func(_ string, value []byte) (bool, error) {
		b := &api.Bucket{}
		_, err := decodeRow(value, b)
		out = append(out, b)
		return true, err
	})
	return out, err
}

// Usage is what a bucket holds.
func Usage(rows Rows, bucket string) (u api.BucketUsage, err error) {
	value, err := rows.Get(usageKeys + bucket)
	if err != nil || value == nil {
		return u, err
	}
	_, err = decodeRow(value, &u)
	return u, err
}

// Object gives an object whole.
func Object(rows Rows, bucket, key string) (*api.Object, error) {
	value, err := rows.Get(objectKey(bucket, key))
	if err != nil {
		return nil, err
	}
	if value != nil {
		return decodeObject(bucket, key, value, true)
	}
	if _, err := Bucket(rows, bucket); err != nil {
		return nil, err
	}
	return nil, noObject(bucket, key)
}

// Uploads are unfinished multipart uploads of a bucket, by key and id, at most api.MaxUploads. They are
// those behind the one that begin names, which need not be there; the zero UploadRef is the first page.
func Uploads(rows Rows, bucket, prefix string, begin UploadRef, limit int) (out []*api.Upload, err error) {
	if limit <= 0 || limit > api.MaxUploads {
		limit = api.MaxUploads
	}
	all := uploadsOf(bucket)
	under := all + escape(prefix)
	under = under[:len(under)-2] // without the end of the key
	from := under
	if begin.Key != "" {
		from = max(from, all+escape(begin.Key)+begin.ID+"\x00")
	}
	err = eachFrom(rows, from, under, func(_ string, value []byte) (bool, error) {
		u := &api.Upload{}
		_, err := decodeRow(value, u)
		out = append(out, u)
		return len(out) < limit, err
	})
	return out, err
}

// Upload gives a multipart upload that is under way.
func Upload(rows Rows, ref UploadRef) (*api.Upload, error) {
	value, err := rows.Get(uploadKey(ref))
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, noUpload(ref)
	}
	u := &api.Upload{}
	_, err = decodeRow(value, u)
	return u, err
}

// Parts are the parts of an upload with numbers over begin, without their manifests.
func Parts(rows Rows, ref UploadRef, begin, limit int) (out []*api.Part, err error) {
	if _, err := Upload(rows, ref); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > api.MaxParts {
		limit = api.MaxParts
	}
	if begin < 0 || begin >= api.MaxParts {
		return nil, nil
	}
	err = eachFrom(rows, partKey(ref, begin+1), partsOf(ref), func(_ string, value []byte) (bool, error) {
		p, err := decodePart(value, false)
		out = append(out, p)
		return len(out) < limit, err
	})
	return out, err
}

// Sessions are those of the upload sessions that have not ended.
func Sessions(rows Rows, ids []string) (out []string, err error) {
	for _, id := range ids {
		value, err := rows.Get(sessionKeys + id)
		if err != nil {
			return nil, err
		}
		if value != nil {
			out = append(out, id)
		}
	}
	return out, nil
}

func encodeIndex(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func decodeIndex(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, damaged("the index up to which the log was applied has %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}
