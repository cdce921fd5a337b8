package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cloudless/cloudless/api"
)

// maxManifestBytes is the largest index, manifest or configuration that is read from a registry to
// explain why an image does not fit.
const maxManifestBytes = 8 << 20

// parseReference reads an image reference as Docker does: "nginx" is docker.io/library/nginx:latest.
func parseReference(s string) (reference.Named, error) {
	ref, err := reference.ParseDockerRef(s)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%q is not an image reference: %w", s, err)
	}
	return ref, nil
}

func isLatest(ref reference.Named) bool {
	tagged, ok := ref.(reference.Tagged)
	return ok && tagged.Tag() == "latest"
}

// newResolver speaks plain HTTP with registries on this machine only.
func newResolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost)),
	})
}

// pull fetches ref. When the registry cannot be reached, an image of that name that is here already
// will do: a node that lost its uplink goes on.
func (d *Driver) pull(ctx context.Context, ref string, mayBeHere bool) (containerd.Image, error) {
	resolver := newResolver()
	name, target, err := resolver.Resolve(ctx, ref)
	if err != nil {
		failed := pullError(ref, err)
		if mayBeHere && failed.Code != api.CodeNotFound {
			if img, err := d.client.GetImage(ctx, ref); err == nil {
				return img, nil
			}
		}
		return nil, failed
	}
	img, err := d.client.Pull(ctx, ref, containerd.WithResolver(resolver))
	if err == nil {
		return img, nil
	}
	if fetcher, fetchErr := resolver.Fetcher(ctx, name); fetchErr == nil && errdefs.IsNotFound(err) {
		if _, err := choose(ctx, remoteContent{fetcher}, target, "image "+ref); err != nil {
			return nil, err
		}
	}
	return nil, pullError(ref, err)
}

func pullError(ref string, err error) *api.Error {
	switch {
	case errdefs.IsNotFound(err):
		return api.Errorf(api.CodeNotFound, "image %s does not exist: %w", ref, err)
	case errors.Is(err, docker.ErrInvalidAuthorization), strings.Contains(err.Error(), "authorization failed"):
		return api.Errorf(api.CodeNotFound, "image %s does not exist or needs credentials: %w", ref, err)
	}
	return classify(err, api.CodeUnavailable, "image %s cannot be pulled: %w", ref, err)
}

// remoteContent reads small blobs of a registry as if they were local.
type remoteContent struct{ fetcher remotes.Fetcher }

func (r remoteContent) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	body, err := r.fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	blob, err := io.ReadAll(io.LimitReader(body, maxManifestBytes))
	if err != nil {
		return nil, err
	}
	return blobReader{bytes.NewReader(blob)}, nil
}

type blobReader struct{ *bytes.Reader }

func (blobReader) Close() error { return nil }
