package cli

import (
	"fmt"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// volumes reads --volume: BUCKET:PATH[:ro], a bucket mounted at a path, or PATH:SIZE, a new folder of
// each replica that goes with it.
func volumes(words []string) ([]api.Volume, error) {
	var out []api.Volume
	for i, word := range words {
		v, err := volume(word)
		if err != nil {
			return nil, err
		}
		if v.Bucket == "" {
			v.Name = fmt.Sprintf("volume-%d", i+1)
		}
		out = append(out, v)
	}
	return out, nil
}

func volume(word string) (api.Volume, error) {
	wrong := usageError("--volume %q is not BUCKET:/PATH[:ro], and not /PATH:SIZE", word)
	parts := strings.Split(word, ":")
	if strings.HasPrefix(word, "/") {
		if len(parts) != 2 {
			return api.Volume{}, wrong.WithHint("a volume without a bucket needs a size, such as /data:100Mi")
		}
		size, err := api.ParseBytes(parts[1])
		if err != nil {
			return api.Volume{}, usageError("--volume %q: %v", word, err)
		}
		return api.Volume{Path: parts[0], Size: size}, nil
	}
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return api.Volume{}, wrong
	}
	writable, err := mayWrite("--volume", word, append(parts, "rw")[2])
	return api.Volume{Bucket: parts[0], Path: parts[1], ReadOnly: !writable}, err
}

// bucketGrants reads --bucket: NAME[:rw].
func bucketGrants(words []string) ([]api.BucketGrant, error) {
	var out []api.BucketGrant
	for _, word := range words {
		name, mode, named := strings.Cut(word, ":")
		if !named {
			mode = "ro"
		}
		writable, err := mayWrite("--bucket", word, mode)
		if err != nil {
			return nil, err
		}
		g := api.BucketGrant{Bucket: name, Access: api.AccessReadOnly}
		if writable {
			g.Access = api.AccessReadWrite
		}
		out = append(out, g)
	}
	return out, nil
}

// mayWrite reads the end of a flag that names a bucket.
func mayWrite(flag, word, mode string) (bool, error) {
	switch mode {
	case "rw":
		return true, nil
	case "ro":
		return false, nil
	}
	return false, usageError("%s %q: %q is neither ro nor rw", flag, word, mode)
}
