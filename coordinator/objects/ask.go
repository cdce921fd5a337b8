package objects

import (
	"slices"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
)

// Ask answers a query.
func Ask(v *View, q meta.Query) (*meta.Answer, error) {
	if err := checkQuery(q); err != nil {
		return nil, err
	}
	a := &meta.Answer{Index: v.Index()}
	var err error
	switch {
	case q.Bucket != "":
		err = askBucket(v, q.Bucket, a)
	case q.Buckets:
		a.Buckets, err = Buckets(v)
	case q.Object != nil:
		a.Object, err = Object(v, q.Object.Bucket, q.Object.Key)
	case q.List != nil:
		a.Page, err = List(v, *q.List)
	case q.Uploads != nil:
		a.Uploads, err = Uploads(v, q.Uploads.Bucket, q.Uploads.Prefix, q.Uploads.After, q.Uploads.Limit)
	case q.Parts != nil:
		a.Parts, err = Parts(v, q.Parts.UploadRef, q.Parts.After, q.Parts.Limit)
	case q.Upload != nil:
		a.Upload, err = Upload(v, *q.Upload)
	case q.Groups != nil:
		err = askGroups(v, q.Groups, a)
	case q.Unreferenced != nil:
		err = askUnreferenced(v, q.Unreferenced, a)
	default:
		a.Sessions, err = Sessions(v, q.Sessions)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func checkQuery(q meta.Query) error {
	asked := 0
	for _, is := range []bool{
		q.Bucket != "", q.Buckets, q.Object != nil, q.List != nil, q.Uploads != nil, q.Parts != nil, q.Upload != nil, q.Unreferenced != nil, q.Groups != nil, q.Sessions != nil,
	} {
		if is {
			asked++
		}
	}
	if asked != 1 {
		return api.Errorf(api.CodeInvalid, "a query asks for one thing, not %d", asked)
	}
	if n := max(len(q.Unreferenced), len(q.Sessions)); n > meta.MaxAsked {
		return api.Errorf(api.CodeTooLarge, "a query about %d chunks or sessions, at most %d are allowed", n, meta.MaxAsked).WithHint("ask in several queries")
	}
	if n := len(q.Groups); n > meta.MaxGroups {
		return api.Errorf(api.CodeTooLarge, "a query about the groups of %d chunks, at most %d are allowed", n, meta.MaxGroups).WithHint("ask in several queries")
	}
	return nil
}

func askBucket(v *View, name string, a *meta.Answer) (err error) {
	if a.Bucket, err = Bucket(v, name); err != nil {
		return err
	}
	used, err := Usage(v, name)
	a.Usage = &used
	return err
}

func askUnreferenced(v *View, digests [][]byte, a *meta.Answer) error {
	chunks := make([]digest, len(digests))
	for i, d := range digests {
		var bad *api.Error
		if chunks[i], bad = digestOf(d); bad != nil {
			return bad
		}
	}
	free, err := Unreferenced(v, chunks)
	for _, d := range free {
		a.Chunks = append(a.Chunks, d[:])
	}
	return err
}

func askGroups(v Rows, digests [][]byte, a *meta.Answer) error {
	for _, b := range digests {
		d, bad := digestOf(b)
		if bad != nil {
			return bad
		}
		if slices.ContainsFunc(a.Groups, func(g *Group) bool { return g.Shard(d) >= 0 }) {
			continue
		}
		switch g, err := GroupOf(v, d); {
		case err != nil:
			return err
		case g != nil:
			a.Groups = append(a.Groups, g)
		}
	}
	return nil
}

// digestOf reads a digest that came from outside.
func digestOf(b []byte) (digest, *api.Error) {
	if len(b) != len(digest{}) {
		return digest{}, api.Errorf(api.CodeInvalid, "a chunk's digest has %d bytes, not %d", len(b), len(digest{}))
	}
	return digest(b), nil
}
