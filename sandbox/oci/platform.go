package oci

import (
	"context"
	"errors"
	"slices"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cloudless/cloudless/api"
)

// choose finds the manifest of this machine's platform under target, an index or a manifest. An
// index need not name platforms; then the image's configuration tells.
func choose(ctx context.Context, store content.Provider, target ocispec.Descriptor, shown string) (ocispec.Descriptor, error) {
	manifests, err := listManifests(ctx, store, target)
	if len(manifests) == 0 {
		if err == nil {
			err = errors.New("no manifest in it")
		}
		return target, classify(err, api.CodeInvalid, "%s holds no image that can be read: %w", shown, err)
	}
	want := platforms.Default()
	slices.SortStableFunc(manifests, func(a, b ocispec.Descriptor) int {
		switch {
		case want.Less(*a.Platform, *b.Platform):
			return -1
		case want.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	if best := manifests[0]; want.Match(*best.Platform) {
		return best, nil
	}
	var have []ocispec.Platform
	for _, m := range manifests {
		have = append(have, *m.Platform)
	}
	return target, errPlatform(shown, have)
}

// listManifests returns the manifests under desc with their platforms. One that cannot be read does
// not hide the others: a tarball may hold one platform of the several that its index names.
func listManifests(ctx context.Context, store content.Provider, desc ocispec.Descriptor) (found []ocispec.Descriptor, err error) {
	children, err := images.Children(ctx, store, desc)
	if err != nil {
		return nil, err
	}
	if images.IsManifestType(desc.MediaType) {
		for _, c := range children {
			if images.IsConfigType(c.MediaType) {
				p, err := images.ConfigPlatform(ctx, store, c)
				desc.Platform = &p
				return []ocispec.Descriptor{desc}, err
			}
		}
		return nil, nil
	}
	var errs []error
	for _, c := range children {
		if images.IsManifestType(c.MediaType) || images.IsIndexType(c.MediaType) {
			list, err := listManifests(ctx, store, c)
			if err == nil {
				found = append(found, list...)
			}
			errs = append(errs, err)
		}
	}
	return found, errors.Join(errs...)
}

func errPlatform(shown string, have []ocispec.Platform) error {
	var names []string
	for _, p := range have {
		if name := platforms.Format(platforms.Normalize(p)); name != "unknown/unknown" { // an attestation
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return api.Errorf(api.CodeInvalid, "%s is for %s, this node needs %s", shown,
		strings.Join(slices.Compact(names), ", "), platforms.Format(platforms.DefaultSpec()))
}

// configOf reads what an image wants, and refuses one for another machine: a registry's single
// manifest is fetched without a look at its platform.
func configOf(ctx context.Context, img containerd.Image, shown string) (ocispec.ImageConfig, error) {
	whole, err := img.Spec(ctx)
	if err != nil {
		return ocispec.ImageConfig{}, classify(err, api.CodeInvalid, "image %s: its configuration cannot be read: %w", shown, err)
	}
	if whole.OS != "" && !platforms.Default().Match(whole.Platform) {
		return ocispec.ImageConfig{}, errPlatform("image "+shown, []ocispec.Platform{whole.Platform})
	}
	return whole.Config, nil
}
