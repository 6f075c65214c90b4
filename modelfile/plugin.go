package modelfile

import "github.com/ternlm/tern/formats/gguf"

// Plugin says which plugin a model was made with. What stands in a file is a
// claim, for people.
type Plugin struct {
	Kind    string `json:"kind"` // quantizer or residual
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the binary, in hexadecimal
}

// pluginKinds are the kinds of plugins that a model is made with.
var pluginKinds = []string{"quantizer", "residual"}

func pluginKey(kind, what string) string { return "tern.plugin." + kind + "." + what }

func (p Plugin) keys() []gguf.KV {
	return []gguf.KV{
		{Key: pluginKey(p.Kind, "name"), Value: p.Name},
		{Key: pluginKey(p.Kind, "version"), Value: p.Version},
		{Key: pluginKey(p.Kind, "sha256"), Value: p.SHA256},
	}
}

// readPlugins reads the keys of Plugin; what is no string is empty.
func readPlugins(m gguf.Metadata) (list []Plugin) {
	text := func(key string) string {
		s, err := m.String(key)
		if err != nil {
			return ""
		}
		return s
	}
	for _, kind := range pluginKinds {
		p := Plugin{kind, text(pluginKey(kind, "name")), text(pluginKey(kind, "version")), text(pluginKey(kind, "sha256"))}
		if p.Name != "" {
			list = append(list, p)
		}
	}
	return list
}
