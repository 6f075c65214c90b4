package process

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Protocol is the version of the protocol that this package speaks.
const Protocol = 1

// Limits on messages in bytes. Those to the plugin hold graphs; those from it
// hold fragments.
const (
	MaxToPlugin   = 72 << 20
	MaxFromPlugin = 8 << 20
)

// Handshake is what host and plugin must agree on before they talk.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  Protocol,
	MagicCookieKey:   "TERN_PLUGIN",
	MagicCookieValue: "b2f8c1f4-tern-plugin",
}

// Errors of Start. The first three are told apart by what the user can do.
var (
	ErrStart    = errors.New("plugin did not start")
	ErrPin      = errors.New("plugin has another hash than the one pinned")
	ErrProtocol = errors.New("plugin speaks another version of the protocol")
)

// Options says what is started.
type Options struct {
	Path   string        // of the program
	SHA256 string        // that it must have, in hexadecimal; "" is any
	Files  []*os.File    // what it inherits, from descriptor 3 on; not on Windows
	Stderr io.Writer     // gets a copy of its standard error; may be nil
	Start  time.Duration // limit on the start
}

// Process is a running plugin.
type Process struct {
	path   string
	sum    string
	dir    directory // holds its socket
	run    *runner
	client *plugin.Client
	conn   *grpc.ClientConn
	tail   *ring
	once   sync.Once
}

// Start starts the program and connects to it. ctx ends the start, not the
// process.
func Start(ctx context.Context, o Options) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := newDirectory(directories())
	if err != nil {
		return nil, errors.Wrap(err, "directory for the plugin's socket")
	}
	sweepOnce()
	p := &Process{path: o.Path, dir: dir, tail: newRing(16<<10, o.Stderr)}
	p.run = &runner{image: loading(o.Path, o.SHA256), files: o.Files, path: o.Path, tail: p.tail}
	stop := context.AfterFunc(ctx, p.run.killGroup)
	defer stop()
	err = p.connect(o.Start)
	im, bad := p.run.image()
	if bad != nil {
		p.Kill()
		return nil, bad
	}
	defer im.close()
	p.sum = im.sum
	if err != nil {
		p.Kill()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, p.explain(err, o.Start)
	}
	return p, nil
}

// loading loads a program beside what else a start does, such as making keys. Its
// result is waited for before anything runs.
func loading(path, sum string) func() (*image, error) {
	type result struct {
		im  *image
		err error
	}
	done := make(chan result, 1)
	go func() { im, err := load(path, sum); done <- result{im, err} }()
	return sync.OnceValues(func() (*image, error) { r := <-done; return r.im, r.err })
}

// connect runs the handshake.
func (p *Process) connect(limit time.Duration) error {
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  Handshake,
		Plugins:          plugin.PluginSet{},
		RunnerFunc:       p.run.open,
		StartTimeout:     limit,
		Stderr:           io.Discard, // the runner copies it
		SyncStderr:       p.tail,     // where a plugin in Go finds os.Stderr after the handshake
		SyncStdout:       p.tail,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
		AutoMTLS:         true,
		SkipHostEnv:      true,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.dir.path},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(MaxToPlugin), grpc.MaxCallRecvMsgSize(MaxFromPlugin)),
		},
	})
	type result struct {
		c   plugin.ClientProtocol
		err error
	}
	done := make(chan result, 1)
	go func() { c, err := p.client.Client(); done <- result{c, err} }()
	select {
	case r := <-done:
		if r.err != nil {
			return r.err
		}
		g, ok := r.c.(*plugin.GRPCClient)
		if !ok {
			return errors.New("no gRPC")
		}
		p.conn = g.Conn
		return nil
	case <-time.After(limit + time.Second): // a plugin that accepts and then says nothing
		return errors.New("timeout while waiting for plugin to start")
	}
}

// Conn is the connection to the plugin.
func (p *Process) Conn() *grpc.ClientConn { return p.conn }

// ID is the number of the process.
func (p *Process) ID() string { return p.run.ID() }

// SHA256 is the hash of the program that runs, in hexadecimal.
func (p *Process) SHA256() string { return p.sum }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.run.done }

// Exit says how the process ended, such as "exit status 2"; "" while it runs.
func (p *Process) Exit() string {
	select {
	case <-p.run.done:
		return p.run.exit
	default:
		return ""
	}
}

// Tail is the end of what the process wrote to standard error, made safe to
// print.
func (p *Process) Tail() string {
	if p.Exit() != "" {
		wait(p.run.drained, 300*time.Millisecond)
	}
	return p.tail.String()
}

// Close asks the plugin to end, and kills it with what it started when it does
// not within two seconds.
func (p *Process) Close() { p.end(2 * time.Second) }

// Kill ends the process and everything in its group at once.
func (p *Process) Kill() { p.end(0) }

func (p *Process) end(grace time.Duration) {
	p.once.Do(func() {
		if grace == 0 {
			p.run.killGroup()
		}
		ended := make(chan struct{})
		if p.client != nil {
			go func() { p.client.Kill(); close(ended) }() // never returns when the plugin is frozen
			wait(ended, max(grace, 10*time.Millisecond))
		}
		p.run.killGroup()
		wait(p.run.done, 5*time.Second)
		wait(ended, time.Second)
		if p.conn != nil {
			_ = p.conn.Close()
		}
		p.dir.remove()
	})
}

// wait waits for c, at most d.
func wait(c <-chan struct{}, d time.Duration) {
	if c == nil {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
}
