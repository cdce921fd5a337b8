package oci

import (
	"strconv"
	"testing"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
	"github.com/cloudless/cloudless/sandbox/drivertest"
)

// A container behaves as every replica does.
func TestConformance(t *testing.T) {
	needRoot(t)
	cfg := config("n-conform")
	drivertest.Run(t, drivertest.Harness{
		New: func(t *testing.T) sandbox.Driver { return open(t, cfg) },
		Restart: func(t *testing.T, d sandbox.Driver) sandbox.Driver {
			must(d.Close())
			next, err := Open(t.Context(), cfg)
			must(err)
			return next
		},
		Survives: true,
		Exit:     func(code int) sandbox.Spec { return spec("exit", strconv.Itoa(code)) },
		Forever:  func() sandbox.Spec { return spec("forever") },
		PrintEnv: func(name string) sandbox.Spec { return spec("env", name) },
		Rubbish:  func() sandbox.Spec { return rubbish(t, "this is no tarball") },
		Stubborn: func() sandbox.Spec { return deaf("forever") },
		Hog: func() sandbox.Spec {
			s := spec("hog")
			s.Memory = 32 << 20
			return s
		},
		HogOOM: true,
		HTTP: func() sandbox.Spec {
			s := spec("serve")
			s.Ports = []api.Port{{Name: "http", Port: 8080, Protocol: api.ProtocolHTTP}}
			return s
		},
		Exec:     []string{"/guest", "hello"},
		Patience: patience,
	})
}
