package objects

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// A row's key is a letter and what names the row. Buckets have no byte 0 in their names, so it ends one;
// keys of objects may have any byte, so they come last or are escaped. All sort as their text does.
//
//	b bucket
//	u bucket                                  what the bucket holds
//	o bucket 0 key                            an object
//	m bucket 0 escaped key 0 1 id             a multipart upload
//	p bucket 0 escaped key 0 1 id 0 number(2) one of its parts
//	s id                                      an upload session
//	t id 0 digest(32)                         a chunk that it names
//	r digest(32)                              a chunk: how many rows name it, what they ask for, and its group
//	g id(32)                                  a group: the chunks that it is made of
const (
	bucketKeys  = "b"
	usageKeys   = "u"
	objectKeys  = "o"
	uploadKeys  = "m"
	partKeys    = "p"
	sessionKeys = "s"
	namedKeys   = "t"
	countKeys   = "r"
	groupKeys   = "g"

	letters = bucketKeys + usageKeys + objectKeys + uploadKeys + partKeys + sessionKeys + namedKeys + countKeys + groupKeys
)

type digest = [sha256.Size]byte

func objectsOf(bucket string) string { return objectKeys + bucket + "\x00" }

func objectKey(bucket, key string) string { return objectsOf(bucket) + key }

func uploadsOf(bucket string) string { return uploadKeys + bucket + "\x00" }

func uploadKey(u UploadRef) string { return uploadsOf(u.Bucket) + escape(u.Key) + u.ID }

// partsOf begins with another letter, and is otherwise the upload's key.
func partsOf(u UploadRef) string { return partKeys + uploadKey(u)[1:] + "\x00" }

func partKey(u UploadRef, number int) string {
	return partsOf(u) + string(binary.BigEndian.AppendUint16(nil, uint16(number)))
}

func namedBy(session string) string { return namedKeys + session + "\x00" }

func namedKey(session string, d digest) string { return namedBy(session) + string(d[:]) }

func countKey(d digest) string { return countKeys + string(d[:]) }

func groupKey(id digest) string { return groupKeys + string(id[:]) }

// escape ends text such that what follows cannot be taken for a part of it, and that it sorts as before:
// byte 0 is written 0 255, and 0 1 is the end.
func escape(text string) string { return strings.ReplaceAll(text, "\x00", "\x00\xff") + "\x00\x01" }

// after is the first key behind all that begin with prefix; "" when there is none.
func after(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}
