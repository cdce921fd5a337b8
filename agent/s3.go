package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/chunkstore/s3"
)

// Bounds of the S3 door.
const (
	maxS3Conns = 1_024
	keyTimeout = 5 * time.Second // to ask the coordinators for a key, all of them
)

// s3Keys asks the coordinators what an access key is good for.
type s3Keys struct{ sessions *sessions }

// Key implements s3.Keys.
func (k s3Keys) Key(ctx context.Context, r api.SigningKeyRequest) (*api.SigningKey, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	var key api.SigningKey
	if err := k.sessions.ask(ctx, api.PathStoreKey, r, &key, true); err != nil {
		return nil, err
	}
	return &key, nil
}

// s3Door is the S3 API over the object store.
func (a *Agent) s3Door() http.Handler {
	return s3.New(s3.Config{Backend: a.gateway, Keys: s3Keys{a.sessions}, Domains: a.cfg.S3Domains, Observe: a.observeS3, Log: a.log})
}

// observeS3 counts a request of S3, beside what it does in the store.
func (a *Agent) observeS3(operation string, status int, took time.Duration) {
	result := "ok"
	if status >= http.StatusBadRequest {
		result = "error"
	}
	if operation == "" {
		operation = "refused"
	}
	a.cfg.Tel.Metrics.StorageOperations.Inc("s3_"+operation, result)
	a.cfg.Tel.Metrics.StorageOperationDuration.Observe(took.Seconds(), "s3_"+operation)
}
