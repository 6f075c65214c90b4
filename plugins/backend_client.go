package plugins

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/plugins/internal/arena"
	"github.com/ternlm/tern/plugins/internal/process"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// Limits on calls of a backend, in units of DialOptions.Call.
const (
	compileCalls  = 20 // compiling
	firstRunCalls = 20 // the first run, which may compile kernels and lay out weights
	// slowRuns is how many times longer than the first run a later one may take.
	slowRuns = 20
	// slowest is the speed, in bytes a second, below which moving a tensor counts
	// as hanging.
	slowest = 16 << 20
	// maxNames bounds the states of a store.
	maxNames = 1 << 20
)

func init() { inherit = shareArena }

// shareArena makes the memory that a plugin inherits. Where there is none, the
// plugin gets no file, and tensors travel in streams.
func shareArena(c *Client) (files []*os.File, release func(), err error) {
	a, err := arena.New()
	if err != nil {
		return nil, func() {}, nil
	}
	c.inherited = a
	return []*os.File{a.File()}, func() { _ = a.Close() }, nil
}

// Backend opens the plugin's backend by the options of a spec, such as
// "threads=2", or "". Every open backend is a session of its own. Its errors are
// those of the framework (ErrUnsupported, ErrNoState, ErrMismatch, ErrClosed,
// ErrInput) and those of this package.
//
// A run copies its inputs to shared memory, makes one call and copies the
// outputs; it is killed with the plugin when it takes 20 times as long as the
// executable's first run, and at least DialOptions.Call. Where memory cannot be
// shared, tensors travel in chunks.
func (c *Client) Backend(options string) (framework.Backend, error) {
	if err := c.wantKind(KindBackend); err != nil {
		return nil, err
	}
	memory, _ := c.inherited.(*arena.Arena)
	return openBackend(backendLink{do: c.do, fault: c.fault, conn: c.conn, name: "plugin:" + c.name, label: c.label(), call: c.call, memory: memory}, options)
}

// backendLink is what a backend needs of a running plugin.
type backendLink struct {
	// do makes a call within a limit of time, after which the plugin is killed.
	do     func(ctx context.Context, call string, limit time.Duration, fn func(context.Context) error) error
	fault  func(call string, err error) error // an error that names the plugin
	conn   grpc.ClientConnInterface
	name   string        // in specs, with plugin: before it
	label  string        // in errors: name, version and path
	call   time.Duration // limit of a short call
	memory *arena.Arena  // shared with the plugin, or nil
}

// remoteBackend implements framework.Backend by calls.
type remoteBackend struct {
	backendLink
	api     wire.BackendClient
	session uint64
	ids     atomic.Uint64 // the last id given to anything
	info    framework.Info
	closed  atomic.Bool
}

// estimatingBackend is one whose plugin implements framework.Estimator.
type estimatingBackend struct{ *remoteBackend }

// ownMemory is what is added to one whose plugin implements framework.OwnMemory.
type ownMemory struct{ of *remoteBackend }

var (
	_ framework.Describer = (*remoteBackend)(nil)
	_ framework.Foreign   = (*remoteBackend)(nil)
	_ framework.Estimator = estimatingBackend{}
	_ framework.OwnMemory = ownMemory{}
	_ framework.Borrower  = (*remoteStore)(nil)
	_ framework.Reader    = (*remoteStore)(nil)
)

// openBackend opens a session.
func openBackend(l backendLink, options string) (framework.Backend, error) {
	b := &remoteBackend{backendLink: l, api: wire.NewBackendClient(l.conn)}
	for b.session == 0 {
		var id [8]byte
		_, _ = rand.Read(id[:]) // it never fails
		b.session = binary.LittleEndian.Uint64(id[:])
	}
	size := uint64(0)
	if l.memory != nil {
		size = l.memory.Size()
	}
	var r *wire.BackendOpenReply
	err := b.do(context.Background(), "open", firstRunCalls*b.call, func(ctx context.Context) (err error) {
		r, err = b.api.Open(ctx, &wire.BackendOpenRequest{Session: b.session, Options: options, Arena: size})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(r.GetNonce()) == 0 {
		b.memory = nil // the plugin has not got it
	} else if b.memory == nil || !bytes.Equal(r.GetNonce(), b.memory.Nonce()) {
		return nil, b.fault("open", errors.Wrap(ErrReply, "the shared memory is another one"))
	}
	b.info = framework.Info{
		Name: b.name, Device: printable(r.GetDevice()), Threads: int(min(max(r.GetThreads(), 0), 1<<20)),
		Native: printables(r.GetNative()), Notes: printables(r.GetNotes()),
	}
	return b.with(r.GetEstimates(), r.GetMemory()), nil
}

// with adds the optional interfaces that the plugin says that it implements.
func (b *remoteBackend) with(estimator, memory bool) framework.Backend {
	switch {
	case estimator && memory:
		return struct {
			estimatingBackend
			ownMemory
		}{estimatingBackend{b}, ownMemory{b}}
	case estimator:
		return estimatingBackend{b}
	case memory:
		return struct {
			*remoteBackend
			ownMemory
		}{b, ownMemory{b}}
	}
	return b
}

// printable is a short text of the plugin's, for people.
func printable(s string) string { return process.Printable(limit(s, 1000)) }

func printables(list []string) []string {
	out := make([]string, 0, min(len(list), 1000))
	for _, s := range list[:cap(out)] {
		out = append(out, printable(s))
	}
	return out
}

// short makes a call that moves n bytes and that a canceled ctx does not break
// off: the plugin may be at the shared memory until it answers.
func (b *remoteBackend) short(ctx context.Context, call string, n int, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return errors.Wrap(err, call)
	}
	if b.closed.Load() {
		return b.fault(call, framework.ErrClosed)
	}
	limit := b.call + time.Duration(float64(n)/slowest*float64(time.Second))
	return b.do(context.WithoutCancel(ctx), call, limit, fn)
}

// Name returns the name in specs, such as "plugin:scalar".
func (b *remoteBackend) Name() string { return b.name }

// Program implements framework.Foreign.
func (b *remoteBackend) Program() string { return b.label }

// Describe implements framework.Describer by what the plugin said when it was
// opened.
func (b *remoteBackend) Describe() framework.Info {
	info := b.info
	info.Native, info.Notes = slices.Clone(info.Native), slices.Clone(info.Notes)
	return info
}

// Close closes what the session holds in the plugin.
func (b *remoteBackend) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	return b.drop("close", func(ctx context.Context) error {
		_, err := b.api.Close(ctx, &wire.BackendRef{Session: b.session})
		return err
	})
}

// drop makes a call that frees something of the plugin's, all of which is free
// when the plugin has died.
func (b *remoteBackend) drop(call string, fn func(context.Context) error) error {
	err := b.do(context.Background(), call, b.call, fn)
	if errors.Is(err, ErrDied) || errors.Is(err, framework.ErrClosed) {
		return nil
	}
	return err
}

// Compile sends the text of g.
func (b *remoteBackend) Compile(ctx context.Context, g *graph.Graph) (framework.Executable, error) {
	if b.closed.Load() {
		return nil, b.fault("compile", framework.ErrClosed)
	}
	e := &remoteExecutable{b: b, id: b.ids.Add(1)}
	for _, n := range g.Inputs {
		e.in = append(e.in, n.Out[0])
	}
	for _, o := range g.Outputs {
		e.out = append(e.out, o.Value.Type())
	}
	err := b.do(ctx, "compile", compileCalls*b.call, func(ctx context.Context) error {
		stream, err := b.api.Compile(ctx)
		if err != nil {
			return err
		}
		return sendGraph(stream, b.session, e.id, g, func() error { _, err := stream.CloseAndRecv(); return err })
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Estimate implements framework.Estimator.
func (b estimatingBackend) Estimate(g *graph.Graph) (int64, error) {
	if b.closed.Load() {
		return 0, b.fault("estimate", framework.ErrClosed)
	}
	n := int64(0)
	err := b.do(context.Background(), "estimate", compileCalls*b.call, func(ctx context.Context) error {
		stream, err := b.api.Estimate(ctx)
		if err != nil {
			return err
		}
		return sendGraph(stream, b.session, 0, g, func() error {
			r, err := stream.CloseAndRecv()
			n = r.GetBytes()
			return err
		})
	})
	if err == nil && n < 0 {
		err = b.fault("estimate", errors.Wrapf(ErrReply, "%d bytes", n))
	}
	return n, err
}

// Memory implements framework.OwnMemory.
func (m ownMemory) Memory() (free, total int64, err error) {
	b := m.of
	err = b.short(context.Background(), "memory", 0, func(ctx context.Context) error {
		r, err := b.api.Memory(ctx, &wire.BackendRef{Session: b.session})
		free, total = r.GetFree(), r.GetTotal()
		return err
	})
	if err == nil && (free < 0 || free > total) {
		err = b.fault("memory", errors.Wrapf(ErrReply, "%d of %d bytes are free", free, total))
	}
	return free, total, err
}

// sendGraph sends the text of g in pieces and ends with last, whose error is
// also that of a stream that breaks off.
func sendGraph(to interface {
	Send(*wire.BackendGraph) error
}, session, id uint64, g *graph.Graph, last func() error,
) error {
	text := g.String()
	if len(text) > maxGraphText {
		return errors.Wrapf(framework.ErrUnsupported, "the graph has %d bytes of text, %d are allowed", len(text), maxGraphText)
	}
	for first := true; first || text != ""; first = false {
		n := min(len(text), chunkLen)
		if to.Send(&wire.BackendGraph{Session: session, Id: id, Text: []byte(text[:n])}) != nil {
			break
		}
		text = text[n:]
	}
	return last()
}

// NewStore returns an empty store in the plugin's memory.
func (b *remoteBackend) NewStore() (framework.Store, error) { return b.newStore("new store", 0) }

func (b *remoteBackend) newStore(call string, parent uint64) (framework.Store, error) {
	s := &remoteStore{b: b, id: b.ids.Add(1)}
	err := b.short(context.Background(), call, 0, func(ctx context.Context) error {
		_, err := b.api.NewStore(ctx, &wire.BackendStoreRequest{Session: b.session, Id: s.id, Parent: parent})
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// goodNames checks a list of names from the plugin.
func goodNames(names []string) error {
	if len(names) > maxNames {
		return errors.Wrapf(ErrReply, "%d names", len(names))
	}
	for i, n := range names {
		if len(n) > maxStateName || strings.ContainsRune(n, 0) {
			return errors.Wrapf(ErrReply, "name %.80q", n)
		}
		if i > 0 && n <= names[i-1] {
			return errors.Wrapf(ErrReply, "names are not sorted: %.80q after %.80q", n, names[i-1])
		}
	}
	return nil
}
