package manifest

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v4"
)

// YAML writes a value with its JSON names, in the order of its JSON.
func YAML(v any) ([]byte, error) {
	data, err := encodeJSON(v)
	if err != nil {
		return nil, err
	}
	var n yaml.Node
	if err := yaml.Load(data, &n); err != nil {
		return nil, err
	}
	plain(&n)
	return yaml.Dump(&n)
}

// encodeJSON leaves "<" and "&" alone, which the YAML reader would keep as escapes otherwise.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// plain drops JSON's brackets and quotes; the writer quotes again what would read as something else.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}
