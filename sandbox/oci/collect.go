package oci

import (
	"context"
	"slices"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/cloudless/cloudless/api"
)

const (
	// labelUsed says when an image was last prepared or started, by any agent of the daemon.
	labelUsed = "cloudless.io/used"
	// noteUsed is how old that may become before it is written again.
	noteUsed = 10 * time.Minute
	// imageGrace keeps an image that was used a while ago: an agent that shares the daemon may be about
	// to start it.
	imageGrace = time.Hour
	// maxImageBytes, and a share of the disk, bound what images may hold, unpacked.
	maxImageBytes  = 16 << 30
	imageDiskShare = 4
)

// stored is an image of our namespace, as far as its removal is concerned.
type stored struct {
	name   string
	used   time.Time
	bytes  int64
	needed bool // a container was made of it, or an assignment names it
}

// surplus is what to remove so that the rest is within limit: the longest unused first, and nothing
// that is needed or was used within imageGrace. Layers that images share are counted for each.
func surplus(all []stored, limit int64, now time.Time) []string {
	var total int64
	for _, i := range all {
		total += i.bytes
	}
	slices.SortFunc(all, func(a, b stored) int { return a.used.Compare(b.used) })
	var names []string
	for _, i := range all {
		if total <= limit {
			break
		}
		if !i.needed && now.Sub(i.used) >= imageGrace {
			names = append(names, i.name)
			total -= i.bytes
		}
	}
	return names
}

// imageLimit is the bound on a disk of so many bytes.
func imageLimit(disk int64) int64 {
	if disk <= 0 {
		return maxImageBytes
	}
	return min(maxImageBytes, disk/imageDiskShare)
}

func diskOf(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Blocks) * int64(st.Bsize) //nolint:unconvert // its type differs between architectures
}

// Trim implements sandbox.Trimmer: images that nothing needs go when they are over the bound.
func (d *Driver) Trim(ctx context.Context, keep map[string]bool) error {
	if d.client == nil {
		return nil
	}
	ctx = d.scope(ctx)
	all, err := d.stored(ctx, keep)
	if err != nil {
		return classify(err, api.CodeInternal, "images cannot be listed: %w", err)
	}
	for _, name := range surplus(all, d.imageLimit, time.Now()) {
		if err := d.removeImage(ctx, name); err != nil {
			return classify(err, api.CodeInternal, "image %s cannot be removed: %w", name, err)
		}
		d.log.Info().Str("image", name).Msg("unused image removed")
	}
	return nil
}

// stored lists the images of our namespace, whichever agent has brought them.
func (d *Driver) stored(ctx context.Context, keep map[string]bool) ([]stored, error) {
	containers, err := d.client.ContainerService().List(ctx)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for _, c := range containers {
		needed[c.Image] = true
	}
	for name := range keep {
		needed[keptName(name)] = true
	}
	list, err := d.client.ListImages(ctx)
	if err != nil {
		return nil, err
	}
	var all []stored
	for _, img := range list {
		bytes, err := img.Usage(ctx, containerd.WithSnapshotUsage())
		if err != nil && !errdefs.IsNotFound(err) { // not all of it is here: it counts with what is known
			return nil, err
		}
		all = append(all, stored{name: img.Name(), used: usedAt(img.Metadata()), bytes: bytes, needed: needed[img.Name()]})
	}
	return all, nil
}

// keptName is the image's name in containerd of what a spec names: a digest of our store or a
// reference.
func keptName(spec string) string {
	if api.IsDigest(spec) {
		return storeName(spec)
	}
	ref, err := parseReference(spec)
	if err != nil {
		return spec
	}
	return ref.String()
}

func usedAt(img images.Image) time.Time {
	if t, err := time.Parse(time.RFC3339, img.Labels[labelUsed]); err == nil {
		return t
	}
	return img.CreatedAt
}

// noteUse writes down that an image is used now. That it cannot be written only makes the image look
// older than it is.
func (d *Driver) noteUse(ctx context.Context, img containerd.Image) {
	now := time.Now().UTC()
	if now.Sub(usedAt(img.Metadata())) < noteUsed && img.Labels()[labelUsed] != "" {
		return
	}
	used := images.Image{Name: img.Name(), Labels: map[string]string{labelUsed: now.Format(time.RFC3339)}}
	if _, err := d.client.ImageService().Update(ctx, used, "labels."+labelUsed); err != nil {
		d.log.Debug().Err(err).Str("image", img.Name()).Msg("use of the image not noted")
	}
}

// removeImage drops the name; containerd then collects what no other image or container holds.
func (d *Driver) removeImage(ctx context.Context, name string) error {
	unlock, err := d.keys.lock(ctx, "image "+name)
	if err != nil {
		return err
	}
	defer unlock()
	err = d.client.ImageService().Delete(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil // another agent was quicker
	}
	return err
}
