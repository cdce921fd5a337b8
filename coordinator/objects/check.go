package objects

import (
	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// checkRow refuses a row of a backup that no coordinator could read later: such a row would stop them all.
func checkRow(key string, value []byte) error {
	var err error
	switch key[:1] {
	case bucketKeys:
		_, err = decodeRow(value, &api.Bucket{})
	case usageKeys:
		_, err = decodeRow(value, &api.BucketUsage{})
	case sessionKeys:
		_, err = decodeRow(value, &api.UploadSession{})
	case uploadKeys:
		_, err = decodeRow(value, &api.Upload{})
	case partKeys:
		var p *api.Part
		if p, err = decodePart(value, true); err == nil {
			_, err = split.Decode(p.Manifest)
		}
	case objectKeys:
		var o *api.Object
		if o, err = decodeObject("", key[1:], value, true); err == nil && o.Manifest != nil {
			_, err = split.Decode(o.Manifest)
		}
	case countKeys:
		_, err = decodeReference(value)
	case groupKeys:
		_, err = decodeGroup(value)
	}
	return err
}
