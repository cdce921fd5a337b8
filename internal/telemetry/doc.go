// Package telemetry is how a role of Cloudless tells the world how it fares: JSON logs (zerolog),
// metrics (Prometheus), traces (OpenTelemetry over OTLP, off unless an endpoint is set), and the
// answers at /health and /ready.
//
// New makes one Telemetry for one role. It has its own registry, so that several roles can live in
// one process, as in `cloudless dev`. This is the only package that registers metrics: Metrics lists
// all of them, and the others call Inc, Set or Observe on its fields.
package telemetry
