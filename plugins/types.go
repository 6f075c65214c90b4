package plugins

import (
	"regexp"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/plugins/internal/process"
)

// Protocol is the version of the protocol between host and plugin.
const Protocol = process.Protocol

// Kind is what a plugin is.
type Kind string

// The kinds of plugin.
const (
	KindQuantizer Kind = "quantizer"
	KindResidual  Kind = "residual"
	KindBackend   Kind = "backend"
)

// Meta describes a plugin to people and to the host.
type Meta struct {
	Name    string   `json:"name"`    // lower-case letters, digits and dashes: what stands behind plugin: in a spec
	Version string   `json:"version"` // semantic version
	Help    string   `json:"help"`    // one sentence
	Options []Option `json:"options"` // its hyper-parameters
}

// Option is a hyper-parameter of a plugin.
type Option struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // "int", "float", "string" or "choice"
	Default string   `json:"default"`
	Choices []string `json:"choices,omitempty"`
	Help    string   `json:"help"`
}

// Quantizer is a plugin of that kind: Open makes one by the options of a spec.
type Quantizer struct {
	Meta
	Open func(framework.Options) (framework.Quantizer, error)
}

// Residual is a plugin of that kind.
type Residual struct {
	Meta
	Open func(framework.Options) (framework.Residual, error)
}

// Backend is a plugin of that kind.
type Backend struct {
	Meta
	Open func(framework.Options) (framework.Backend, error)
}

// Info is what a plugin says of itself, and where it is.
type Info struct {
	Kind Kind `json:"kind"`
	Meta
	Protocol int    `json:"protocol"`
	Path     string `json:"path"`
	SHA256   string `json:"sha256"` // of the program, in hexadecimal
}

var (
	validName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	validVersion = regexp.MustCompile(`^v?(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})([-+][0-9A-Za-z.+-]{1,64})?$`)
	validOption  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
)

// Check reports the first thing that is wrong with m.
func (m Meta) Check() error {
	bad := func(hint, format string, args ...any) error {
		return errors.WithHint(errors.Wrapf(ErrPlugin, format, args...), hint)
	}
	switch {
	case !validName.MatchString(m.Name):
		return bad("a name is lower-case letters, digits and dashes, 64 at most", "name %.80q", m.Name)
	case !validVersion.MatchString(m.Version):
		return bad("a version is like 0.1.0", "version %.80q", m.Version)
	case len(m.Help) > 1000:
		return bad("one sentence is enough", "help of %d bytes", len(m.Help))
	case len(m.Options) > 64:
		return bad("64 are allowed", "%d options", len(m.Options))
	}
	for _, o := range m.Options {
		switch {
		case !validOption.MatchString(o.Name):
			return bad("a name is lower-case letters, digits, dashes and underscores", "option %.80q", o.Name)
		case !slices.Contains([]string{"int", "float", "string", "choice"}, o.Type):
			return bad("int, float, string or choice", "option %s: type %.80q", o.Name, o.Type)
		case o.Type == "choice" && (len(o.Choices) == 0 || len(o.Choices) > 64):
			return bad("list them", "option %s: %d choices", o.Name, len(o.Choices))
		case len(o.Help) > 1000 || len(o.Default) > 200:
			return bad("one sentence is enough", "option %s: help or default is too long", o.Name)
		}
	}
	return nil
}
