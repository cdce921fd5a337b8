package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// timeFormat of logs: UTC, milliseconds, always the same width.
const timeFormat = "2006-01-02T15:04:05.000Z"

// Config says whose telemetry it is and where it goes.
type Config struct {
	Role    string // coordinator | agent
	Node    string // the node's or server's name; empty: no node label and no node field
	Version string

	LogWriter io.Writer // nil: standard error
	LogLevel  string    // trace | debug | info (default) | warn | error
	Console   bool      // for people rather than machines

	OTLPEndpoint string // URL or HOST:PORT of a collector; empty: OTEL_EXPORTER_OTLP_*ENDPOINT, else off
	OTLPSampling string // always | never | a ratio such as 0.1; empty: OTEL_TRACES_SAMPLER
}

// Telemetry is one role's logs, metrics, traces and health. It is safe for concurrent use.
type Telemetry struct {
	Log     zerolog.Logger
	Metrics *Metrics

	registry *prometheus.Registry
	tracing  *tracing
	checks   checks
}

// New makes a role's telemetry. Close flushes what is still to be sent.
func New(cfg Config) (*Telemetry, error) {
	log, err := newLogger(cfg)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	metrics, err := newMetrics(registry, cfg, time.Now())
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	tracing, err := newTracing(cfg, os.Getenv, log)
	if err != nil {
		return nil, fmt.Errorf("set up OpenTelemetry: %w", err)
	}
	return &Telemetry{Log: log, Metrics: metrics, registry: registry, tracing: tracing}, nil
}

// Registry is the role's own; other collectors may be added to it.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Handler serves the metrics.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// ServeMux serves what a role's metrics port does: /metrics, /health and /ready.
func (t *Telemetry) ServeMux() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", t.Handler())
	mux.Handle("GET /health", t.Health())
	mux.Handle("GET /ready", t.Ready())
	return mux
}

// Close sends the spans that are still held back, for as long as ctx lasts.
func (t *Telemetry) Close(ctx context.Context) error { return t.tracing.close(ctx) }

func newLogger(cfg Config) (zerolog.Logger, error) {
	level := zerolog.InfoLevel
	if cfg.LogLevel != "" {
		var err error
		if level, err = zerolog.ParseLevel(cfg.LogLevel); err != nil {
			return zerolog.Nop(), fmt.Errorf("log level %q: want trace, debug, info, warn or error", cfg.LogLevel)
		}
	}
	w := cfg.LogWriter
	if w == nil {
		w = os.Stderr
	}
	if cfg.Console {
		w = zerolog.ConsoleWriter{Out: w, NoColor: os.Getenv("NO_COLOR") != "", TimeFormat: time.TimeOnly}
	}
	with := zerolog.New(zerolog.SyncWriter(w)).Level(level).Hook(zerolog.HookFunc(stamp)).With()
	if cfg.Role != "" {
		with = with.Str("role", cfg.Role)
	}
	if cfg.Node != "" {
		with = with.Str("node", cfg.Node)
	}
	return with.Logger(), nil
}

// stamp is a hook rather than zerolog's own Timestamp because that one's format is a global of the
// whole process.
func stamp(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timeFormat))
}
