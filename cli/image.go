package cli

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudless/cloudless/api"
)

// maxImageJSON bounds what of a tarball is held in memory: its small JSON documents.
const (
	maxImageJSON  = 1 << 20
	maxImageFiles = 4096
)

// imageFiles are the JSON documents of an image tarball (OCI layout or docker save) by name.
type imageFiles map[string][]byte

// imagePort reads the first EXPOSE of an image tarball from its configuration; 0 when it has none.
func imagePort(file string) (int, error) {
	docs, err := readImage(file)
	if err != nil {
		return 0, err
	}
	config, ok := docs.config()
	if !ok {
		return 0, api.Errorf(api.CodeUnsupMedia, "%s is not an image tarball: it has neither index.json nor manifest.json", file).
			WithHint("make one with 'docker save' or 'skopeo copy … oci-archive:'")
	}
	return config.port(), nil
}

func readImage(file string) (imageFiles, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	docs := imageFiles{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, api.Errorf(api.CodeUnsupMedia, "%s is not a tarball: %w", file, err)
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxImageJSON || len(docs) >= maxImageFiles {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, api.Errorf(api.CodeUnsupMedia, "%s is cut short: %w", file, err)
		}
		if len(data) > 0 && data[0] == '{' || len(data) > 0 && data[0] == '[' {
			docs[path.Clean(h.Name)] = data
		}
	}
}

type descriptor struct {
	Digest   string `json:"digest"`
	Platform *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
}

type imageConfig struct {
	Config struct {
		ExposedPorts map[string]json.RawMessage
	} `json:"config"`
}

func (d imageFiles) read(name string, into any) bool {
	data, ok := d[path.Clean(name)]
	return ok && json.Unmarshal(data, into) == nil
}

func (d imageFiles) blob(digest string, into any) bool {
	algorithm, hash, _ := strings.Cut(digest, ":")
	return d.read("blobs/"+algorithm+"/"+hash, into)
}

// config finds the image configuration by either of the two indexes.
func (d imageFiles) config() (imageConfig, bool) {
	var c imageConfig
	var saved []struct{ Config string }
	if d.read("manifest.json", &saved) && len(saved) > 0 && d.read(saved[0].Config, &c) {
		return c, true
	}
	var index struct{ Manifests []descriptor }
	if d.read("index.json", &index) {
		return d.follow(index.Manifests, 0)
	}
	return c, false
}

// follow goes through an index, and an index within it, to the first image that has a configuration.
func (d imageFiles) follow(manifests []descriptor, depth int) (imageConfig, bool) {
	for _, m := range manifests {
		var node struct {
			Config    descriptor
			Manifests []descriptor
		}
		if m.Platform != nil && m.Platform.OS == "unknown" || !d.blob(m.Digest, &node) {
			continue // an attestation, or a platform that is not in this tarball
		}
		var c imageConfig
		if node.Config.Digest != "" && d.blob(node.Config.Digest, &c) {
			return c, true
		}
		if depth < 2 {
			if c, ok := d.follow(node.Manifests, depth+1); ok {
				return c, true
			}
		}
	}
	return imageConfig{}, false
}

// port is the lowest exposed TCP port: a configuration keeps no order.
func (c imageConfig) port() int {
	var ports []int
	for key := range c.Config.ExposedPorts {
		number, protocol, _ := strings.Cut(key, "/")
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < 65536 && (protocol == "" || protocol == "tcp") {
			ports = append(ports, n)
		}
	}
	if len(ports) == 0 {
		return 0
	}
	return slices.Min(ports)
}
