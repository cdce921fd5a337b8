package oci

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cloudless/cloudless/api"
	"github.com/cloudless/cloudless/sandbox"
)

// importTimeout bounds one image, from a tarball or a registry.
const importTimeout = 10 * time.Minute

// Prepare imports or pulls the image, unpacks it, and refuses what Start would refuse of it.
func (d *Driver) Prepare(ctx context.Context, spec sandbox.Spec) error {
	if err := d.ready(); err != nil {
		return err
	}
	ctx = d.scope(ctx)
	img, err := d.image(ctx, spec, true)
	if err != nil {
		return err
	}
	cfg, err := configOf(ctx, img, spec.Container.Image)
	if err != nil {
		return err
	}
	if isRoot(cmp.Or(spec.Container.User, cfg.User)) && !spec.Container.RunAsRoot {
		return errRoot(spec.Container.Image)
	}
	_, err = command(cfg, spec.Container)
	return err
}

// image returns the unpacked image of spec. With fresh, a :latest tag is looked up again.
func (d *Driver) image(ctx context.Context, spec sandbox.Spec, fresh bool) (containerd.Image, error) {
	if spec.Container == nil {
		return nil, api.Errorf(api.CodeInvalid, "the replica is no container")
	}
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	name := storeName(spec.Digest)
	load := func() (containerd.Image, error) { return d.importTarball(ctx, name, spec.Artifact) }
	if spec.Artifact == "" {
		ref, err := parseReference(spec.Container.Image)
		if err != nil {
			return nil, err
		}
		name, load = ref.String(), func() (containerd.Image, error) { return d.pull(ctx, ref.String(), fresh) }
		fresh = fresh && isLatest(ref)
	} else {
		fresh = false // content is named by its digest
	}
	unlock, err := d.keys.lock(ctx, "image "+name)
	if err != nil {
		return nil, api.Errorf(api.CodeTimeout, "waiting for image %s: %w", name, err)
	}
	defer unlock()
	img, err := d.client.GetImage(ctx, name)
	if err != nil || fresh {
		if img, err = load(); err != nil {
			return nil, err
		}
	}
	d.noteUse(ctx, img)
	return img, d.unpack(ctx, img, spec.Container.Image)
}

// storeName is the name of an image that came as a tarball from the cluster's own store.
func storeName(digest string) string { return "cloudless.local/" + digest }

func (d *Driver) unpack(ctx context.Context, img containerd.Image, shown string) error {
	done, err := img.IsUnpacked(ctx, d.snapshotter)
	if err == nil && !done {
		err = img.Unpack(ctx, d.snapshotter)
	}
	if err != nil {
		return classify(err, api.CodeInternal, "image %s cannot be unpacked: %w", shown, err)
	}
	return nil
}

// importTarball loads an OCI layout or a docker save tarball, gzip or plain, under our own name. The
// names inside are ignored: they are the author's claim, and the daemon's namespace is shared.
func (d *Driver) importTarball(ctx context.Context, name, path string) (containerd.Image, error) {
	ctx, done, err := d.client.WithLease(ctx)
	if err != nil {
		return nil, classify(err, api.CodeInternal, "containerd: %w", err)
	}
	defer done(context.WithoutCancel(ctx))
	store := d.client.ContentStore()
	index, err := readArchive(ctx, store, path)
	if err != nil {
		return nil, err
	}
	manifest, err := choose(ctx, store, index, "the tarball")
	if err != nil {
		return nil, err
	}
	// Labels tie the parts together, so that containerd's collector keeps them.
	tie := images.SetChildrenLabels(store, images.ChildrenHandler(store))
	if err := images.WalkNotEmpty(ctx, tie, manifest); err != nil {
		return nil, classify(err, api.CodeInvalid, "the tarball is incomplete: %w", err)
	}
	return d.nameImage(ctx, images.Image{Name: name, Target: manifest})
}

func readArchive(ctx context.Context, store content.Store, path string) (ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, api.Errorf(api.CodeInternal, "image tarball: %w", err)
	}
	defer f.Close()
	plain, err := compression.DecompressStream(f)
	if err != nil {
		return ocispec.Descriptor{}, api.Errorf(api.CodeInvalid, "the file is no image tarball: %w", err)
	}
	defer plain.Close()
	index, err := archive.ImportIndex(ctx, store, io.LimitReader(plain, api.MaxArtifactBytes))
	if err != nil {
		return index, classify(err, api.CodeInvalid, "the file is no image tarball (an OCI layout or the output of docker save): %w", err)
	}
	return index, nil
}

func (d *Driver) nameImage(ctx context.Context, img images.Image) (containerd.Image, error) {
	made, err := d.client.ImageService().Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		made, err = d.client.ImageService().Update(ctx, img, "target")
	}
	if err != nil {
		return nil, classify(err, api.CodeInternal, "containerd: %w", err)
	}
	return containerd.NewImage(d.client, made), nil
}

// classify gives err a code: faults of the moment may pass, all others are as the caller says.
func classify(err error, otherwise api.Code, format string, args ...any) *api.Error {
	code := otherwise
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errdefs.IsDeadlineExceeded(err), errdefs.IsCanceled(err):
		code = api.CodeTimeout
	case errdefs.IsUnavailable(err):
		code = api.CodeUnavailable
	case strings.Contains(err.Error(), "no space left on device"):
		code = api.CodeNoRoom
	}
	return api.Errorf(code, format, args...)
}

func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}

func errRoot(image string) error {
	return api.Errorf(api.CodeInvalid, "image %s runs as root (uid 0)", image).
		WithHint("set spec.container.user to another user, or spec.container.runAsRoot: true")
}

// command is what runs: command replaces the image's entrypoint and its arguments, args replaces
// the arguments alone.
func command(img ocispec.ImageConfig, c *api.ContainerSpec) ([]string, error) {
	var argv []string
	switch {
	case len(c.Command) > 0:
		argv = slices.Concat(c.Command, c.Args)
	case len(c.Args) > 0:
		argv = slices.Concat(img.Entrypoint, c.Args)
	default:
		argv = slices.Concat(img.Entrypoint, img.Cmd)
	}
	if len(argv) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "image %s names no command", c.Image).WithHint("set spec.container.command")
	}
	return argv, nil
}
