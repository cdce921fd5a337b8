package objects

import (
	"errors"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// List gives a page of a bucket. All keys of a common prefix are passed over by one seek, however many
// there are.
func List(rows Rows, q Query) (*Page, error) {
	if q.Limit == 0 {
		q.Limit = api.DefaultListLimit
	}
	if q.Limit < 0 || q.Limit > api.MaxListLimit {
		return nil, api.Errorf(api.CodeInvalid, "a page of %d, allowed are 1 to %d", q.Limit, api.MaxListLimit)
	}
	if bucket, err := rows.Get(bucketKeys + q.Bucket); err != nil {
		return nil, err
	} else if bucket == nil {
		return nil, noBucket(q.Bucket)
	}
	all := objectsOf(q.Bucket)
	c, err := rows.Range(all+q.Prefix, after(all+q.Prefix))
	if err != nil {
		return nil, err
	}
	page, err := walk(q, c, all)
	return page, errors.Join(err, c.Close())
}

func walk(q Query, c Cursor, all string) (*Page, error) {
	page, n, last := &Page{}, 0, ""
	for ok := c.Seek(startOf(q, all)); ok; n++ {
		if n == q.Limit {
			page.Cursor = last
			return page, nil
		}
		key := c.Key()[len(all):]
		if common := commonPrefix(q, key); common != "" {
			page.Prefixes = append(page.Prefixes, common)
			last = common
			next := after(all + common)
			ok = next != "" && c.Seek(next)
			continue
		}
		value, err := c.Value()
		if err != nil {
			return nil, err
		}
		o, err := decodeObject(q.Bucket, key, value, false)
		if err != nil {
			return nil, err
		}
		page.Objects = append(page.Objects, o)
		last = key
		ok = c.Next()
	}
	return page, nil
}

// commonPrefix is the common prefix that a key belongs to, "" for none.
func commonPrefix(q Query, key string) string {
	if q.Delimiter == "" || len(key) < len(q.Prefix) {
		return ""
	}
	if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
		return key[:len(q.Prefix)+i+len(q.Delimiter)]
	}
	return ""
}

// startOf is the first row of the page. Behind a common prefix all its keys are passed over too.
func startOf(q Query, all string) string {
	first := all + q.Prefix
	if q.After == "" {
		return first
	}
	next := all + q.After + "\x00" // the least key after it
	if strings.HasPrefix(q.After, q.Prefix) && commonPrefix(q, q.After) == q.After {
		next = after(all + q.After)
	}
	return max(first, next)
}
