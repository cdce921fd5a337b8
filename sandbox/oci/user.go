package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/sys/user"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cloudless/cloudless/api"
)

// defaultPath is a container's PATH if its image sets no variable at all.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// withImage takes over the image's environment and working folder.
func withImage(cfg ocispec.ImageConfig) oci.SpecOpts {
	env, dir := cfg.Env, cfg.WorkingDir
	if len(env) == 0 {
		env = []string{defaultPath}
	}
	if dir == "" {
		dir = "/"
	}
	return oci.Compose(oci.WithEnv(env), oci.WithProcessCwd(dir))
}

// withUser sets the user and its groups, looked up in the image's own /etc/passwd and /etc/group.
// containerd has options for this, but they can execute a text/template, which makes the linker keep
// every method of the program (docs/RATIONALE.md).
func withUser(name, image string) oci.SpecOpts {
	return func(ctx context.Context, client oci.Client, c *containers.Container, s *oci.Spec) error {
		mounts, err := client.SnapshotService(c.Snapshotter).Mounts(ctx, c.SnapshotKey)
		if err != nil {
			return err
		}
		root, err := viewOf(mounts)
		if err != nil {
			return err
		}
		users, err := lookUsers(root)
		if err != nil {
			return api.Errorf(api.CodeInvalid, "image %s: %w", image, err)
		}
		who, err := users.find(name)
		if err != nil {
			return api.Errorf(api.CodeInvalid, "image %s: %w", image, err).
				WithHint("set spec.container.user to a user of the image, or to numbers: 1000 or 1000:1000")
		}
		s.Process.User = who
		return nil
	}
}

// accounts are an image's users and groups.
type accounts struct {
	users  []user.User
	groups []user.Group
}

// lookUsers reads both files. An image may have neither.
func lookUsers(root rootView) (accounts, error) {
	var a accounts
	passwd, err := root.read("etc/passwd")
	if err == nil {
		a.users, err = user.ParsePasswd(bytes.NewReader(passwd))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	group, err := root.read("etc/group")
	if err == nil {
		a.groups, err = user.ParseGroup(bytes.NewReader(group))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	return a, nil
}

// find resolves USER or USER:GROUP, each a name or a number; "" is root. A number need not be in the
// files, a name must. The group is the user's own unless one is named.
func (a accounts) find(name string) (specs.User, error) {
	if name == "" {
		name = "0:0"
	}
	name, group, hasGroup := strings.Cut(name, ":")
	u, err := a.user(name)
	if err != nil {
		return specs.User{}, err
	}
	who := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	if hasGroup {
		if who.GID, err = a.group(group); err != nil {
			return specs.User{}, err
		}
	}
	who.AdditionalGids = a.groupsOf(u.Name, who.GID)
	return who, nil
}

func (a accounts) user(name string) (user.User, error) {
	id, numeric, err := number(name)
	if err != nil {
		return user.User{}, err
	}
	at := slices.IndexFunc(a.users, func(u user.User) bool { return numeric && u.Uid == id || !numeric && u.Name == name })
	switch {
	case at >= 0 && inRange(a.users[at].Uid) && inRange(a.users[at].Gid):
		return a.users[at], nil
	case at < 0 && numeric:
		return user.User{Uid: id}, nil
	}
	return user.User{}, fmt.Errorf("its /etc/passwd has no user %q", name)
}

func (a accounts) group(name string) (uint32, error) {
	id, numeric, err := number(name)
	if err != nil || numeric {
		return uint32(id), err
	}
	at := slices.IndexFunc(a.groups, func(g user.Group) bool { return g.Name == name && inRange(g.Gid) })
	if at < 0 {
		return 0, fmt.Errorf("its /etc/group has no group %q", name)
	}
	return uint32(a.groups[at].Gid), nil
}

// groupsOf is the main group and those that list the user.
func (a accounts) groupsOf(name string, gid uint32) []uint32 {
	gids := []uint32{gid}
	for _, g := range a.groups {
		listed := name != "" && g.Name != name && slices.Contains(g.List, name)
		if listed && inRange(g.Gid) && !slices.Contains(gids, uint32(g.Gid)) {
			gids = append(gids, uint32(g.Gid))
		}
	}
	return gids
}

// number reads an id. runc takes none above 2^31-1.
func number(s string) (id int, numeric bool, err error) {
	id, err = strconv.Atoi(s)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && !inRange(id):
		return 0, true, fmt.Errorf("user or group %q is out of range", s)
	case err != nil:
		return 0, false, nil
	}
	return id, true, nil
}

func inRange(id int) bool { return id >= 0 && id <= math.MaxInt32 }
