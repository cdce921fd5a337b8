package s3

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/api/meta"
	"github.com/cloudless/cloudless/chunkstore"
	"github.com/cloudless/cloudless/chunkstore/gateway"
	"github.com/cloudless/cloudless/coordinator/objects"
	"github.com/cloudless/cloudless/internal/run"
)

const (
	accessKey = "CLDLAAAABBBBCCCCDDDD"
	secretKey = "aaaabbbbccccddddeeeeffffgggghhhhiiiijjjj"
)

// world is a door over a real gateway and the coordinators' own rows, in memory.
type world struct {
	t       testing.TB
	store   *objects.Store
	gateway *gateway.Gateway
	keys    *keyring
	url     string

	door  http.Handler
	takes time.Duration // that a node takes for a chunk

	mu     sync.Mutex
	index  uint64
	chunks map[string][]byte
	down   error // what the metadata answers when it is out of reach
}

// keyring derives keys as the coordinators do.
type keyring struct {
	mu    sync.Mutex
	keys  map[string]grantedKey
	asked int
	down  error
}

type grantedKey struct {
	secret string
	grant  api.SigningKey
}

func (k *keyring) Key(_ context.Context, r api.SigningKeyRequest) (*api.SigningKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if k.down != nil {
		return nil, k.down
	}
	g, ok := k.keys[r.AccessKey]
	if !ok {
		return nil, api.Errorf(api.CodeUnauthorized, "the access key is unknown or was revoked")
	}
	key := []byte("AWS4" + g.secret)
	for _, part := range []string{r.Date, r.Region, "s3", "aws4_request"} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	out := g.grant
	out.Key = key
	return &out, nil
}

func (k *keyring) set(access, secret string, grant api.SigningKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[access] = grantedKey{secret, grant}
}

func (k *keyring) revoke(access string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, access)
}

func (k *keyring) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = err
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := newDoor(t)
	server := httptest.NewServer(w.door)
	w.url = server.URL
	t.Cleanup(server.Close)
	return w
}

// newDoor is a world that no server serves yet.
func newDoor(t testing.TB) *world {
	t.Helper()
	store, err := objects.Open(vfs.NewMem(), "objects", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, chunks: map[string][]byte{}, keys: &keyring{keys: map[string]grantedKey{}}}
	w.keys.set(accessKey, secretKey, api.SigningKey{})
	members := api.StoreMembers{Revision: 1, Members: []api.StoreMember{{ID: "n1", Name: "n1", Zone: "z", Weight: 1, State: api.StoreReady}}}
	w.gateway = gateway.New(gateway.Config{Self: "n1", Meta: w, Peers: w, Members: func() api.StoreMembers { return members }, Log: zerolog.Nop()})
	w.door = New(Config{Backend: w.gateway, Keys: w.keys, Domains: []string{"localhost"}, Log: zerolog.Nop()})
	t.Cleanup(func() {
		if err := w.gateway.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) Apply(_ context.Context, cmds ...meta.Command) (*meta.Results, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, w.down
	}
	w.index++
	results, err := w.store.Apply(w.index, cmds)
	return &meta.Results{Index: w.index, Results: results}, err
}

func (w *world) Read(_ context.Context, q meta.Query) (*meta.Answer, error) {
	w.mu.Lock()
	down := w.down
	w.mu.Unlock()
	if down != nil {
		return nil, down
	}
	v := w.store.View()
	defer v.Close()
	return objects.Ask(v, q)
}

func (w *world) Put(ctx context.Context, _ string, _ chunkstore.PutOptions, chunks ...chunkstore.Chunk) error {
	if err := run.Sleep(ctx, w.takes); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range chunks {
		w.chunks[c.Digest] = slices.Clone(c.Data)
	}
	return nil
}

func (w *world) Get(_ context.Context, _, digest string, buf []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, ok := w.chunks[digest]
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "no chunk %s", digest)
	}
	return append(buf, data...), nil
}

func (w *world) Ref(context.Context, string, string, ...string) ([]string, error) { return nil, nil }

// client is Amazon's own.
func (w *world) client(change ...func(*sdk.Options)) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""), BaseEndpoint: aws.String(w.url), UsePathStyle: true, RetryMaxAttempts: 1,
	}, change...)
}

// bucket makes one and gives a client.
func (w *world) bucket(name string) *sdk.Client {
	w.t.Helper()
	c := w.client()
	if _, err := c.CreateBucket(w.t.Context(), &sdk.CreateBucketInput{Bucket: &name}); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// sign signs a request that a test made by itself.
func sign(r *http.Request, payload string, at time.Time) {
	r.Header.Set("X-Amz-Date", at.UTC().Format(timeFormat))
	r.Header.Set(contentSHA256, payload)
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	s := &signature{accessKey: accessKey, day: at.UTC().Format(dayFormat), region: "eu-west-1", stamp: at.UTC().Format(timeFormat), at: at.UTC()}
	s.signed = []string{"host"}
	for name := range r.Header {
		s.signed = append(s.signed, http.CanonicalHeaderKey(name))
	}
	for i := range s.signed {
		s.signed[i] = lower(s.signed[i])
	}
	slices.Sort(s.signed)
	key, _ := (&keyring{keys: map[string]grantedKey{accessKey: {secret: secretKey}}}).Key(context.Background(), api.SigningKeyRequest{AccessKey: accessKey, Date: s.day, Region: s.region})
	q, _ := parseParams(r.URL.RawQuery)
	text := s.toSign(algorithm, hashed(s.canonical(r, q, payload)))
	r.Header.Set("Authorization", algorithm+" Credential="+accessKey+"/"+s.scope()+", SignedHeaders="+join(s.signed)+", Signature="+hexed(mac(key.Key, text)))
}
