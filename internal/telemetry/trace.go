package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const instrumentation = "github.com/cloudless/cloudless"

// complainEvery limits how often a collector that cannot be reached is complained about.
const complainEvery = time.Minute

// tracing is a tracer, the W3C propagator, and what must be closed. Without an endpoint the tracer
// records nothing but still hands the caller's context on.
type tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	close      func(context.Context) error
	sampler    *changingSampler // nil: nothing is traced, or the SDK follows OTEL_TRACES_SAMPLER
	on         bool
}

// newTracing reads the standard variables through getenv; the SDK reads the rest of them (headers,
// certificates, timeouts, batch sizes) by itself.
func newTracing(cfg Config, getenv func(string) string, log zerolog.Logger) (*tracing, error) {
	t := &tracing{
		tracer:     noop.NewTracerProvider().Tracer(instrumentation),
		propagator: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		close:      func(context.Context) error { return nil },
	}
	sampler, err := samplerOf(cfg.OTLPSampling)
	if err != nil || !tracingWanted(cfg, getenv) {
		return t, err
	}
	t.on = true
	var options []sdktrace.TracerProviderOption
	if sampler != nil {
		t.sampler = &changingSampler{}
		t.sampler.now.Store(&sampler)
		options = append(options, sdktrace.WithSampler(t.sampler))
	}
	exporter, err := newExporter(cfg.OTLPEndpoint, getenv)
	if err != nil {
		return nil, err
	}
	described, err := describeRole(cfg)
	if err != nil {
		return nil, errors.Join(err, exporter.Shutdown(context.Background()))
	}
	options = append(options, sdktrace.WithBatcher(&quietExporter{SpanExporter: exporter, log: log}), sdktrace.WithResource(described))
	provider := sdktrace.NewTracerProvider(options...)
	t.tracer, t.close = provider.Tracer(instrumentation), provider.Shutdown
	return t, nil
}

func tracingWanted(cfg Config, getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return cfg.OTLPEndpoint != "" || getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// samplerOf is nil for "": the SDK then follows OTEL_TRACES_SAMPLER.
func samplerOf(sampling string) (sdktrace.Sampler, error) {
	switch sampling {
	case "":
		return nil, nil
	case "always":
		return sdktrace.AlwaysSample(), nil
	case "never":
		return sdktrace.NeverSample(), nil
	}
	ratio, err := strconv.ParseFloat(sampling, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return nil, fmt.Errorf("sampling %q: want always, never or a ratio from 0 to 1", sampling)
	}
	return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
}

// changingSampler is one that can be exchanged while spans are made.
type changingSampler struct {
	now atomic.Pointer[sdktrace.Sampler]
}

func (c *changingSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return (*c.now.Load()).ShouldSample(p)
}

func (c *changingSampler) Description() string { return (*c.now.Load()).Description() }

func (t *tracing) setSampling(sampling string) (bool, error) {
	sampler, err := samplerOf(sampling)
	if err != nil || !t.on {
		return err == nil, err // without traces there is nothing to change
	}
	if sampler == nil || t.sampler == nil {
		return false, nil
	}
	t.sampler.now.Store(&sampler)
	return true, nil
}

func newExporter(endpoint string, getenv func(string) string) (sdktrace.SpanExporter, error) {
	protocol := getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	u, err := endpointURL(endpoint)
	if err != nil {
		return nil, err
	}
	switch protocol {
	case "", "http/protobuf":
		return newHTTPExporter(u)
	case "grpc":
		return newGRPCExporter(u)
	}
	return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL %q: want grpc or http/protobuf", protocol)
}

func newHTTPExporter(u *url.URL) (sdktrace.SpanExporter, error) {
	if u == nil {
		return otlptracehttp.New(context.Background())
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(u.String()))
}

func newGRPCExporter(u *url.URL) (sdktrace.SpanExporter, error) {
	if u == nil {
		return otlptracegrpc.New(context.Background())
	}
	return otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpointURL(u.String()))
}

// endpointURL is nil for "": the exporter then follows OTEL_EXPORTER_OTLP_*ENDPOINT. HOST:PORT
// means plain http, which is how a collector on the same machine listens.
func endpointURL(endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return nil, nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("OTLP endpoint %q: want http://HOST:PORT, https://HOST:PORT or HOST:PORT", endpoint)
	}
	return u, nil
}

func describeRole(cfg Config) (*resource.Resource, error) {
	own := []attribute.KeyValue{
		attribute.String("service.namespace", "cloudless"),
		attribute.String("service.name", "cloudless-"+cfg.Role),
		attribute.String("service.version", cfg.Version),
	}
	if cfg.Node != "" {
		own = append(own, attribute.String("service.instance.id", cfg.Node))
	}
	// WithFromEnv last: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
	return resource.New(context.Background(), resource.WithAttributes(own...), resource.WithTelemetrySDK(), resource.WithFromEnv())
}

// quietExporter logs failures itself, now and then. The SDK would hand them to a handler that is
// global to the process and writes plain text.
type quietExporter struct {
	sdktrace.SpanExporter
	log  zerolog.Logger
	last time.Time // only ExportSpans uses it, which is never called concurrently
}

// ExportSpans implements sdktrace.SpanExporter.
func (q *quietExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && time.Since(q.last) >= complainEvery {
		q.last = time.Now()
		q.log.Warn().Err(err).Int("spans", len(spans)).Msg("traces could not be exported; they are lost")
	}
	return nil
}

// Tracer makes spans; without an endpoint they cost next to nothing.
func (t *Telemetry) Tracer() trace.Tracer { return t.tracing.tracer }

// Inject writes the W3C trace context of ctx into the headers of a request about to be sent.
func (t *Telemetry) Inject(ctx context.Context, h http.Header) {
	t.tracing.propagator.Inject(ctx, propagation.HeaderCarrier(h))
}

// TraceHTTP gives every request a server span called name, a child of the span that the request's
// traceparent names.
func (t *Telemetry) TraceHTTP(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := t.tracing.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.Tracer().Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		r = r.WithContext(ctx)
		if !span.IsRecording() {
			next.ServeHTTP(w, r)
			return
		}
		span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path))
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		span.SetAttributes(attribute.Int("http.response.status_code", recorder.status))
		if recorder.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(recorder.status))
		}
	})
}

// statusRecorder remembers the status. Unwrap lets http.ResponseController reach the rest, which is
// how flushing, deadlines and hijacking pass.
type statusRecorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

// WriteHeader implements http.ResponseWriter. Informational answers precede the real one.
func (s *statusRecorder) WriteHeader(status int) {
	if !s.wrote && (status >= 200 || status == http.StatusSwitchingProtocols) {
		s.status, s.wrote = status, true
	}
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap implements what http.ResponseController looks for.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Flush implements http.Flusher for handlers that ask for it directly.
func (s *statusRecorder) Flush() { _ = http.NewResponseController(s.ResponseWriter).Flush() }
