package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
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
	served   *union
	tracing  *tracing
	level    *logLevel
	checks   checks
}

// New makes a role's telemetry. Close flushes what is still to be sent.
func New(cfg Config) (*Telemetry, error) {
	least, err := parseLevel(cfg.LogLevel)
	if err != nil {
		return nil, err
	}
	level := &logLevel{}
	level.least.Store(int32(least))
	log := newLogger(cfg, level)
	registry := prometheus.NewRegistry()
	metrics, err := newMetrics(registry, cfg, time.Now())
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	tracing, err := newTracing(cfg, os.Getenv, log)
	if err != nil {
		return nil, fmt.Errorf("set up OpenTelemetry: %w", err)
	}
	return &Telemetry{Log: log, Metrics: metrics, registry: registry, served: &union{all: prometheus.Gatherers{registry}}, tracing: tracing, level: level}, nil
}

// Registry is the role's own; other collectors may be added to it.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Include makes Handler serve the metrics of another role too. In dev all roles are one process, and one
// address tells of them all; the label node keeps them apart.
func (t *Telemetry) Include(other *Telemetry) { t.served.add(other.registry) }

// union gathers from several registries.
type union struct {
	mu  sync.Mutex
	all prometheus.Gatherers
}

func (u *union) add(g prometheus.Gatherer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = append(u.all[:len(u.all):len(u.all)], g)
}

// Gather implements prometheus.Gatherer.
func (u *union) Gather() ([]*dto.MetricFamily, error) {
	u.mu.Lock()
	all := u.all
	u.mu.Unlock()
	return all.Gather()
}

// Handler serves the metrics.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.served, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
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

// Adjust changes from which level on logs are written, in every logger that comes from Log, and which
// part of the requests is traced. What is wrong changes neither. It gives false when the sampling
// takes a new start, because the environment decides on it.
func (t *Telemetry) Adjust(level, sampling string) (sampled bool, err error) {
	least, err := parseLevel(level)
	if err != nil {
		return false, err
	}
	if sampled, err = t.tracing.setSampling(sampling); err == nil {
		t.level.least.Store(int32(least))
	}
	return sampled, err
}

// logLevel is the least level that is written. It is a sampler, for zerolog asks that before it makes
// an event and hands it on to derived loggers, which have their own copy of the level otherwise.
type logLevel struct{ least atomic.Int32 }

func (l *logLevel) Sample(lvl zerolog.Level) bool { return int32(lvl) >= l.least.Load() }

func parseLevel(name string) (zerolog.Level, error) {
	if name == "" {
		return zerolog.InfoLevel, nil
	}
	level, err := zerolog.ParseLevel(name)
	if err != nil || level == zerolog.NoLevel {
		return level, api.Errorf(api.CodeInvalid, "--log-level: %q is not trace, debug, info, warn or error", name)
	}
	return level, nil
}

func newLogger(cfg Config, level *logLevel) zerolog.Logger {
	w := cfg.LogWriter
	if w == nil {
		w = os.Stderr
	}
	if cfg.Console {
		w = zerolog.ConsoleWriter{Out: w, NoColor: os.Getenv("NO_COLOR") != "", TimeFormat: time.TimeOnly}
	}
	with := zerolog.New(zerolog.SyncWriter(w)).Level(zerolog.TraceLevel).Sample(level).Hook(zerolog.HookFunc(stamp)).With()
	if cfg.Role != "" {
		with = with.Str("role", cfg.Role)
	}
	if cfg.Node != "" {
		with = with.Str("node", cfg.Node)
	}
	return with.Logger()
}

// stamp is a hook rather than zerolog's own Timestamp because that one's format is a global of the
// whole process.
func stamp(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timeFormat))
}
