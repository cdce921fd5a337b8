package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/manifest"
	"github.com/cloudless/cloudless/coordinator"
	"github.com/cloudless/cloudless/internal/datadir"
	"github.com/cloudless/cloudless/internal/link"
	"github.com/cloudless/cloudless/internal/pki"
	"github.com/cloudless/cloudless/internal/run"
	"github.com/cloudless/cloudless/internal/telemetry"
	"github.com/cloudless/cloudless/web"
)

// shutdownTime bounds how long requests in flight may take when a role stops.
const shutdownTime = 5 * time.Second

// maxConns bounds the connections of the API, and those of a metrics port. One of TLS takes some
// 50 KB; people, scripts and dashboards have one or two each.
const maxConns = 1024

// closers releases what was opened, in reverse order, once.
type closers struct {
	once sync.Once
	list []func() error
}

func (c *closers) add(f func() error) { c.list = append(c.list, f) }

func (c *closers) close() (err error) {
	c.once.Do(func() {
		for i := len(c.list) - 1; i >= 0; i-- {
			err = errors.Join(err, c.list[i]())
		}
	})
	return err
}

// coordinatorRole is a coordinator with its REST API and metrics port.
type coordinatorRole struct {
	closers
	tel     *telemetry.Telemetry
	cert    *apiCertificate // nil in dev, which speaks plain HTTP
	server  *coordinator.Server
	http    string // URL
	node    string
	metrics string
}

// Done is closed when the coordinator can no longer serve.
func (r *coordinatorRole) Done() <-chan struct{} { return r.server.Done() }

// serveHTTP serves until closed.
func (c *closers) serveHTTP(ln net.Listener, h http.Handler, cfg *tls.Config, tel *telemetry.Telemetry) {
	if cfg != nil {
		ln = tls.NewListener(ln, cfg)
	}
	base, cancel := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: api.MaxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	link.Limit(srv, maxConns)
	g := run.New(context.Background())
	g.Go("http", func(context.Context) error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	c.add(func() error {
		cancel() // streams end
		ctx, done := context.WithTimeout(context.Background(), shutdownTime)
		defer done()
		if err := srv.Shutdown(ctx); err != nil {
			tel.Log.Debug().Err(err).Msg("requests cut off")
			return errors.Join(srv.Close(), g.Wait())
		}
		return g.Wait()
	})
}

// prepare is how every role begins: its folder, what its settings leave out, its telemetry. In dev
// metrics carry the role's name, since one process has several.
func (e *Env) prepare(c *closers, role string, o *commonOptions, dev bool) (*telemetry.Telemetry, error) {
	if o.DataDir == "" {
		return nil, usageError("--data-dir is needed")
	}
	if err := datadir.Make(o.DataDir); err != nil {
		return nil, err
	}
	release, err := datadir.Lock(o.DataDir)
	if err != nil {
		return nil, err
	}
	c.add(release)
	if err := datadir.CheckFormat(o.DataDir); err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = hostName()
	}
	if o.Advertise == "" {
		o.Advertise = outboundHost()
	}
	node := ""
	if dev {
		node = o.Name
	}
	tel, err := telemetry.New(telemetry.Config{
		Role: role, Node: node, Version: version(), LogWriter: e.Err, LogLevel: o.LogLevel, OTLPEndpoint: o.OTLPEndpoint, OTLPSampling: o.OTLPSampling,
	})
	if err != nil {
		return nil, err
	}
	c.add(func() error { return tel.Close(context.Background()) })
	return tel, nil
}

// backend gives web.Backend the methods whose types only this package may join.
type backend struct{ *coordinator.Server }

func (b backend) PutWorkload(ctx context.Context, c api.Caller, w api.Workload, mode web.PutMode, ifMatch uint64) (api.WriteResult, error) {
	return b.Server.PutWorkload(ctx, c, w, mode == web.PutCreate, ifMatch)
}

func (b backend) Exec(ctx context.Context, c api.Caller, ns, name, replica string, command []string, tty, stdin bool) (web.ExecConn, error) {
	s, err := b.Server.Exec(ctx, c, ns, name, replica, command, tty, stdin)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (b backend) PutBucket(ctx context.Context, c api.Caller, v api.Bucket, mode web.PutMode, ifMatch uint64) (api.BucketView, error) {
	return b.Server.PutBucket(ctx, c, v, mode == web.PutCreate, ifMatch)
}

func (b backend) OpenObject(ctx context.Context, bucket, key string) (web.ObjectReader, error) {
	r, err := b.Server.OpenObject(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openCoordinator starts a coordinator with its ports. plain serves the API without TLS (dev).
func (e *Env) openCoordinator(ctx context.Context, o coordinatorOptions, token string, plain bool) (r *coordinatorRole, err error) {
	r = &coordinatorRole{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	tel, err := e.prepare(&r.closers, "coordinator", &o.commonOptions, plain)
	if err != nil {
		return r, err
	}
	r.tel = tel
	metrics, err := r.listenMetrics(o.DataDir, o.MetricsAddr)
	if err != nil {
		return r, err
	}
	nodeLn, err := listen(o.DataDir, "node-addr", o.NodeAddr)
	if err != nil {
		return r, err
	}
	httpLn, err := listen(o.DataDir, "http-addr", o.HTTPAddr)
	if err != nil {
		return r, errors.Join(err, nodeLn.Close())
	}
	gossip, err := gossipAddr(o.DataDir, o.GossipAddr)
	if err != nil {
		return r, errors.Join(err, nodeLn.Close(), httpLn.Close())
	}
	scheme := "https://"
	if plain {
		scheme = "http://"
	}
	r.node, r.http = net.JoinHostPort(o.Advertise, portOf(nodeLn)), scheme+net.JoinHostPort(o.Advertise, portOf(httpLn))
	r.server, err = coordinator.Open(ctx, coordinator.Config{
		DataDir: o.DataDir, Name: o.Name, Listener: nodeLn, AdvertiseNode: r.node, AdvertiseHTTP: r.http, GossipAddr: gossip,
		AdvertiseHost: o.Advertise, Join: o.Join, Token: token, Version: version(), Tel: tel, Log: tel.Log,
	})
	if err != nil {
		return r, errors.Join(err, httpLn.Close())
	}
	r.add(r.server.Close)
	tel.AddCheck("leader", true, r.server.Ready)
	h := web.New(web.Config{
		Backend: backend{r.server}, Log: tel.Log, Metrics: tel.Handler(), Health: tel.Health(), Ready: tel.Ready(), Schema: manifest.Schema(), Dev: plain, Version: version(),
	})
	var cfg *tls.Config
	if !plain {
		r.cert = &apiCertificate{make: r.server.APICertificate, always: []string{"localhost", "127.0.0.1", "::1", hostName(), o.Advertise, hostOf(o.HTTPAddr)}}
		r.cert.hosts(o.TLSSAN)
		cfg = pki.APIServerConfig(r.cert.get)
	}
	r.serveHTTP(httpLn, tel.TraceHTTP("api", h), cfg, tel)
	r.metrics = r.serveMetrics(metrics, tel)
	return r, nil
}

func (e *Env) serveCoordinator(ctx context.Context, from source[coordinatorOptions]) error {
	hangups, stop := catchHangups()
	defer stop()
	o, err := from.load()
	if err != nil {
		return err
	}
	token, err := e.joinToken(o.commonOptions)
	if err != nil {
		return err
	}
	if err := coordinator.CheckJoin(o.DataDir, o.Join, token); err != nil {
		return err
	}
	r, err := e.openCoordinator(ctx, o, token, false)
	if err != nil {
		return err
	}
	if r.server.Alone() { // it leads at once, and its admin token is to work when the line is out
		if err := awaitReady(ctx, r); err != nil {
			return errors.Join(err, r.close())
		}
	}
	if err := e.printReady(readyLine{ID: r.server.ID(), HTTP: r.http, Node: r.node, Gossip: r.server.GossipAddr(), Metrics: r.metrics}); err != nil {
		return errors.Join(err, r.close())
	}
	return errors.Join(until(ctx, hangups, func() { o = from.reload(o, r.tel.Log, r.reload) }, r), r.close())
}

func (e *Env) printReady(l readyLine) error {
	l.Ready = true
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.Out, string(data))
	return err
}
