package objects

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/split"
)

// Change is one row that becomes another; nil bytes remove it.
type Change struct {
	Key   string
	Value []byte
}

// decision is one command on its way. Nothing is changed before all of it is decided: a refusal leaves
// no trace. The first error of reading is kept; what was decided after it is not used.
type decision struct {
	rows  Rows
	index uint64
	at    time.Time
	err   error
	set   map[string][]byte
	usage map[string]*api.BucketUsage
	names map[naming]renaming
}

// Decide says what a command of the entry at index changes, in the order of keys, and what it gives.
// It is a function of its arguments. An error is one of reading rows: nothing was decided.
func Decide(rows Rows, index uint64, cmd Command) ([]Change, Result, error) {
	d := &decision{
		rows: rows, index: index, at: cmd.At,
		set: map[string][]byte{}, usage: map[string]*api.BucketUsage{}, names: map[naming]renaming{},
	}
	res := d.run(cmd)
	if d.err == nil && res.Err == nil {
		d.settle()
	}
	if d.err != nil {
		return nil, Result{}, d.err
	}
	if res.Err != nil {
		return nil, Result{Err: res.Err}, nil
	}
	var changes []Change
	for _, key := range slices.Sorted(maps.Keys(d.set)) {
		changes = append(changes, Change{key, d.set[key]})
	}
	return changes, res, nil
}

func (d *decision) run(c Command) Result {
	switch {
	case c.CreateBucket != nil:
		return d.createBucket(*c.CreateBucket)
	case c.UpdateBucket != nil:
		return d.updateBucket(c.UpdateBucket)
	case c.DeleteBucket != nil:
		return d.deleteBucket(c.DeleteBucket)
	case c.OpenSession != nil:
		return d.openSession(c.OpenSession)
	case c.RenewSession != nil:
		return d.renewSession(c.RenewSession)
	case c.EndSession != nil:
		return d.endSession(c.EndSession)
	case c.ExpireSessions != nil:
		return d.expireSessions(c.ExpireSessions)
	case c.Put != nil:
		return d.put(c.Put)
	case c.Delete != nil:
		return d.delete(c.Delete)
	case c.Copy != nil:
		return d.copy(c.Copy)
	case c.SetTags != nil:
		return d.setTags(c.SetTags)
	case c.ExpireObjects != nil:
		return d.expireObjects(c.ExpireObjects)
	case c.CreateUpload != nil:
		return d.createUpload(c.CreateUpload)
	case c.PutPart != nil:
		return d.putPart(c.PutPart)
	case c.CompleteUpload != nil:
		return d.completeUpload(c.CompleteUpload)
	case c.AbortUpload != nil:
		return d.abortUpload(*c.AbortUpload)
	case c.SealGroup != nil:
		return d.sealGroup(c.SealGroup)
	case c.Restore != nil:
		return refused(api.Errorf(api.CodeInvalid, "a piece of a restore is an entry by itself"))
	}
	return refused(api.Errorf(api.CodeInvalid, "the command asks for nothing"))
}

func refused(err *api.Error) Result { return Result{Err: err} }

// fail keeps the first error.
func (d *decision) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// get gives a row as this decision has it; nil is none.
func (d *decision) get(key string) []byte {
	if value, ok := d.set[key]; ok {
		return value
	}
	value, err := d.rows.Get(key)
	if err != nil {
		d.fail(err)
		return nil
	}
	return value
}

// read fills head from a row, and tells whether there is one.
func (d *decision) read(key string, head any) bool {
	value := d.get(key)
	if value == nil {
		return false
	}
	if _, err := decodeRow(value, head); err != nil {
		d.fail(err)
		return false
	}
	return true
}

// each gives the rows that the log has left under prefix; what this decision has changed it does not see.
func (d *decision) each(prefix string, f func(key string, value []byte) error) {
	err := each(d.rows, prefix, func(key string, value []byte) (bool, error) { return true, f(key, value) })
	if err != nil {
		d.fail(err)
	}
}

// number is how many rows begin with prefix, but no more than limit.
func (d *decision) number(prefix string, limit int) (n int) {
	err := each(d.rows, prefix, func(string, []byte) (bool, error) {
		n++
		return n < limit, nil
	})
	if err != nil {
		d.fail(err)
	}
	return n
}

// charge adds to what a bucket holds; more than its quota is refused. What makes it less never is.
func (d *decision) charge(b *api.Bucket, more api.BucketUsage) *api.Error {
	used := d.used(b.Name)
	sum := used.Add(more)
	if b.Quota > 0 && more.Total() > 0 && sum.Total() > int64(b.Quota) {
		return api.Errorf(api.CodeNoRoom, "bucket %s has a quota of %v; %d bytes of it are used, and this needs %d more", b.Name, b.Quota, used.Total(), more.Total()).
			WithReason(api.ReasonQuota).WithHint("delete objects, abort unfinished uploads, or raise the bucket's quota")
	}
	*used = sum
	return nil
}

func (d *decision) used(bucket string) *api.BucketUsage {
	u, ok := d.usage[bucket]
	if !ok {
		u = &api.BucketUsage{}
		d.read(usageKeys+bucket, u)
		d.usage[bucket] = u
	}
	return u
}

// settle writes what was added up on the way.
func (d *decision) settle() {
	for bucket, u := range d.usage {
		d.set[usageKeys+bucket] = encodeRow(u, nil)
		if *u == (api.BucketUsage{}) {
			d.set[usageKeys+bucket] = nil
		}
	}
	d.settleNames()
}

// manifest reads a manifest that a command brings.
func manifest(b []byte) (*split.Manifest, *api.Error) {
	if len(b) > MaxManifestBytes {
		return nil, api.Errorf(api.CodeTooLarge, "a manifest of %d bytes, at most %d are allowed at once", len(b), MaxManifestBytes).
			WithHint("upload the object in parts")
	}
	m, err := split.Decode(b)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the manifest cannot be read: %w", err)
	}
	return m, nil
}

// kept reads a manifest that is in a row; none has no chunks.
func (d *decision) kept(b []byte) *split.Manifest {
	if b == nil {
		return nil
	}
	m, err := split.Decode(b)
	if err != nil {
		d.fail(damaged("a manifest cannot be read: %w", err))
	}
	return m
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func checkID(id string) *api.Error {
	if len(id) > maxIDBytes || !idPattern.MatchString(id) {
		return api.Errorf(api.CodeInvalid, "%q is not an upload's id", id).WithReason(api.ReasonNoUpload).WithHint("use the id that was given when it began")
	}
	return nil
}

// firstOf is the first refusal of several.
func firstOf(errs ...*api.Error) *api.Error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// overdue tells whether an object or session whose life began at from is over at now.
func overdue(from time.Time, life time.Duration, now time.Time) bool {
	return life > 0 && life < math.MaxInt64 && now.Sub(from) >= life
}
