// Package checksum is the checksums of S3, which clients send beside the bytes: how each is computed, and
// what that of an object is when those of its parts are known. It is pure.
package checksum

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// The algorithms, as S3 writes them.
const (
	CRC32     = "CRC32"
	CRC32C    = "CRC32C"
	CRC64NVME = "CRC64NVME"
	SHA1      = "SHA1"
	SHA256    = "SHA256"
)

// Names are all of them.
var Names = []string{CRC32, CRC32C, CRC64NVME, SHA1, SHA256}

// polynomials of the CRCs, lowest power in the highest bit, with their widths.
var polynomials = map[string]polynomial{
	CRC32:     {crc32.IEEE, 32},
	CRC32C:    {crc32.Castagnoli, 32},
	CRC64NVME: {0x9a6c9329ac4bc9b5, 64},
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = crc64.MakeTable(polynomials[CRC64NVME].bits)
)

// New gives a hash, nil for a name that is not among Names.
func New(algorithm string) hash.Hash {
	switch algorithm {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(castagnoli)
	case CRC64NVME:
		return crc64.New(nvme)
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	}
	return nil
}

// Text is a sum as S3 writes it.
func Text(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// Check refuses what is not the checksum of some bytes.
func Check(c *api.Checksum) *api.Error {
	_, err := decode(c.Algorithm, c.Value)
	return err
}

func decode(algorithm, value string) ([]byte, *api.Error) {
	h := New(algorithm)
	if h == nil {
		return nil, refused("%q is not one of %s", algorithm, strings.Join(Names, ", "))
	}
	sum, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(sum) != h.Size() {
		return nil, refused("%q is not a %s in base64", value, algorithm)
	}
	return sum, nil
}

func refused(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeInvalid, "checksum: "+format, args...).WithReason(api.ReasonChecksum).WithHint("send the checksum of the bytes that are sent")
}

// CheckPlan refuses what no multipart upload can have: a CRC64NVME is always that of the whole object,
// and one of the SHA family, which cannot be put together, never is.
func CheckPlan(c *api.Checksum) *api.Error {
	switch {
	case New(c.Algorithm) == nil:
		_, err := decode(c.Algorithm, "")
		return err
	case c.Composite && c.Algorithm == CRC64NVME, !c.Composite && polynomials[c.Algorithm].width == 0:
		return refused("%s cannot be had for a whole object made of parts in this way", c.Algorithm)
	}
	return nil
}

// Part is one part of an object.
type Part struct {
	Value string
	Bytes int64
}

// Combine gives the checksum of an object made of parts: of their bytes, or, composite, of their checksums.
func Combine(plan api.Checksum, parts []Part) (string, *api.Error) {
	if err := CheckPlan(&plan); err != nil {
		return "", err
	}
	whole, all := uint64(0), New(plan.Algorithm)
	for _, p := range parts {
		sum, err := decode(plan.Algorithm, p.Value)
		if err != nil {
			return "", err
		}
		all.Write(sum)
		if !plan.Composite {
			whole = polynomials[plan.Algorithm].join(whole, number(sum), p.Bytes)
		}
	}
	if plan.Composite {
		return fmt.Sprintf("%s-%d", Text(all), len(parts)), nil
	}
	return base64.StdEncoding.EncodeToString(bigEndian(whole, all.Size())), nil
}
