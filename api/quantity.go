package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MilliCPU is processor time in thousandths of a core. In manifests "250m" or "0.25".
type MilliCPU int64

// Bytes is a size. In manifests "64Mi" (binary: Ki Mi Gi Ti) or "64M" (decimal: k M G T) or a number.
type Bytes int64

// Duration is a time.Duration written as "1m30s".
type Duration time.Duration

// maxMilliCPU is a thousand million cores.
const maxMilliCPU = 1e12

// ParseMilliCPU reads "250m", "1", "0.5".
func ParseMilliCPU(s string) (MilliCPU, error) {
	digits, milli := strings.CutSuffix(strings.TrimSpace(s), "m")
	f, err := strconv.ParseFloat(digits, 64)
	if !milli {
		f *= 1000
	}
	if err != nil || f < 0 || math.IsNaN(f) || f > maxMilliCPU {
		return 0, fmt.Errorf("%q is not an amount of cpu: write 250m or 0.25", s)
	}
	return MilliCPU(math.Round(f)), nil
}

func (m MilliCPU) String() string {
	if m%1000 == 0 {
		return strconv.FormatInt(int64(m)/1000, 10)
	}
	return strconv.FormatInt(int64(m), 10) + "m"
}

var byteUnits = []struct {
	suffix string
	factor float64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12},
}

// maxBytes is far more than any machine has, and far from the end of an int64.
const maxBytes = 1 << 60

// ParseBytes reads "64Mi", "1G", "4096"; a trailing "B" is allowed.
func ParseBytes(s string) (Bytes, error) {
	digits, factor := strings.TrimSuffix(strings.TrimSpace(s), "B"), 1.0
	for _, u := range byteUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, factor = d, u.factor
			break
		}
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n >= 0 && n <= maxBytes/int64(factor) {
		return Bytes(n * int64(factor)), nil // exact, where a float is not
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || f < 0 || math.IsNaN(f) || f*factor >= maxBytes {
		return 0, fmt.Errorf("%q is not a size: write 64Mi or 1Gi", s)
	}
	return Bytes(math.Round(f * factor)), nil
}

// String writes the shortest exact form, in binary units where they divide the size.
func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		if f := Bytes(byteUnits[i].factor); b >= f && b%f == 0 {
			return strconv.FormatInt(int64(b/f), 10) + byteUnits[i].suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// D is the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

func (m MilliCPU) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }
func (b Bytes) MarshalJSON() ([]byte, error)    { return json.Marshal(b.String()) }
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// scalarText gives the text of a JSON string or number.
func scalarText(data []byte) string {
	var s string
	if json.Unmarshal(data, &s) == nil {
		return s
	}
	return string(data)
}

func (m *MilliCPU) UnmarshalJSON(data []byte) (err error) {
	*m, err = ParseMilliCPU(scalarText(data))
	return err
}

func (b *Bytes) UnmarshalJSON(data []byte) (err error) {
	*b, err = ParseBytes(scalarText(data))
	return err
}

func (d *Duration) UnmarshalJSON(data []byte) error {
	text := scalarText(data)
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration: write 500ms, 30s or 1m30s", text)
	}
	*d = Duration(v)
	return nil
}
