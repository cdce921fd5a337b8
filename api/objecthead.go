package api

import "unicode/utf8"

// Limits of what a client says of an object; those of tags are S3's.
const (
	MaxObjectMetadataBytes = 2 << 10 // all names and values together
	MaxContentTypeLen      = 256
	MaxContentHeaderLen    = 1_024 // each of the other headers
	MaxObjectTags          = 10
	MaxTagKeyLen           = 128 // characters
	MaxTagValueLen         = 256 // characters
)

// ObjectHead is what a client says of an object beside its bytes. It is kept and given back as it came.
type ObjectHead struct {
	ContentType        string            `json:"contentType,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	CacheControl       string            `json:"cacheControl,omitempty"`
	ContentDisposition string            `json:"contentDisposition,omitempty"`
	ContentEncoding    string            `json:"contentEncoding,omitempty"`
	ContentLanguage    string            `json:"contentLanguage,omitempty"`
	Expires            string            `json:"expires,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
	Checksum           *Checksum         `json:"checksum,omitempty"`
}

// Checksum is one that a client sent with the bytes, and that they have had when they came.
type Checksum struct {
	Algorithm string `json:"algorithm"`           // CRC32, CRC32C, CRC64NVME, SHA1 or SHA256
	Value     string `json:"value,omitempty"`     // base64; of a composite one with "-PARTS"
	Composite bool   `json:"composite,omitempty"` // of the checksums of the parts, not of the bytes
}

// Check refuses what is over its limits.
func (h *ObjectHead) Check() *Error {
	if len(h.ContentType) > MaxContentTypeLen {
		return headTooLarge("the content type", len(h.ContentType), MaxContentTypeLen).WithHint("shorten it")
	}
	for name, value := range map[string]string{
		"Cache-Control": h.CacheControl, "Content-Disposition": h.ContentDisposition, "Content-Encoding": h.ContentEncoding,
		"Content-Language": h.ContentLanguage, "Expires": h.Expires,
	} {
		if len(value) > MaxContentHeaderLen {
			return headTooLarge(name, len(value), MaxContentHeaderLen).WithHint("shorten it")
		}
	}
	total := 0
	for name, value := range h.Metadata {
		total += len(name) + len(value)
	}
	if total > MaxObjectMetadataBytes {
		return headTooLarge("the metadata", total, MaxObjectMetadataBytes).WithHint("keep large values in an object of their own")
	}
	return CheckTags(h.Tags, MaxObjectTags)
}

func headTooLarge(what string, have, most int) *Error {
	return Errorf(CodeTooLarge, "%s has %d bytes, at most %d are allowed", what, have, most).WithReason(ReasonMetadata)
}

// CheckTags refuses more than most tags, and those that are too long.
func CheckTags(tags map[string]string, most int) *Error {
	if len(tags) > most {
		return Errorf(CodeInvalid, "%d tags, at most %d are allowed", len(tags), most).WithReason(ReasonTags).WithHint("use fewer tags")
	}
	for key, value := range tags {
		if k, v := utf8.RuneCountInString(key), utf8.RuneCountInString(value); k < 1 || k > MaxTagKeyLen || v > MaxTagValueLen {
			return Errorf(CodeInvalid, "tag %q: its key has %d characters, its value %d; allowed are 1 to %d and 0 to %d", key, k, v, MaxTagKeyLen, MaxTagValueLen).
				WithReason(ReasonTags).WithHint("shorten it")
		}
	}
	return nil
}
