package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudless/cloudless/api"
)

// roleCommands are the commands that run a part of a cluster.
func roleCommands(e *Env) []*cobra.Command {
	return []*cobra.Command{coordinatorCommand(e), agentCommand(e), devCommand(e)}
}

// commonOptions are the settings that coordinator and agent share. The JSON names are the flags'
// names and the keys of a --config file.
type commonOptions struct {
	DataDir      string   `json:"data-dir,omitempty"`
	Name         string   `json:"name,omitempty"`
	NodeAddr     string   `json:"node-addr,omitempty"`
	GossipAddr   string   `json:"gossip-addr,omitempty"`
	MetricsAddr  string   `json:"metrics-addr,omitempty"`
	HTTPAddr     string   `json:"http-addr,omitempty"`
	IngressAddr  string   `json:"ingress-addr,omitempty"`
	S3Addr       string   `json:"s3-addr,omitempty"`
	Advertise    string   `json:"advertise,omitempty"`
	Join         []string `json:"join,omitempty"`
	Token        string   `json:"token,omitempty"`
	LogLevel     string   `json:"log-level,omitempty"`
	OTLPEndpoint string   `json:"otlp-endpoint,omitempty"`
	OTLPSampling string   `json:"otlp-sampling,omitempty"`
}

func (o *commonOptions) bind(f *pflag.FlagSet) {
	f.StringVar(&o.DataDir, "data-dir", o.DataDir, "folder for all of this role's state")
	f.StringVar(&o.Name, "name", o.Name, "name in the cluster (default: the host's name)")
	f.StringVar(&o.NodeAddr, "node-addr", o.NodeAddr, "address of the mTLS port; port 0 picks a free one and keeps it")
	f.StringVar(&o.GossipAddr, "gossip-addr", o.GossipAddr, "address of gossip, TCP and UDP")
	f.StringVar(&o.MetricsAddr, "metrics-addr", o.MetricsAddr, "address of /metrics, /health and /ready, in plain text")
	f.StringVar(&o.HTTPAddr, "http-addr", o.HTTPAddr, "address of the REST API and dashboard (coordinators)")
	f.StringVar(&o.IngressAddr, "ingress-addr", o.IngressAddr, "address of the workloads' HTTP ingress (agents)")
	f.StringVar(&o.S3Addr, "s3-addr", o.S3Addr, "address of the S3 API (agents), or off")
	f.StringVar(&o.Advertise, "advertise", o.Advertise, "host that others are told (default: the address towards the default route)")
	f.StringSliceVar(&o.Join, "join", o.Join, "node ports of coordinators of a cluster to join, HOST:7701")
	f.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error")
	f.StringVar(&o.OTLPEndpoint, "otlp-endpoint", o.OTLPEndpoint, "OpenTelemetry endpoint; none: no traces")
	f.StringVar(&o.OTLPSampling, "otlp-sampling", o.OTLPSampling, "always, never or a ratio such as 0.1")
}

// coordinatorOptions are the settings of 'cloudless coordinator'.
type coordinatorOptions struct {
	commonOptions
	TLSSAN []string `json:"tls-san,omitempty"`
}

func (o *coordinatorOptions) bind(f *pflag.FlagSet) {
	o.commonOptions.bind(f)
	f.StringSliceVar(&o.TLSSAN, "tls-san", o.TLSSAN, "further names or addresses for the API's certificate")
}

func defaultCoordinator() coordinatorOptions {
	return coordinatorOptions{commonOptions: commonOptions{
		HTTPAddr: ":7700", NodeAddr: ":7701", GossipAddr: ":7702", MetricsAddr: "127.0.0.1:9090", LogLevel: "info", OTLPSampling: "always",
	}}
}

// agentOptions are the settings of 'cloudless agent'.
type agentOptions struct {
	commonOptions
	Region     string   `json:"region,omitempty"`
	Zone       string   `json:"zone,omitempty"`
	Labels     []string `json:"label,omitempty"`
	Taints     []string `json:"taint,omitempty"`
	Reserve    string   `json:"reserve,omitempty"`
	Containerd string   `json:"containerd,omitempty"`
	IngressTLS string   `json:"ingress-tls,omitempty"`
	S3TLS      string   `json:"s3-tls,omitempty"`
	S3Domains  []string `json:"s3-domain,omitempty"`
	OnStop     string   `json:"on-stop,omitempty"`
	AccessLog  bool     `json:"access-log,omitempty"`
	Storage    string   `json:"storage-capacity,omitempty"`
	sharing    int      // dev's agents, whose stores share a disk; 0: an agent by itself
}

func (o *agentOptions) bind(f *pflag.FlagSet) {
	o.commonOptions.bind(f)
	f.StringVar(&o.Region, "region", o.Region, "region of this node")
	f.StringVar(&o.Zone, "zone", o.Zone, "zone of this node")
	f.StringSliceVar(&o.Labels, "label", o.Labels, "label KEY=VALUE; may be repeated")
	f.StringSliceVar(&o.Taints, "taint", o.Taints, "taint KEY=VALUE:NoSchedule or KEY:NoSchedule; may be repeated")
	f.StringVar(&o.Reserve, "reserve", o.Reserve, "what workloads may not take: cpu=250m,memory=256Mi,storage=1Gi")
	f.StringVar(&o.Containerd, "containerd", o.Containerd, "auto, off, private or the address of a daemon's socket")
	f.StringVar(&o.IngressTLS, "ingress-tls", o.IngressTLS, "CERT,KEY files: serve the ingress by HTTPS")
	f.StringVar(&o.S3TLS, "s3-tls", o.S3TLS, "CERT,KEY files: serve the S3 API by HTTPS")
	f.StringSliceVar(&o.S3Domains, "s3-domain", o.S3Domains, "domain under which each bucket is a host name, BUCKET.DOMAIN, for S3 clients; may be repeated")
	f.StringVar(&o.OnStop, "on-stop", o.OnStop, "what SIGTERM does to replicas: restart, drain or kill")
	f.StringVar(&o.Storage, "storage-capacity", o.Storage, "how much the object store may use of the disk under the data folder: auto, a number of bytes such as 200Gi, or 0 for a node that keeps no chunks")
	f.BoolVar(&o.AccessLog, "access-log", o.AccessLog, "write a line to the log for each request of the ingress, with the fuel that a wasm guest used")
}

func defaultAgent() agentOptions {
	return agentOptions{
		commonOptions: commonOptions{NodeAddr: ":7711", GossipAddr: ":7712", IngressAddr: ":7780", S3Addr: ":7790", MetricsAddr: "127.0.0.1:9091", LogLevel: "info", OTLPSampling: "always"},
		Region:        "default", Zone: "default", Containerd: "auto", OnStop: "restart", Storage: storageAuto, S3Domains: []string{"localhost"},
	}
}

func coordinatorCommand(e *Env) *cobra.Command {
	return roleCommand(&cobra.Command{
		Use: "coordinator", Short: "Run one member of the control plane",
		Long: "Run one member of the control plane. On an empty data folder it founds a cluster and writes ca.pem and admin.token there;\nwith --join and --token it becomes a member of an existing one; with state in the folder it goes on as what it was.",
		Example: `  cloudless coordinator --data-dir /var/lib/cloudless/coordinator
  cloudless coordinator --data-dir /var/lib/cloudless/coordinator --join 192.0.2.1:7701 --token @server.token`,
	}, defaultCoordinator, (*coordinatorOptions).bind, e.serveCoordinator)
}

func agentCommand(e *Env) *cobra.Command {
	return roleCommand(&cobra.Command{
		Use: "agent", Short: "Run one node: sandboxes, ingress, artifacts",
		Long:    "Run one node. The first start needs --join and --token (role node); later ones need neither.",
		Example: `  cloudless agent --data-dir /var/lib/cloudless/agent --join 192.0.2.1:7701 --token @node.token --zone shop`,
	}, defaultAgent, (*agentOptions).bind, e.serveAgent)
}

// joinToken is the role's token: from --token, the file or the environment.
func (e *Env) joinToken(o commonOptions) (string, error) {
	text, fromFlag := e.flags.token, true
	if text == "" {
		text, fromFlag = o.Token, false
	}
	if text == "" || len(o.Join) == 0 {
		return text, nil
	}
	return e.readToken(text, fromFlag)
}

// readyLine is what a role prints on standard output, alone on a line, once it serves.
type readyLine struct {
	Ready   bool   `json:"ready"`
	ID      string `json:"id,omitempty"`
	HTTP    string `json:"http,omitempty"`
	Node    string `json:"node,omitempty"`
	Gossip  string `json:"gossip,omitempty"`
	Metrics string `json:"metrics,omitempty"`
	Ingress string `json:"ingress,omitempty"`
	S3      string `json:"s3,omitempty"`
	Token   string `json:"token,omitempty"`

	S3AccessKey string `json:"s3_access_key,omitempty"`
	S3SecretKey string `json:"s3_secret_key,omitempty"`
}

// catchHangups takes SIGHUP from now on; stop gives it back. It comes before a role is opened: one that
// came while the role started would end the process, or be lost.
func catchHangups() (hangups <-chan os.Signal, stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	return ch, func() { signal.Stop(ch) }
}

// until blocks until the command is to end, or a role can no longer serve. hangup is what SIGHUP does.
func until(ctx context.Context, hangups <-chan os.Signal, hangup func(), roles ...interface{ Done() <-chan struct{} }) error {
	done := make(chan struct{}, len(roles))
	stop := make(chan struct{})
	defer close(stop)
	for _, r := range roles {
		go func() { // ends with the role, or with this call
			select {
			case <-r.Done():
				done <- struct{}{}
			case <-stop:
			}
		}()
	}
	for {
		select {
		case <-hangups:
			hangup()
			continue
		case <-ctx.Done():
			return nil
		case <-done:
		}
		return api.Errorf(api.CodeInternal, "a part of this process stopped by itself").WithHint("the log says why")
	}
}
