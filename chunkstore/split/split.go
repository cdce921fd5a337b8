// Package split cuts the bytes of an object into chunks and describes the object by them. It is pure:
// it sees bytes and returns places and values; who reads and stores is elsewhere.
package split

import "github.com/cloudless/cloudless/api"

// The sizes of chunks. A larger chunk costs less index, a smaller one less memory: each that is under
// way is held two or three times.
const (
	Normal = 1 << 20
	Large  = 4 << 20   // of objects over LargeObject
	Small  = 256 << 10 // of boards with little memory

	LargeObject = 1 << 30
)

// Cutter says where the next chunk ends.
type Cutter struct {
	// Size is that of a chunk, on average where the content decides.
	Size int
	// ByContent cuts where the content says so: what is inserted into an object then changes the
	// chunks around it and no others.
	ByContent bool
}

// CutterFor is the cutter for an object of size bytes; -1 is one whose size is not known.
func CutterFor(size int64, small, byContent bool) Cutter {
	switch {
	case small:
		return Cutter{Small, byContent}
	case size > LargeObject && !byContent:
		return Cutter{Large, false}
	}
	return Cutter{Normal, byContent}
}

// Max is the largest chunk, and so how much of the object Next needs to see.
func (c Cutter) Max() int {
	if c.ByContent {
		return c.Size * maxShare
	}
	return c.Size
}

// Validate refuses sizes that no chunk has.
func (c Cutter) Validate() error {
	if c.Size != Normal && c.Size != Small && (c.Size != Large || c.ByContent) {
		return api.Errorf(api.CodeInvalid, "there are no chunks of %d bytes", c.Size).
			WithHint("use %d, %d, or %d without cutting by content", Small, Normal, Large)
	}
	return nil
}

// Next is the length of the chunk at the start of data. Of data, Max bytes are looked at; fewer are all
// that is left of the object.
func (c Cutter) Next(data []byte) int {
	if c.ByContent {
		return nextByContent(data, c.Size)
	}
	return min(len(data), c.Size)
}
