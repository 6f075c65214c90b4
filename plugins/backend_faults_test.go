package plugins

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/arena"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// liar serves a backend with wrong answers, where they are set.
type liar struct {
	*backendServer
	nonce    []byte
	names    []string
	get      *wire.BackendGetReply
	chunks   []*wire.BackendGetChunk
	outputs  [][]byte
	estimate int64
}

func (l *liar) Open(ctx context.Context, r *wire.BackendOpenRequest) (*wire.BackendOpenReply, error) {
	reply, err := l.backendServer.Open(ctx, r)
	if l.nonce != nil && err == nil {
		reply.Nonce = l.nonce
	}
	return reply, err
}

func (l *liar) Names(ctx context.Context, r *wire.BackendRef) (*wire.BackendNames, error) {
	if l.names != nil {
		return &wire.BackendNames{Names: l.names}, nil
	}
	return l.backendServer.Names(ctx, r)
}

func (l *liar) Get(ctx context.Context, r *wire.BackendGetRequest) (*wire.BackendGetReply, error) {
	return l.get, nil
}

func (l *liar) GetStream(_ *wire.BackendGetRequest, s grpc.ServerStreamingServer[wire.BackendGetChunk]) error {
	for _, c := range l.chunks {
		if err := s.Send(c); err != nil {
			return err
		}
	}
	return nil
}

func (l *liar) RunStream(s grpc.BidiStreamingServer[wire.BackendRunChunk, wire.BackendData]) error {
	for _, d := range l.outputs {
		if err := s.Send(&wire.BackendData{Data: d}); err != nil {
			return err
		}
	}
	return nil
}

func (l *liar) Estimate(s grpc.ClientStreamingServer[wire.BackendGraph, wire.BackendEstimate]) error {
	return s.SendAndClose(&wire.BackendEstimate{Bytes: l.estimate})
}

// lying serves l in this process.
func lying(t *testing.T, shared bool, l *liar) *near {
	return serveNear(t, shared, func(s *grpc.Server, fd uintptr) {
		l.backendServer = &backendServer{plugin: scalarPlugin, fd: fd, sessions: map[uint64]*backendSession{}}
		wire.RegisterBackendServer(s, l)
	})
}

func TestWrongAnswersOfABackendAreRefused(t *testing.T) {
	ctx := context.Background()
	get := func(be framework.Backend) error {
		_, err := count(t, be).store.Get(ctx, "n")
		return err
	}
	run := func(be framework.Backend) error { return count(t, be).run(ctx, works) }
	read := func(be framework.Backend) error {
		return count(t, be).store.(framework.Reader).ReadInto(ctx, "n", tensor.New(tensor.T(tensor.F32, 1)))
	}
	estimate := func(be framework.Backend) error {
		_, err := be.(framework.Estimator).Estimate(must(small(t, "ternary:group=64", "standard").Pack()))
		return err
	}
	names := func(be framework.Backend) error {
		if got := count(t, be).store.Names(); got != nil {
			return errors.Newf("names %.80q", got)
		}
		return ErrReply
	}
	reply := func(typ string, fits bool) *liar { return &liar{get: &wire.BackendGetReply{Type: typ, Fits: fits}} }
	stream := func(typ string, data ...string) *liar {
		l := &liar{chunks: []*wire.BackendGetChunk{{Type: typ}}}
		for _, d := range data {
			l.chunks = append(l.chunks, &wire.BackendGetChunk{Data: []byte(d)})
		}
		return l
	}
	for what, c := range map[string]struct {
		shared bool
		liar   *liar
		call   func(framework.Backend) error
	}{
		"no type":                     {true, reply("", true), get},
		"no such type":                {true, reply("f33[1]", true), get},
		"negative size":               {true, reply("f32[-1]", true), get},
		"larger than the room":        {true, reply("f32[1048576]", true), get},
		"more than there is":          {true, reply("f64[1099511627776]", true), get},
		"small, but does not fit":     {true, reply("f32[1]", false), get},
		"stream: no answer":           {false, &liar{}, get},
		"stream: no such type":        {false, stream("f32", "1234"), get},
		"stream: too few bytes":       {false, stream("f32[2]", "1234"), get},
		"stream: too many bytes":      {false, stream("f32[1]", "1234", "5"), get},
		"stream: a terabyte, it says": {false, stream("f64[1099511627776]", "1234"), get},
		"stream: another type":        {false, stream("i32[1]", "1234"), read},
		"stream: read too few":        {false, stream("f32[1]", "123"), read},
		"stream: read too many":       {false, stream("f32[1]", "12345"), read},
		"no output":                   {false, &liar{}, run},
		"half an output":              {false, &liar{outputs: [][]byte{{1, 2}}}, run},
		"more than the outputs":       {false, &liar{outputs: [][]byte{{1, 2, 3, 4}, {5}}}, run},
		"negative estimate":           {true, &liar{estimate: -1}, estimate},
		"unsorted names":              {true, &liar{names: []string{"b", "a"}}, names},
		"repeated names":              {true, &liar{names: []string{"a", "a"}}, names},
		"long name":                   {true, &liar{names: []string{strings.Repeat("a", maxStateName+1)}}, names},
	} {
		t.Run(what, func(t *testing.T) {
			if err := c.call(lying(t, c.shared, c.liar).open(t, "threads=1")); !errors.Is(err, ErrReply) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAnotherMemoryIsRefused(t *testing.T) {
	for _, shared := range []bool{true, false} {
		l := lying(t, shared, &liar{nonce: []byte("0123456789abcdef")})
		if _, err := openBackend(l.link, ""); !errors.Is(err, ErrReply) {
			t.Errorf("shared %v: error %v", shared, err)
		}
	}
}

// A plugin whose file 3 is something else works without shared memory.
func TestABackendThatHasNotGotTheMemoryUsesStreams(t *testing.T) {
	n := serveBackend(t, true, scalarPlugin)
	other, err := arena.New(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	n.link.memory = other // of another size than what is inherited
	be := n.open(t, "threads=1")
	if sharedMemory(be) {
		t.Fatal("it uses memory that is not shared")
	}
	r := count(t, be)
	if err := r.run(context.Background(), works); err != nil {
		t.Fatal(err)
	}
	if got := r.n(t); got != 1 {
		t.Errorf("n is %v", got)
	}
}

// What does not fit into the shared memory goes by stream.
func TestAFullMemoryIsNoObstacle(t *testing.T) {
	n := serveBackend(t, true, scalarPlugin)
	be := n.open(t, "threads=1")
	r := count(t, be)
	if err := r.run(context.Background(), works); err != nil {
		t.Fatal(err)
	}
	for size := n.link.memory.Size(); size >= arena.Align; size /= 2 {
		for {
			if _, err := n.link.memory.Alloc(size); err != nil {
				break
			}
		}
	}
	other := count(t, be)
	x := tensor.New(tensor.T(tensor.F32, 1))
	for _, err := range []error{
		other.store.Put(context.Background(), "n", tensor.FromF32([]float32{5}, 1)), other.run(context.Background(), works),
		other.store.(framework.Reader).ReadInto(context.Background(), "n", x),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if got := other.n(t); got != 6 || x.F32()[0] != 6 {
		t.Errorf("n is %v and %v", got, x.F32())
	}
}

// rawBackend is a session that requests are sent to as they are.
func rawBackend(t *testing.T) (n *near, api wire.BackendClient, b *remoteBackend, r *counter) {
	n = serveBackend(t, true, scalarPlugin)
	be := n.open(t, "threads=1")
	b = be.(estimatingBackend).remoteBackend
	r = count(t, be)
	if err := r.run(context.Background(), works); err != nil {
		t.Fatal(err)
	}
	return n, b.api, b, r
}

// refused checks what the plugin says of a bad request.
func refused(t *testing.T, what string, err, kind error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
	} else if f := failure(status.Convert(err)); f == nil || kind != nil && !errors.Is(f, kind) {
		t.Errorf("%s: error %v", what, err)
	}
}

func TestBadRequestsDoNotHarmAPlugin(t *testing.T) {
	ctx := context.Background()
	n, api, b, r := rawBackend(t)
	store, exe := r.store.(*remoteStore).id, r.exe.(*remoteExecutable).id
	size := n.link.memory.Size()
	put := func(typ string, offset, length uint64) error {
		_, err := api.Put(ctx, &wire.BackendPutRequest{Session: b.session, Store: store, Name: "x", Tensor: &wire.BackendTensor{Type: typ, Offset: offset, Length: length}})
		return err
	}
	for what, err := range map[string]error{
		"no type": put("", 4096, 4), "length of another type": put("f32[2]", 4096, 4), "header": put("f32[1]", 0, 4), "not aligned": put("f32[1]", 4100, 4),
		"beyond the end": put("f32[64]", size-64, 256), "offset that overflows": put("f32[32]", math.MaxUint64-63, 128), "huge": put("f64[1099511627776]", 4096, 8<<40),
	} {
		refused(t, what, err, framework.ErrMismatch)
	}
	run := func(session, exe, store uint64, list ...*wire.BackendTensor) error {
		_, err := api.Run(ctx, &wire.BackendRunRequest{Session: session, Id: 1 << 40, Executable: exe, Store: store, Inputs: list, Outputs: list})
		return err
	}
	outside := &wire.BackendTensor{Type: "i32[1]", Offset: size, Length: 4}
	refused(t, "run on memory outside", run(b.session, exe, store, outside), framework.ErrMismatch)
	refused(t, "run without tensors", run(b.session, exe, store), framework.ErrMismatch)
	refused(t, "run in no session", run(b.session+1, exe, store), framework.ErrClosed)
	refused(t, "run of nothing", run(b.session, 1<<30, store), framework.ErrClosed)
	refused(t, "run on nothing", run(b.session, exe, 1<<30), framework.ErrClosed)
	_, err := api.Get(ctx, &wire.BackendGetRequest{Session: b.session, Store: store, Name: "n", Offset: size - 64, Length: 65})
	refused(t, "get to memory outside", err, framework.ErrMismatch)
	_, err = api.NewStore(ctx, &wire.BackendStoreRequest{Session: b.session, Id: store})
	refused(t, "id that is taken", err, nil)
	_, err = api.NewStore(ctx, &wire.BackendStoreRequest{Session: b.session})
	refused(t, "id 0", err, nil)
	_, err = api.Open(ctx, &wire.BackendOpenRequest{Session: b.session})
	refused(t, "session that is taken", err, nil)
	_, err = api.Put(ctx, &wire.BackendPutRequest{Session: b.session, Store: store, Name: strings.Repeat("x", maxStateName+1), Tensor: &wire.BackendTensor{Type: "f32[1]", Offset: 4096, Length: 4}})
	refused(t, "long name", err, framework.ErrMismatch)
	for range 2 * maxEarly { // runs that never come
		if _, err := api.Cancel(ctx, &wire.BackendRef{Session: b.session, Id: b.ids.Add(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.run(ctx, works); err != nil {
		t.Error(err)
	}
	if got := r.n(t); got != 2 {
		t.Errorf("n is %v", got)
	}
}

func TestBadStreamsDoNotHarmAPlugin(t *testing.T) {
	ctx := context.Background()
	_, api, b, r := rawBackend(t)
	store, exe := r.store.(*remoteStore).id, r.exe.(*remoteExecutable).id
	put := func(typ string, data ...string) error {
		s := must(api.PutStream(ctx))
		_ = s.Send(&wire.BackendPutChunk{Head: &wire.BackendPutRequest{Session: b.session, Store: store, Name: "x", Tensor: &wire.BackendTensor{Type: typ}}})
		for _, d := range data {
			_ = s.Send(&wire.BackendPutChunk{Data: []byte(d)})
		}
		_, err := s.CloseAndRecv()
		return err
	}
	for what, err := range map[string]error{
		"no type": put(""), "too few": put("f32[2]", "1234"), "too many": put("f32[1]", "1234", "5"), "a terabyte, it says": put("f64[1099511627776]", "1234"),
	} {
		refused(t, what, err, framework.ErrMismatch)
	}
	run := func(in, out, data string) error {
		s := must(api.RunStream(ctx))
		_ = s.Send(&wire.BackendRunChunk{Head: &wire.BackendRunRequest{Session: b.session, Executable: exe, Store: store, Inputs: []*wire.BackendTensor{{Type: in}}, Outputs: []*wire.BackendTensor{{Type: out}}}})
		_ = s.Send(&wire.BackendRunChunk{Data: []byte(data)})
		_ = s.CloseSend()
		_, err := s.Recv()
		return err
	}
	refused(t, "input of another shape", run("i32[1099511627776]", "f32[1]", ""), framework.ErrMismatch)
	refused(t, "output of another shape", run("i32[1]", "f32[1099511627776]", "1234"), framework.ErrMismatch)
	refused(t, "too few bytes", run("i32[1]", "f32[1]", "123"), framework.ErrMismatch)
	refused(t, "too many bytes", run("i32[1]", "f32[1]", "12345"), framework.ErrMismatch)
	refused(t, "input of another element type", run("f32[1]", "f32[1]", "1234"), framework.ErrMismatch)
	compile := func(id uint64, text string, times int) error {
		s := must(api.Compile(ctx))
		for range times {
			if s.Send(&wire.BackendGraph{Session: b.session, Id: id, Text: []byte(text)}) != nil {
				break
			}
		}
		_, err := s.CloseAndRecv()
		return err
	}
	refused(t, "no graph", compile(b.ids.Add(1), "hello", 1), framework.ErrUnsupported)
	refused(t, "an endless graph", compile(b.ids.Add(1), strings.Repeat("\n", 1<<20), 65), framework.ErrUnsupported)
	refused(t, "an executable's id", compile(exe, "", 1), nil)
	if err := r.run(ctx, works); err != nil {
		t.Error(err)
	}
}

func FuzzView(f *testing.F) {
	a, err := arena.New(1 << 20)
	if err != nil {
		f.Skip(err)
	}
	defer func() { _ = a.Close() }()
	s := &backendSession{memory: a}
	f.Add("f32[8,256]", uint64(4096), uint64(8192))
	f.Add("f32[2]", uint64(4096), uint64(4))
	f.Add("u2[3,5]", uint64(1<<20-64), uint64(6))
	f.Add("f64[1099511627776]", uint64(math.MaxUint64-63), uint64(8<<40))
	f.Fuzz(func(t *testing.T, typ string, offset, length uint64) {
		x, err := s.view(&wire.BackendTensor{Type: typ, Offset: offset, Length: length})
		if err != nil {
			if !errors.Is(err, framework.ErrMismatch) {
				t.Fatal(err)
			}
			return
		}
		if x.Type.Check() != nil || len(x.Data) != x.Type.Bytes() || uint64(len(x.Data)) != length {
			t.Fatalf("%v in %d bytes", x.Type, len(x.Data))
		}
		for _, b := range x.Data {
			_ = b // a fault if it lies outside
		}
	})
}
