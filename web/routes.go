package web

import (
	"net/http"
	"strings"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/web/dashboard"
)

// route is one line of the API: who may call it, what it costs, which query parameters it knows and
// what it does. Exactly one of answer and stream is set.
type route struct {
	method string
	path   string
	role   api.Role // least role; rolePublic for none; empty admits nobody
	class  class
	quiet  bool  // it changes nothing that anybody sees yet, so it leaves no audit line
	body   int64 // most bytes of its JSON; 0: api.MaxBodyBytes
	query  []string
	answer func(c *call) (answer, error)
	stream func(c *call) error
}

var (
	waitQuery  = []string{"index", "wait"}
	listQuery  = []string{"index", "wait", "namespace", "label", "limit", "cursor"}
	logQuery   = []string{"follow", "tail", "previous", "since", "timestamps", "replica"}
	execQuery  = []string{"cmd", "replica", "tty", "stdin"}
	eventQuery = []string{"index", "wait", "follow", "type", "severity", "resource", "since", "until", "after", "limit", "cursor"}
)

// label names the route, as in "POST /v1/nodes/:id/drain".
func label(r route) string { return r.method + " " + strings.ReplaceAll(r.path, `\:`, ":") }

// audit tells whether requests leave a line in the audit log: all that can change something, and
// commands in replicas. Planning changes nothing, nor do the steps of an upload before its last.
func (r route) audit() bool {
	return changesState(r.method) && r.class != classRead && !r.quiet || strings.HasSuffix(r.path, "/exec")
}

// headed tells whether HEAD is answered as GET is: where there is a whole answer, not a stream of it.
func (r route) headed() bool {
	return r.method == http.MethodGet && (r.answer != nil || r.role == rolePublic || r.class == classAddress)
}

// routes is the whole API. What is not in it does not exist.
func (s *server) routes() []route {
	var all []route
	for _, part := range [][]route{s.openRoutes(), s.workloadRoutes(), s.clusterRoutes(), s.identityRoutes(), s.storageRoutes(), s.laterRoutes()} {
		all = append(all, part...)
	}
	return all
}

func get(path string, query []string, h func(*call) (answer, error)) route {
	return route{method: http.MethodGet, path: path, role: api.RoleViewer, class: classRead, query: query, answer: h}
}

func write(method, path string, role api.Role, h func(*call) (answer, error)) route {
	return route{method: method, path: path, role: role, class: classWrite, answer: h}
}

func stream(method, path string, role api.Role, query []string, h func(*call) error) route {
	return route{method: method, path: path, role: role, class: classStream, query: query, stream: h}
}

func open(path string, h func(*call) error) route {
	return route{method: http.MethodGet, path: path, role: rolePublic, stream: h}
}

func (s *server) openRoutes() []route {
	metrics := open("/metrics", handlerOr(s.cfg.Metrics, notHere))
	if !s.cfg.Dev {
		metrics.role = api.RoleViewer
	}
	return []route{
		open("/health", handlerOr(s.cfg.Health, alive)),
		open("/ready", handlerOr(s.cfg.Ready, s.ready)),
		metrics,
		open("/openapi.yaml", s.document("application/yaml", openAPI)),
		open("/schema/workload.json", s.document("application/schema+json", s.cfg.Schema)),
		open("/ca.pem", s.caPEM),
		open("/", toDashboard),
		open("/ui", toDashboard),
		open("/ui/*", handlerOr(http.StripPrefix("/ui/", http.FileServerFS(dashboard.Files())), notHere)),
	}
}

func (s *server) workloadRoutes() []route {
	const all, one = "/v1/workloads", "/v1/workloads/:ns/:name"
	put := write(http.MethodPost, all, api.RoleOperator, s.createWorkload)
	put.query = []string{"mode"}
	plan := write(http.MethodPost, all+`\:plan`, api.RoleViewer, s.planWorkload)
	plan.class = classRead // it changes nothing, and nothing of it is remembered
	return []route{
		get(all, listQuery, s.listWorkloads),
		put,
		plan,
		get(one, waitQuery, s.getWorkload),
		write(http.MethodPut, one, api.RoleOperator, s.applyWorkload),
		write(http.MethodDelete, one, api.RoleOperator, s.deleteWorkload),
		write(http.MethodPost, one+"/scale", api.RoleOperator, s.scaleWorkload),
		write(http.MethodPost, one+"/restart", api.RoleOperator, s.restartWorkload),
		write(http.MethodPost, one+"/rollback", api.RoleOperator, s.rollbackWorkload),
		get(one+"/history", waitQuery, s.history),
		get(one+"/explain", waitQuery, s.explain),
		get(one+"/settled", waitQuery, s.settled),
		get(one+"/replicas", waitQuery, s.listReplicas),
		stream(http.MethodGet, one+"/logs", api.RoleViewer, logQuery, s.logs),
		stream(http.MethodGet, one+"/exec", api.RoleOperator, execQuery, s.exec),
	}
}

func (s *server) clusterRoutes() []route {
	const artifact = "/v1/artifacts/:digest"
	return []route{
		get("/v1/status", waitQuery, s.status),
		get("/v1/nodes", listQuery, s.listNodes),
		get("/v1/nodes/:id", waitQuery, s.getNode),
		write(http.MethodDelete, "/v1/nodes/:id", api.RoleOperator, s.removeNode),
		write(http.MethodPost, "/v1/nodes/:id/revoke", api.RoleAdmin, s.revokeNode),
		write(http.MethodPost, "/v1/nodes/:id/drain", api.RoleOperator, s.drainNode),
		write(http.MethodPost, "/v1/nodes/:id/cordon", api.RoleOperator, s.cordonNode(true)),
		write(http.MethodPost, "/v1/nodes/:id/uncordon", api.RoleOperator, s.cordonNode(false)),
		get("/v1/services", listQuery, s.listServices),
		get("/v1/usage", listQuery, s.listUsage),
		get("/v1/endpoints", listQuery, s.listEndpoints),
		{method: http.MethodGet, path: "/v1/events", role: api.RoleViewer, class: classRead, query: eventQuery, stream: s.events},
		stream(http.MethodPut, artifact, api.RoleOperator, []string{"kind", "session"}, s.putArtifact),
		get(artifact, nil, s.getArtifact),
	}
}

func (s *server) identityRoutes() []route {
	admin := func(r route) route { r.role = api.RoleAdmin; return r }
	return []route{
		get("/v1/whoami", nil, s.whoami),
		admin(get("/v1/tokens", listQuery, s.listTokens)),
		write(http.MethodPost, "/v1/tokens", api.RoleAdmin, s.createToken),
		write(http.MethodDelete, "/v1/tokens/:id", api.RoleAdmin, s.revokeToken),
		get("/v1/namespaces", listQuery, s.listNamespaces),
		get("/v1/namespaces/:ns", waitQuery, s.getNamespace),
		write(http.MethodPut, "/v1/namespaces/:ns/policy", api.RoleAdmin, s.putPolicy),
		write(http.MethodDelete, "/v1/namespaces/:ns/policy", api.RoleAdmin, s.deletePolicy),
		admin(get("/v1/rotations", listQuery, s.listRotations)),
		write(http.MethodPost, "/v1/rotations", api.RoleAdmin, s.rotate),
		admin(get("/v1/members", listQuery, s.listMembers)),
		admin(get("/v1/members/:id", nil, s.getMember)),
		write(http.MethodDelete, "/v1/members/:id", api.RoleAdmin, s.removeMember),
	}
}

// storageRoutes are the object store's. Bytes of objects are streamed, and what can be repeated at will
// is not remembered.
func (s *server) storageRoutes() []route {
	const bucket, object, upload, storage = "/v1/buckets/:bucket", objectsPath + ":bucket/*", "/v1/uploads/:id", "/v1/storage"
	moved := func(r route) route { r.class = classObject; return r }
	quiet := func(r route) route { r.class, r.quiet = classObject, true; return r }
	commit := write(http.MethodPost, upload+"/commit", api.RoleOperator, s.commitUpload)
	commit.body = api.MaxCommitBytes
	abort := write(http.MethodDelete, bucket+"/uploads/:id", api.RoleOperator, s.abortUpload)
	abort.query = []string{"key"}
	return []route{
		get("/v1/buckets", []string{"limit", "cursor"}, s.listBuckets),
		write(http.MethodPost, "/v1/buckets", api.RoleOperator, s.createBucket),
		get(bucket, nil, s.getBucket),
		write(http.MethodPut, bucket, api.RoleOperator, s.putBucket),
		write(http.MethodDelete, bucket, api.RoleOperator, s.deleteBucket),
		get(bucket+"/objects", []string{"prefix", "delimiter", "after", "cursor", "limit"}, s.listObjects),
		get(bucket+"/uploads", []string{"prefix", "cursor", "limit"}, s.listUploads),
		abort,
		moved(stream(http.MethodGet, object, api.RoleViewer, []string{"metadata"}, s.getObject)),
		moved(stream(http.MethodHead, object, api.RoleViewer, nil, s.getObject)),
		moved(stream(http.MethodPut, object, api.RoleOperator, nil, s.putObject)),
		moved(stream(http.MethodPost, object, api.RoleOperator, nil, s.copyObject)),
		moved(stream(http.MethodDelete, object, api.RoleOperator, nil, s.deleteObject)),
		quiet(write(http.MethodPost, "/v1/uploads", api.RoleOperator, s.openUpload)),
		quiet(write(http.MethodPost, upload+"/missing", api.RoleOperator, s.missingChunks)),
		quiet(stream(http.MethodPut, upload+"/chunks/:digest", api.RoleOperator, []string{"bucket"}, s.putChunk)),
		commit,
		get(storage, nil, s.storageReport),
		write(http.MethodPost, storage+`\:scrub`, api.RoleOperator, s.scrubStorage),
		write(http.MethodPost, storage+`\:repair`, api.RoleOperator, s.repairStorage),
		write(http.MethodPost, storage+`\:collect`, api.RoleOperator, s.collectStorage),
		stream(http.MethodGet, storage+`\:backup`, api.RoleOperator, nil, s.backupStorage),
		stream(http.MethodPost, storage+`\:restore`, api.RoleAdmin, nil, s.restoreStorage),
	}
}

// laterRoutes are paths of the contract whose part is not built: they say so, rather than not exist.
func (s *server) laterRoutes() []route {
	var rs []route
	for _, path := range []string{"/v1/secrets", "/v1/secrets/:name"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete} {
			rs = append(rs, stream(method, path, api.RoleViewer, nil, unsupported))
		}
	}
	return rs
}

func unsupported(c *call) error {
	return api.Errorf(api.CodeUnsupported, "%s: not supported by this version", c.request().URL.Path)
}
