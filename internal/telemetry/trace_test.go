package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// httpCollector is an OTLP/HTTP collector.
func httpCollector(t *testing.T) (url string, spans chan *otlp.Span) {
	t.Helper()
	spans = make(chan *otlp.Span, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			t.Errorf("bad export to %s: %v", r.URL.Path, err)
		}
		deliver(&request, spans)
	}))
	t.Cleanup(server.Close)
	return server.URL, spans
}

// grpcCollector is an OTLP/gRPC collector.
func grpcCollector(t *testing.T) (address string, spans chan *otlp.Span) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &grpcSink{spans: make(chan *otlp.Span, 16)}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String(), c.spans
}

type grpcSink struct {
	collector.UnimplementedTraceServiceServer
	spans chan *otlp.Span
}

func (g *grpcSink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	deliver(r, g.spans)
	return &collector.ExportTraceServiceResponse{}, nil
}

func deliver(r *collector.ExportTraceServiceRequest, spans chan<- *otlp.Span) {
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				spans <- s
			}
		}
	}
}

const (
	parentTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentSpan  = "00f067aa0ba902b7"
)

// serveOne handles a request with a traceparent and closes the telemetry, which flushes. It returns
// the traceparent that the handler would have sent on.
func serveOne(t *testing.T, cfg Config, flags string) string {
	t.Helper()
	cfg.Role, cfg.LogWriter = "agent", io.Discard
	tel, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	onward := http.Header{}
	h := tel.TraceHTTP("get workload", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tel.Inject(r.Context(), onward)
		w.WriteHeader(http.StatusBadGateway)
	}))
	r := httptest.NewRequest(http.MethodGet, "/v1/workloads", nil)
	r.Header.Set("traceparent", "00-"+parentTrace+"-"+parentSpan+"-"+flags)
	h.ServeHTTP(httptest.NewRecorder(), r)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tel.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return onward.Get("traceparent")
}

func checkSpan(t *testing.T, spans chan *otlp.Span, onward string) {
	t.Helper()
	if len(spans) != 1 {
		t.Fatalf("%d spans were exported, want 1", len(spans))
	}
	s := <-spans
	if s.Name != "get workload" || s.Kind != otlp.Span_SPAN_KIND_SERVER || s.Status.Code != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("span %v", s)
	}
	if got := trace.TraceID(s.TraceId).String(); got != parentTrace {
		t.Errorf("trace id %s, want the caller's", got)
	}
	if got := trace.SpanID(s.ParentSpanId).String(); got != parentSpan {
		t.Errorf("parent %s, want the caller's span", got)
	}
	if want := "00-" + parentTrace + "-" + trace.SpanID(s.SpanId).String() + "-01"; onward != want {
		t.Errorf("sent on %q, want %q", onward, want)
	}
}

func TestTracesGoToAnHTTPCollector(t *testing.T) {
	url, spans := httpCollector(t)
	checkSpan(t, spans, serveOne(t, Config{OTLPEndpoint: url, OTLPSampling: "always"}, "01"))
}

func TestTracesFollowTheEnvironment(t *testing.T) {
	url, spans := httpCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	checkSpan(t, spans, serveOne(t, Config{}, "01"))
}

func TestTracesGoToAGRPCCollector(t *testing.T) {
	address, spans := grpcCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	checkSpan(t, spans, serveOne(t, Config{OTLPEndpoint: address, OTLPSampling: "always"}, "01"))
}

func TestSampling(t *testing.T) {
	for _, c := range []struct {
		sampling, parent string
		spans            int
	}{
		{"never", "01", 0}, {"always", "00", 1},
		{"0.5", "01", 1}, {"0.5", "00", 0}, // a caller that decided is followed
	} {
		url, spans := httpCollector(t)
		serveOne(t, Config{OTLPEndpoint: url, OTLPSampling: c.sampling}, c.parent)
		if len(spans) != c.spans {
			t.Errorf("sampling %s, parent %s: %d spans, want %d", c.sampling, c.parent, len(spans), c.spans)
		}
	}
}

func TestWithoutAnEndpointTheCallersContextIsHandedOn(t *testing.T) {
	if got, want := serveOne(t, Config{}, "01"), "00-"+parentTrace+"-"+parentSpan+"-01"; got != want {
		t.Errorf("sent on %q, want %q", got, want)
	}
}

func TestADisabledSDKExportsNothing(t *testing.T) {
	url, spans := httpCollector(t)
	t.Setenv("OTEL_SDK_DISABLED", "true")
	serveOne(t, Config{OTLPEndpoint: url}, "01")
	if len(spans) != 0 {
		t.Error("spans were exported")
	}
}

func TestAnUnknownProtocolIsRefused(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
	if _, err := New(Config{OTLPEndpoint: "127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("error %v", err)
	}
}

func TestALostCollectorIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	q := &quietExporter{SpanExporter: failingExporter{}, log: zerolog.New(&out)}
	for range 3 {
		if err := q.ExportSpans(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "could not be exported"); n != 1 {
		t.Errorf("told %d times:\n%s", n, out.String())
	}
}

func TestTracedResponsesStillStream(t *testing.T) {
	url, _ := httpCollector(t)
	tel := newTest(t, Config{OTLPEndpoint: url, OTLPSampling: "always"})
	server := httptest.NewServer(tel.TraceHTTP("stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done() // the client leaves once it has seen the first part
	})))
	defer server.Close()
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 5)
	if _, err := io.ReadFull(response.Body, part); err != nil || string(part) != "first" {
		t.Errorf("%q, %v", part, err)
	}
	response.Body.Close()
}

type failingExporter struct{}

func (failingExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	return errors.New("connection refused")
}
func (failingExporter) Shutdown(context.Context) error { return nil }

func TestAdjustChangesTheSampling(t *testing.T) {
	url, spans := httpCollector(t)
	tel, err := New(Config{Role: "agent", OTLPEndpoint: url, OTLPSampling: "never", LogWriter: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	serve := func(path string) {
		h := tel.TraceHTTP("test", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	serve("/before")
	if ok, err := tel.Adjust("info", "always"); !ok || err != nil {
		t.Errorf("the sampling did not change: %v %v", ok, err)
	}
	serve("/after")
	if ok, err := tel.Adjust("info", ""); ok || err != nil {
		t.Errorf("what the environment decides changed: %v %v", ok, err)
	}
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(spans) != 1 {
		t.Errorf("%d spans, want that after the change alone", len(spans))
	}
}
