package plugins

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/fragment"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// Quantizer opens the quantizer of a plugin of that kind. options are those of
// its spec, such as "group=64,scale=f16", or "". What it returns implements
// framework.Surrogate where the plugin's does.
func (c *Client) Quantizer(options string) (framework.Quantizer, error) {
	if err := c.wantKind(KindQuantizer); err != nil {
		return nil, err
	}
	api := wire.NewQuantizerClient(c.conn)
	var r *wire.OpenQuantizerReply
	err := c.do(context.Background(), "open", c.call, func(ctx context.Context) (err error) {
		r, err = api.Open(ctx, &wire.OpenRequest{Options: options})
		return err
	})
	if err != nil {
		return nil, err
	}
	q := remoteQuantizer{c: c, api: api, options: r.GetOptions(), format: formatOf(r.GetFormat())}
	if err := q.format.Check(); err != nil {
		return nil, c.fault("open", errors.WithHint(err, "see what Format of the plugin returns"))
	}
	if err := checkOptions(q.options); err != nil {
		return nil, c.fault("open", err)
	}
	if r.GetSurrogate() {
		return remoteSurrogate{q}, nil
	}
	return q, nil
}

// remoteQuantizer is a quantizer that answers from another process.
type remoteQuantizer struct {
	c       *Client
	api     wire.QuantizerClient
	options string
	format  framework.Format
}

// Spec is plugin:NAME with the options that the plugin's own spec has.
func (q remoteQuantizer) Spec() string { return q.c.spec(q.options) }

// Program implements framework.Foreign.
func (q remoteQuantizer) Program() string { return q.c.label() }

// Format returns the format that the plugin has told.
func (q remoteQuantizer) Format() framework.Format {
	f := q.format
	f.Levels = slices.Clone(f.Levels)
	return f
}

// Pack inlines the fragment that the plugin has for a weight of this size.
func (q remoteQuantizer) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	out := q.pack(b, w, false)
	return out[0], out[1]
}

func (q remoteQuantizer) pack(b *graph.Builder, w graph.Value, params bool) []graph.Value {
	m, k := matrix(w)
	rows, cols, err := q.format.Scales(m, k)
	if err != nil {
		graph.Fail("%s: weight %v: %v", q.Spec(), w.Type(), err)
	}
	return q.c.inline(b, request{
		call: fmt.Sprintf("Pack of a weight %v", w.Type()),
		key:  fmt.Sprintf("pack|%s|%v", q.options, w.Type()),
		want: fragment.Want{
			Inputs:  []fragment.Port{{Name: "w", Type: w.Type()}},
			Outputs: []fragment.Port{{Name: "codes", Type: tensor.T(q.format.Code(), m, k)}, {Name: "scales", Type: tensor.T(tensor.F32, rows, cols)}},
			Params:  params, Reserved: ownNames,
		},
		ask: func(ctx context.Context) (*wire.Fragment, error) {
			return q.api.Pack(ctx, &wire.PackRequest{Options: q.options, Rows: int64(m), Cols: int64(k)})
		},
	}, w)
}

// ownNames are the states of a linear layer.
var ownNames = []string{"weight", "codes", "scales"}

// matrix returns the dimensions of a weight.
func matrix(w graph.Value) (m, k int) {
	if len(w.Shape()) != 2 || w.Type().DType != tensor.F32 {
		graph.Fail("weight is %v, wants f32 [M,K]", w.Type())
	}
	return w.Dim(0), w.Dim(1)
}

// remoteSurrogate is a remoteQuantizer whose gradient has another way.
type remoteSurrogate struct{ remoteQuantizer }

// Pack may read parameters that Surrogate declares.
func (q remoteSurrogate) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	out := q.pack(b, w, true)
	return out[0], out[1]
}

// Surrogate inlines the fragment that the gradient is taken of.
func (q remoteSurrogate) Surrogate(b *graph.Builder, w graph.Value) graph.Value {
	m, k := matrix(w)
	return q.c.inline(b, request{
		call: fmt.Sprintf("Surrogate of a weight %v", w.Type()),
		key:  fmt.Sprintf("surrogate|%s|%v", q.options, w.Type()),
		want: fragment.Want{
			Inputs:  []fragment.Port{{Name: "w", Type: w.Type()}},
			Outputs: []fragment.Port{{Name: "y", Type: w.Type()}},
			Params:  true, Reserved: ownNames,
		},
		ask: func(ctx context.Context) (*wire.Fragment, error) {
			return q.api.Surrogate(ctx, &wire.PackRequest{Options: q.options, Rows: int64(m), Cols: int64(k)})
		},
	}, w)[0]
}

func formatOf(f *wire.Format) framework.Format {
	levels := make([]int8, 0, len(f.GetLevels()))
	for _, l := range f.GetLevels() {
		levels = append(levels, int8(l))
	}
	if len(levels) == 0 {
		levels = nil
	}
	return framework.Format{Bits: int(f.GetBits()), Levels: levels, Group: int(f.GetGroup()), F16: f.GetF16(), ActBits: int(f.GetActBits()), Density: f.GetDensity()}
}

// checkOptions refuses options that no spec could hold.
func checkOptions(options string) error {
	if len(options) > 1000 || strings.ContainsFunc(options, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
		return errors.Newf("canonical options %.80q", options)
	}
	_, _, err := framework.ParseSpec("plugin:" + options)
	return errors.Wrap(err, "canonical options")
}

// ServeQuantizer is the main of a quantizer plugin: it serves q until the host
// goes. With the argument describe it prints Info as JSON.
func ServeQuantizer(q Quantizer) {
	serve(KindQuantizer, q.Meta, func(s *grpc.Server) {
		wire.RegisterQuantizerServer(s, &quantizerServer{open: opener[framework.Quantizer]{open: q.Open}})
	})
}

// quantizerServer answers by tracing the author's code.
type quantizerServer struct {
	wire.UnimplementedQuantizerServer
	open opener[framework.Quantizer]
}

// Open tells the format of the quantizer of some options.
func (s *quantizerServer) Open(_ context.Context, r *wire.OpenRequest) (*wire.OpenQuantizerReply, error) {
	q, err := s.open.get(r.GetOptions())
	if err != nil {
		return nil, err
	}
	f := q.Format()
	levels := make([]byte, len(f.Levels))
	for i, l := range f.Levels {
		levels[i] = byte(l)
	}
	_, surrogate := q.(framework.Surrogate)
	return &wire.OpenQuantizerReply{
		Options:   optionsOf(q.Spec()),
		Format:    &wire.Format{Bits: int32(f.Bits), Levels: levels, Group: int32(f.Group), F16: f.F16, ActBits: int32(f.ActBits), Density: f.Density},
		Surrogate: surrogate,
	}, nil
}

// Pack traces Pack.
func (s *quantizerServer) Pack(_ context.Context, r *wire.PackRequest) (*wire.Fragment, error) {
	q, err := s.open.get(r.GetOptions())
	if err != nil {
		return nil, err
	}
	return trace(func(b *graph.Builder) {
		codes, scales := q.Pack(b, b.Input("w", tensor.F32, int(r.GetRows()), int(r.GetCols())))
		b.Output("codes", codes)
		b.Output("scales", scales)
	})
}

// Surrogate traces Surrogate.
func (s *quantizerServer) Surrogate(_ context.Context, r *wire.PackRequest) (*wire.Fragment, error) {
	q, err := s.open.get(r.GetOptions())
	if err != nil {
		return nil, err
	}
	sur, ok := q.(framework.Surrogate)
	if !ok {
		return nil, errors.Wrap(framework.ErrUnsupported, "the quantizer has no surrogate")
	}
	return trace(func(b *graph.Builder) {
		b.Output("y", sur.Surrogate(b, b.Input("w", tensor.F32, int(r.GetRows()), int(r.GetCols()))))
	})
}

// opener keeps what was opened, by options.
type opener[T any] struct {
	open func(framework.Options) (T, error)
	mu   sync.Mutex
	made map[string]T
}

// get opens by options.
func (o *opener[T]) get(options string) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v, ok := o.made[options]; ok {
		return v, nil
	}
	reg := framework.NewRegistry[T]("plugin")
	reg.Register("plugin", o.open)
	spec := "plugin"
	if options != "" {
		spec += ":" + options
	}
	v, err := reg.Open(spec)
	if err == nil {
		if o.made == nil || len(o.made) > 1000 {
			o.made = map[string]T{}
		}
		o.made[options] = v
	}
	return v, err
}

// optionsOf is what stands behind the name in a spec.
func optionsOf(spec string) string {
	_, options, _ := strings.Cut(spec, ":")
	return options
}

// trace runs fn on a fresh builder and returns the text of the graph.
func trace(fn func(*graph.Builder)) (*wire.Fragment, error) {
	g, err := graph.Trace(fn)
	if err != nil {
		return nil, err
	}
	return &wire.Fragment{Text: g.String()}, nil
}
