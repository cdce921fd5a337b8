package ingress

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// answer is a response that goes nowhere, on a connection that has real deadlines.
type answer struct {
	net.Conn
	header http.Header
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(int)             {}
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkPublic is what the ingress adds to a request that a guest on this node answers, and to one for nobody.
func BenchmarkPublic(b *testing.B) {
	for _, c := range []struct {
		name, host string
		access     func(Access)
	}{
		{"guest", "web.localhost", nil},
		{"guest, told", "web.localhost", func(Access) {}},
		{"nobody", "nobody.localhost", nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			local := resident{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sandbox.Count(r.Context(), sandbox.Cost{Fuel: 7})
				w.WriteHeader(http.StatusOK)
				io.WriteString(w, "hello")
			})}
			in := New(Config{NodeID: "n-1", Local: local, Log: zerolog.Nop(), Observe: func(string, int64, int64, time.Duration) {}, Access: c.access})
			defer in.Close()
			in.Update(&api.EndpointTable{Services: []api.Service{{
				Namespace: "default", Name: "web", Hosts: []string{"web.localhost"},
				Endpoints: []api.Endpoint{{ReplicaID: "r-1", NodeID: "n-1", Ready: true}},
			}}})
			conn := loopback(b)
			r := httptest.NewRequest("GET", "http://"+c.host+"/", http.NoBody)
			r.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}, "Accept-Encoding": {"gzip"}, "X-Forwarded-For": {"6.6.6.6"}}
			h := in.Public()
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(&answer{Conn: conn, header: http.Header{}}, r)
			}
		})
	}
}

// resident is a Local of one replica that is always ready.
type resident sandbox.Endpoint

func (l resident) Endpoint(string) (sandbox.Endpoint, []api.Port, bool) {
	return sandbox.Endpoint(l), nil, true
}

func (l resident) Serving(string, string) []string { return residents }

var residents = []string{"r-1"}

func loopback(b *testing.B) net.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}
