package manifest

import (
	"encoding/json"
	"maps"
	"reflect"

	"github.com/cloudless/cloudless/api"
)

// SchemaID names the schema; a cluster serves it at /schema/workload.json.
const SchemaID = "https://cloudless.dev/schema/workload.json"

// enums lists the words that a field takes, by "Type.field".
var enums = map[string][]any{
	"Workload.apiVersion":       {api.APIVersion},
	"Workload.kind":             {api.KindWorkload},
	"WorkloadSpec.preferred":    {api.VariantWasm, api.VariantContainer},
	"WorkloadSpec.onDisconnect": {"keep", "stop"},
	"WasmSpec.mode":             {api.ModeHTTP, api.ModeService, api.ModeJob},
	"WasmSpec.interface":        {"cl", "wagi", "listener"},
	"WasmSpec.isolation":        {api.IsolationRequest, api.IsolationInstance, api.IsolationFresh},
	"ContainerSpec.network":     {"bridge", "host"},
	"Port.protocol":             {api.ProtocolHTTP, api.ProtocolTCP},
	"Restart.policy":            {api.RestartAlways, api.RestartOnFailure, api.RestartNever},
	"Rollout.strategy":          {"rolling"},
	"BucketGrant.access":        {api.AccessReadOnly, api.AccessReadWrite},
	"Spread.by":                 {"zone", "region", "node"},
	"Toleration.effect":         {api.EffectNoSchedule},
}

// texts describes fields, by "Type.field"; editors show them.
var texts = map[string]string{
	"Metadata.name":              "DNS label, 1 to 63 of a-z, 0-9 and '-'",
	"Metadata.namespace":         "DNS label; default: default",
	"Metadata.labels":            "for selecting workloads",
	"Metadata.uid":               "set by the cluster",
	"Metadata.version":           "set by the cluster",
	"Metadata.createdAt":         "set by the cluster",
	"Metadata.createIndex":       "set by the cluster",
	"Metadata.modifyIndex":       "set by the cluster",
	"Workload.status":            "set by the cluster, ignored on input",
	"WorkloadSpec.replicas":      "how many copies run; default 1",
	"WorkloadSpec.priority":      "0 to 100, higher is placed first",
	"WorkloadSpec.preferred":     "which variant a node takes when it can run both; default wasm",
	"WorkloadSpec.env":           "environment variables",
	"WorkloadSpec.secrets":       "secrets as environment variables",
	"WorkloadSpec.hosts":         "host names that the ingress routes here, besides NAME.NAMESPACE.localhost",
	"WorkloadSpec.volumes":       "storage mounted into each replica",
	"WorkloadSpec.buckets":       "buckets that a wasm guest reaches by kv_* and blob_*",
	"Volume.name":                "of a new volume, which goes with its replica",
	"Volume.bucket":              "shows what is in the bucket",
	"Volume.path":                "where the replica sees it",
	"Volume.size":                "what may be in it; default for a bucket 1Gi",
	"Volume.readOnly":            "of a bucket: the replicas of a node share one folder",
	"BucketGrant.access":         "readOnly (default) or readWrite",
	"WorkloadSpec.onDisconnect":  "what a node that lost the coordinators does: keep or stop",
	"WorkloadSpec.exclusive":     "never two copies at a time",
	"WorkloadSpec.schedule":      "cron expression; jobs only",
	"WasmSpec.module":            "a path, or the sha256:… digest of an uploaded module",
	"WasmSpec.mode":              "http answers requests (default), service runs until stopped, job runs to its end",
	"WasmSpec.interface":         "how http requests reach the module; found from the module when left out",
	"WasmSpec.signature":         "a path to a .minisig file, or its text; default: MODULE.minisig beside the module",
	"WasmSpec.timeout":           "of one http request; default 30s",
	"WorkloadSpec.egress":        "what a module may reach by fetch; nothing when left out",
	"Egress.allow":               "HOST:PORT, *.DOMAIN:PORT, ADDRESS:PORT or RANGE:PORT",
	"ContainerSpec.image":        "a registry reference, a path to a tarball, or the sha256:… digest of an uploaded one",
	"ContainerSpec.user":         "uid, uid:gid or a name in the image",
	"ContainerSpec.runAsRoot":    "allow uid 0",
	"ContainerSpec.writableRoot": "make the root file system writable",
	"ContainerSpec.capabilities": "added capabilities; none by default",
	"Resources.cpu":              "reserved processor time, such as 250m",
	"Resources.memory":           "limit, such as 64Mi; default 64Mi (wasm), 256Mi (container)",
	"Port.port":                  "where the replica listens",
	"Port.publish":               "port on every agent, tcp only; default: the same number",
	"Probe.interval":             "default 1s (readiness), 5s (liveness)",
	"Probe.timeout":              "default 1s",
	"Probe.failures":             "failures in a row that count; default 3",
	"HTTPProbe.port":             "default: the first http port",
	"Restart.policy":             "default always; onFailure for jobs",
	"Restart.backoff":            "before the first restart, doubles; default 1s",
	"Restart.maxBackoff":         "default 1m",
	"Rollout.minAvailable":       "replicas that stay ready during an update",
	"Placement.nodeSelector":     "labels that a node must have",
	"Affinity.weight":            "1 to 100, default 50",
	"Toleration.key":             "empty tolerates every taint of the effect",
}

// object keeps schema literals short; its keys are written in order.
type object = map[string]any

var (
	cpuSchema      = object{"type": []string{"string", "number"}, "pattern": `^[0-9]+(\.[0-9]+)?m?$`, "minimum": 0}
	bytesSchema    = object{"type": []string{"string", "number"}, "pattern": `^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|K|M|G|T)?B?$`, "minimum": 0}
	durationSchema = object{"type": "string", "pattern": `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`}
)

// Schema is the JSON Schema (draft 2020-12) of a workload manifest, the same bytes every time.
func Schema() []byte {
	g := &generator{defs: object{}}
	g.define(reflect.TypeFor[api.Workload]())
	root := g.defs["Workload"].(object)
	delete(g.defs, "Workload")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = SchemaID
	root["title"] = "Cloudless workload"
	root["$defs"] = g.defs
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("manifest: schema does not encode: " + err.Error()) // only strings, numbers and maps
	}
	return append(data, '\n')
}

// generator collects one definition for each struct type.
type generator struct{ defs object }

func (g *generator) define(t reflect.Type) {
	if _, done := g.defs[t.Name()]; done {
		return
	}
	properties, required := object{}, []string{}
	g.defs[t.Name()] = object{"type": "object", "additionalProperties": false, "properties": properties}
	for _, f := range ordered(t) {
		key := t.Name() + "." + f.name
		properties[f.name] = g.property(t.FieldByIndex(f.index).Type, key, f)
		if !f.optional {
			required = append(required, f.name)
		}
	}
	if len(required) > 0 {
		g.defs[t.Name()].(object)["required"] = required
	}
}

func (g *generator) property(t reflect.Type, key string, f field) object {
	p := object{"type": "object"}
	if !f.ignored {
		p = g.schema(t)
	}
	if words, ok := enums[key]; ok {
		p["enum"] = words
	}
	if text, ok := texts[key]; ok {
		p["description"] = text
		if text == "set by the cluster" || f.ignored {
			p["readOnly"] = true
		}
	}
	return p
}

func (g *generator) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[api.MilliCPU]():
		return maps.Clone(cpuSchema)
	case reflect.TypeFor[api.Bytes]():
		return maps.Clone(bytesSchema)
	case reflect.TypeFor[api.Duration]():
		return maps.Clone(durationSchema)
	case timeType:
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem())
	case reflect.Struct:
		g.define(t)
		return object{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return object{"type": "array", "items": g.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": g.schema(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	}
	return object{"type": "integer"}
}
