package gpu

import (
	"context"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/plugins"
)

// Name is the backend's.
const Name = "gpu"

// pluginName is what stands behind tern-plugin-.
const pluginName = "cuda"

// Options lists what may stand behind "gpu:" in a spec: device, a number from 0;
// precision, bf16 (the default) or f32; libraries, a directory in which libcuda,
// NVRTC and cuBLASLt are looked for first; cache, a directory for compiled
// kernels; generate, auto or never: whether chains of elementwise ops become
// kernels of their own. What the values mean, and which are allowed, the plugin
// says.
func Options() []string { return []string{"device", "precision", "libraries", "cache", "generate"} }

func init() {
	framework.Backends.Register(Name, func(o framework.Options) (framework.Backend, error) { return open(here(), o) })
}

// Spec writes the short form of a device out: "gpu:1,precision=f32" is
// "gpu:device=1,precision=f32". Other specs are returned as they are.
func Spec(spec string) string {
	name, rest, _ := strings.Cut(spec, ":")
	first, _, _ := strings.Cut(rest, ",")
	if name != Name || first == "" || strings.Trim(first, "0123456789") != "" {
		return spec
	}
	return name + ":device=" + rest
}

// open starts the plugin that f finds and opens its device.
func open(f finder, o framework.Options) (framework.Backend, error) {
	var fields []string
	for _, key := range Options() {
		if v := o.String(key, ""); v != "" {
			fields = append(fields, key+"="+v)
		}
	}
	if err := o.Unused(); err != nil { // before a process is started for nothing
		return nil, err
	}
	program, err := f.find()
	if err != nil {
		return nil, err
	}
	// The process is this backend's alone: what it takes of the device's memory is
	// free when it is closed.
	c, err := plugins.Dial(context.Background(), plugins.DialOptions{Name: pluginName, Path: program.path, SHA256: program.sha256})
	if err != nil {
		return nil, err
	}
	be, err := c.Backend(strings.Join(fields, ","))
	if err != nil {
		return nil, errors.CombineErrors(err, c.Close())
	}
	return wrap(be, c), nil
}

// backend is the plugin's, under this package's name, with its process.
type backend struct {
	framework.Backend
	client *plugins.Client
}

// measured is one that says what a graph takes and what is free.
type measured struct {
	*backend
	estimator framework.Estimator
	memory    framework.OwnMemory
}

// wrap gives be the optional interfaces that it has.
func wrap(be framework.Backend, c *plugins.Client) framework.Backend {
	b := &backend{be, c}
	e, estimates := be.(framework.Estimator)
	m, remembers := be.(framework.OwnMemory)
	if !estimates || !remembers {
		return b // nothing is refused beforehand: the device itself says when it is full
	}
	return measured{b, e, m}
}

// Name is "gpu".
func (b *backend) Name() string { return Name }

// Describe implements framework.Describer.
func (b *backend) Describe() framework.Info {
	info := framework.Info{}
	if d, ok := b.Backend.(framework.Describer); ok {
		info = d.Describe()
	}
	info.Name = Name
	return info
}

// Plugin says which program computes.
func (b *backend) Plugin() plugins.Info { return b.client.Info() }

// Close frees the device and ends the process.
func (b *backend) Close() error { return errors.CombineErrors(b.Backend.Close(), b.client.Close()) }

// Estimate implements framework.Estimator.
func (m measured) Estimate(g *graph.Graph) (int64, error) { return m.estimator.Estimate(g) }

// Memory implements framework.OwnMemory.
func (m measured) Memory() (free, total int64, err error) { return m.memory.Memory() }
