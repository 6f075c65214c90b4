package plugins

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
	"github.com/ternlm/tern/plugins/internal/arena"
)

// scalarPlugin is the scalar backend as a plugin.
var scalarPlugin = Backend{Meta: Meta{Name: "scalar", Version: "0.1.0", Help: "The reference backend."}, Open: scalar.Open}

// near is a plugin in this process, behind a socket.
type near struct {
	link   backendLink
	server *grpc.Server
}

// newNearServer is a server that sends errors as a plugin's does.
func newNearServer() *grpc.Server {
	return grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			r, err := h(ctx, req)
			return r, toStatus(err)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			return toStatus(h(srv, s))
		}))
}

// serveNear serves what register adds. The calls are as through a Client, but
// what does not answer in time is only stopped.
func serveNear(t testing.TB, shared bool, register func(s *grpc.Server, fd uintptr)) *near {
	t.Helper()
	n := &near{server: newNearServer()}
	fd := ^uintptr(0)
	if shared {
		a, err := arena.New()
		if errors.Is(err, arena.ErrUnsupported) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		n.link.memory, fd = a, a.File().Fd()
	}
	register(n.server, fd)
	sock := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = n.server.Serve(listener) }()
	t.Cleanup(n.server.Stop)
	conn, err := grpc.NewClient("unix:"+sock, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.link.conn, n.link.name, n.link.call = conn, "plugin:near", 30*time.Second
	n.link.fault = func(call string, err error) error { return errors.Wrapf(err, "plugin near: %s", call) }
	n.link.do = func(ctx context.Context, call string, limit time.Duration, fn func(context.Context) error) error {
		timed, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		err := fn(timed)
		if err == nil {
			return nil
		}
		if timed.Err() != nil && ctx.Err() == nil {
			go n.server.Stop()
			return n.link.fault(call, ErrTimeout)
		}
		if st, ok := status.FromError(err); ok {
			if f := failure(st); f != nil {
				err = f
			} else {
				err = errors.Wrapf(ErrDied, "%v", err)
			}
		}
		return n.link.fault(call, err)
	}
	return n
}

// serveBackend serves p in this process.
func serveBackend(t testing.TB, shared bool, p Backend) *near {
	return serveNear(t, shared, func(s *grpc.Server, fd uintptr) { registerBackend(s, p, fd) })
}

func (n *near) open(t testing.TB, options string) framework.Backend {
	t.Helper()
	be, err := openBackend(n.link, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = be.Close() })
	return be
}

// The process passes the whole suite by shared memory, so here the ways are
// sampled: mode ops, whose graphs are thousands, says nothing of a way that
// rows and random do not.
func TestBackendPassesThroughTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		shared bool
		modes  []string
	}{
		"shared memory": {true, []string{"rows", "store", "errors", "prepared"}},
		"streams":       {false, []string{"special", "rows", "store", "errors", "prepared", "random", "train", "workers"}},
	} {
		if testing.Short() {
			c.modes = []string{"store", "errors"}
		}
		t.Run(name, func(t *testing.T) {
			n := serveBackend(t, c.shared, scalarPlugin)
			if got := sharedMemory(n.open(t, "threads=1")); got != c.shared {
				t.Errorf("shared memory: %v", got)
			}
			backendtest.Run(t, backendtest.Options{
				Open:        func() (framework.Backend, error) { return openBackend(n.link, "threads=1") },
				OpenThreads: func(k int) (framework.Backend, error) { return openBackend(n.link, fmt.Sprintf("threads=%d", k)) },
				Modes:       c.modes,
			})
		})
	}
}
