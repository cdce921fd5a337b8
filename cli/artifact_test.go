package cli

import (
	"testing"

	"github.com/cloudless/cloudless/api"
)

func TestSizesInColumnsHaveNoSpace(t *testing.T) {
	for b, want := range map[api.Bytes]string{0: "0", 1023: "1023", 1024: "1Ki", 64 << 20: "64Mi", 24684084 << 10: "23.5Gi", 1 << 50: "1048576Gi"} {
		if got := compact(b); got != want {
			t.Errorf("%d is %q, want %q", b, got, want)
		}
	}
}
