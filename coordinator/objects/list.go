package objects

import (
	"errors"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// Query asks for a page of a bucket.
type Query struct {
	Bucket, Prefix string
	// Delimiter gathers the keys that have it after the prefix: up to it they are one common prefix.
	Delimiter string
	// After is a key or common prefix behind which the page begins: a page's Cursor, or any key.
	After string
	Limit int // objects and common prefixes; 0: api.DefaultListLimit
}

// Page is what a list gives, in the order of keys.
type Page struct {
	Objects  []*api.Object
	Prefixes []string
	Cursor   string // where the next page begins; "" when there is none
}

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
	page, err := q.walk(c, all)
	return page, errors.Join(err, c.Close())
}

func (q Query) walk(c Cursor, all string) (*Page, error) {
	page, n, last := &Page{}, 0, ""
	for ok := c.Seek(q.start(all)); ok; n++ {
		if n == q.Limit {
			page.Cursor = last
			return page, nil
		}
		key := c.Key()[len(all):]
		if common := q.common(key); common != "" {
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

// common is the common prefix that a key belongs to, "" for none.
func (q Query) common(key string) string {
	if q.Delimiter == "" || len(key) < len(q.Prefix) {
		return ""
	}
	if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
		return key[:len(q.Prefix)+i+len(q.Delimiter)]
	}
	return ""
}

// start is the first row of the page. Behind a common prefix all its keys are passed over too.
func (q Query) start(all string) string {
	first := all + q.Prefix
	if q.After == "" {
		return first
	}
	next := all + q.After + "\x00" // the least key after it
	if strings.HasPrefix(q.After, q.Prefix) && q.common(q.After) == q.After {
		next = after(all + q.After)
	}
	return max(first, next)
}
