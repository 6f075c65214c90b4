package config

import (
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/errors"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds the size of a configuration file.
const maxFile = 1 << 20

// readFile reads the file at path: a mapping from keys to scalars.
func readFile(path string) (map[string]given, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.WithHint(errors.Mark(errors.Wrap(err, "configuration"), ErrConfig), "name an existing YAML file")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, errors.WithHint(errors.Mark(errors.Wrap(err, "configuration"), ErrConfig), "name a YAML file")
	}
	if len(data) > maxFile {
		return nil, errors.Wrapf(ErrConfig, "%s is larger than %d bytes", path, maxFile)
	}
	return parse(path, data)
}

// parse reads a configuration file's content; path is for messages.
func parse(path string, data []byte) (map[string]given, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, errors.WithHint(errors.Wrapf(ErrConfig, "%s: %v", path, err), "write one \"key: value\" a line")
	}
	values := map[string]given{}
	if doc.Kind == 0 || len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return values, nil // an empty file
	}
	at := func(n *yaml.Node) string { return fmt.Sprintf("%s:%d", path, n.Line) }
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, errors.WithHint(errors.Wrapf(ErrConfig, "%s: no mapping of keys to values", at(root)), "write one \"key: value\" a line")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		if k.Kind != yaml.ScalarNode || v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			return nil, errors.WithHint(errors.Wrapf(ErrConfig, "%s: %q has no plain value", at(k), k.Value), "write one \"key: value\" a line; lists and sections are not used")
		}
		name := key(k.Value)
		if old, dup := values[name]; dup {
			return nil, errors.Wrapf(ErrConfig, "%s: %q is set already at %s", at(k), name, old.origin.Detail)
		}
		values[name] = given{v.Value, Origin{LayerFile, at(k)}}
	}
	return values, nil
}
