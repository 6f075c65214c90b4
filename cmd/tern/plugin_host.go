package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/backends/gpu"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// pluginScheme begins the spec of a plugin: plugin:NAME or plugin:NAME:options.
const pluginScheme = "plugin"

// pluginHost opens the plugins that specs name, one process each, when they are
// first needed.
type pluginHost struct {
	a      *app
	ctx    context.Context
	given  []string                      // --plugin NAME=PATH
	dev    []string                      // --plugin-dev NAME=DIR
	accept bool                          // --accept-plugin
	outer  struct{ given, dev []string } // of the command around tern plugin dev

	mu    sync.Mutex
	open  map[string]*openPlugin
	built []string                // binaries of --plugin-dev, removed at the end
	of    map[string]plugins.Info // the plugins of backends that start them by themselves, by the backends' names
}

// openPlugin is a process that runs.
type openPlugin struct {
	*plugins.Client
	source string // the directory that it was built from, "" for a pinned one
}

// newPluginHost returns the host of a command, which ends with ctx, and has specs
// of plugins mean its.
func newPluginHost(ctx context.Context, a *app) *pluginHost {
	delegate()
	h := &pluginHost{a: a, ctx: ctx}
	hosts.Store(h)
	gpu.UseStore(h.store)
	return h
}

// brought notes the plugin of a backend that started it by itself.
func (h *pluginHost) brought(be framework.Backend) {
	p, ok := be.(interface{ Plugin() plugins.Info })
	if h == nil || !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[string]plugins.Info{}
	}
	h.of[be.Name()] = p.Plugin()
}

func (h *pluginHost) addTo(fs *pflag.FlagSet) {
	fs.StringArrayVar(&h.given, "plugin", nil, "NAME=PATH: the binary that plugin:NAME means (repeat for more)")
	fs.StringArrayVar(&h.dev, "plugin-dev", nil, "NAME=DIR: the Go package that plugin:NAME is built from, without a pin (repeat for more)")
	fs.BoolVar(&h.accept, "accept-plugin", false, "go on with a checkpoint although its plugin is another version or binary now")
}

// hosts holds the host of the command that runs.
var hosts atomic.Pointer[pluginHost]

// delegate makes the registries ask the host for specs of plugins.
var delegate = sync.OnceFunc(func() {
	framework.Quantizers.Delegate(pluginScheme, func(rest string) (framework.Quantizer, error) {
		return openPart(rest, plugins.KindQuantizer, (*plugins.Client).Quantizer)
	})
	framework.Residuals.Delegate(pluginScheme, func(rest string) (framework.Residual, error) {
		return openPart(rest, plugins.KindResidual, (*plugins.Client).Residual)
	})
	framework.Backends.Delegate(pluginScheme, func(rest string) (framework.Backend, error) {
		return openPart(rest, plugins.KindBackend, (*plugins.Client).Backend)
	})
})

// openPart opens what a plugin serves; rest is NAME or NAME:options.
func openPart[T any](rest string, kind plugins.Kind, open func(*plugins.Client, string) (T, error)) (T, error) {
	var none T
	h := hosts.Load()
	if h == nil {
		return none, errors.AssertionFailedf("no host of plugins")
	}
	name, options, _ := strings.Cut(rest, ":")
	p, err := h.dial(name)
	if err != nil {
		return none, err
	}
	if is := p.Info().Kind; is != kind {
		return none, usagef("use it as --"+flagOf(is)+" plugin:"+name, "plugin %s is a %s, not a %s", name, is, kind)
	}
	return open(p.Client, options)
}

// flagOf is the flag that takes a kind of plugin.
func flagOf(kind plugins.Kind) string {
	if kind == plugins.KindQuantizer {
		return "quant"
	}
	return string(kind)
}

// store is where plugins lie.
func (h *pluginHost) store() (*store.Store, error) {
	return store.Open(h.a.getenv(store.Variable), slices.Concat(h.given, h.outer.given))
}

// dial returns the process of a plugin, started if it was not.
func (h *pluginHost) dial(name string) (*openPlugin, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.open[name]; p != nil {
		return p, nil
	}
	p, err := h.start(name)
	if err != nil {
		return nil, err
	}
	if h.open == nil {
		h.open = map[string]*openPlugin{}
	}
	h.open[name] = p
	return p, nil
}

// start starts a plugin from source, or its pinned binary.
func (h *pluginHost) start(name string) (*openPlugin, error) {
	for _, d := range slices.Concat(h.dev, h.outer.dev) {
		if n, dir, ok := strings.Cut(d, "="); !ok || dir == "" {
			return nil, usagef("write NAME=DIR", "--plugin-dev %s", d)
		} else if n == name {
			return h.startSource(name, dir)
		}
	}
	s, err := h.store()
	if err != nil {
		return nil, err
	}
	found, pin, err := s.Resolve(name)
	if err != nil {
		return nil, err
	}
	c, err := plugins.Dial(h.ctx, plugins.DialOptions{Name: name, Path: found.Path, SHA256: pin.SHA256})
	if errors.Is(err, plugins.ErrPin) {
		err = errors.WithHint(err, found.Accept())
	}
	if err != nil {
		return nil, err
	}
	return &openPlugin{Client: c}, nil
}

// startSource builds and starts a plugin.
func (h *pluginHost) startSource(name, dir string) (*openPlugin, error) {
	binary, err := h.build(dir)
	if err != nil {
		return nil, errors.Wrapf(err, "plugin %s", name)
	}
	h.a.note("warning: plugin %s runs from source in %s, not from a pinned binary: such runs are for development", name, dir)
	c, err := plugins.Dial(h.ctx, plugins.DialOptions{Name: name, Path: binary})
	if err != nil {
		return nil, err
	}
	return &openPlugin{c, dir}, nil
}

// close ends all processes.
func (h *pluginHost) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	for _, name := range slices.Sorted(maps.Keys(h.open)) {
		err = errors.CombineErrors(err, h.open[name].Close())
	}
	for _, b := range h.built {
		err = errors.CombineErrors(err, os.RemoveAll(b))
	}
	h.open, h.built = nil, nil
	return err
}
