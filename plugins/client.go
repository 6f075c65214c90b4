package plugins

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/plugins/internal/process"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// DialOptions says which program is started and what it may take.
type DialOptions struct {
	Name        string        // what stands behind plugin: in specs; "" is the name that the plugin has
	Path        string        // of the binary
	SHA256      string        // that the binary must have, in hexadecimal; "" is any (for development)
	Stderr      io.Writer     // gets what the plugin writes to standard error; nil: kept for errors only
	Start, Call time.Duration // limits; 0 are defaults (10 s; 30 s)
}

// Client is a running plugin. It may be used from several goroutines.
type Client struct {
	path string
	name string // in specs
	call time.Duration
	info Info
	proc *process.Process
	conn *grpc.ClientConn

	inherited any    // what inherit keeps for a backend
	release   func() // lets go of it
	mu        sync.Mutex
	closed    bool
	fragments map[string]*graph.Graph // by request
}

// inherit returns the files that a plugin gets from descriptor 3 on, and
// remembers in c what is behind them. release is called when the plugin has
// ended.
var inherit = func(*Client) (files []*os.File, release func(), err error) { return nil, func() {}, nil }

// Dial starts the program and asks what it is. The plugin runs until Close,
// or until this process ends. ctx ends the start only.
func Dial(ctx context.Context, o DialOptions) (*Client, error) {
	c := &Client{path: o.Path, call: o.Call, fragments: map[string]*graph.Graph{}}
	if c.call == 0 {
		c.call = 30 * time.Second
	}
	if o.Start == 0 {
		o.Start = 10 * time.Second
	}
	files, release, err := inherit(c)
	if err != nil {
		return nil, c.fault("start", err)
	}
	c.release = release
	c.proc, err = process.Start(ctx, process.Options{Path: o.Path, SHA256: o.SHA256, Files: files, Stderr: o.Stderr, Start: o.Start})
	if err != nil {
		release()
		return nil, is(err, ErrPlugin)
	}
	c.conn = c.proc.Conn()
	if err := c.describe(ctx, o.Start); err != nil {
		c.proc.Kill()
		release()
		return nil, err
	}
	c.name = o.Name
	if c.name == "" {
		c.name = c.info.Name
	}
	return c, nil
}

// describe fills in Info.
func (c *Client) describe(ctx context.Context, limit time.Duration) error {
	var r *wire.DescribeReply
	err := c.do(ctx, "describe", limit, func(ctx context.Context) (err error) {
		r, err = wire.NewPluginClient(c.conn).Describe(ctx, &wire.DescribeRequest{})
		return err
	})
	if err != nil {
		return err
	}
	m := Meta{Name: r.GetName(), Version: r.GetVersion(), Help: process.Printable(r.GetHelp())}
	for _, o := range r.GetOptions() {
		p := Option{Name: o.GetName(), Type: o.GetType(), Default: process.Printable(o.GetDefault()), Help: process.Printable(o.GetHelp())}
		for _, ch := range o.GetChoices() {
			p.Choices = append(p.Choices, process.Printable(ch))
		}
		m.Options = append(m.Options, p)
	}
	if err := m.Check(); err != nil {
		return c.fault("describe", err)
	}
	switch k := Kind(r.GetKind()); k {
	case KindQuantizer, KindResidual, KindBackend:
		c.info = Info{Kind: k, Meta: m, Protocol: Protocol, Path: c.path, SHA256: c.proc.SHA256()}
		return nil
	default:
		return c.fault("describe", errors.Newf("kind %.40q", string(k)))
	}
}

// Info returns what the plugin said of itself.
func (c *Client) Info() Info { return c.info }

// Close ends the plugin. What was opened from the client cannot be used any
// more, but for graphs traced before.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.proc.Close()
		c.release()
	}
	return nil
}

// do makes one call of the plugin, named for errors. When it takes longer than
// limit, the plugin is killed.
func (c *Client) do(ctx context.Context, call string, limit time.Duration, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if exit := c.proc.Exit(); exit != "" {
		return c.fault(call, c.died(exit))
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fn(timed) }()
	var err error
	select {
	case err = <-done:
	case <-timed.Done():
		err = status.FromContextError(timed.Err()).Err()
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case timed.Err() != nil, status.Code(err) == codes.DeadlineExceeded: // the plugin's end may see it first
		c.proc.Kill()
		err = errors.Newf("%w: it was killed after %v%s", ErrTimeout, limit, c.lastWords())
		return c.fault(call, errors.WithHint(err, "it hangs or is too slow: run tern plugin test on it"))
	}
	return c.fault(call, c.cause(err))
}

// cause is what is behind the error of a call.
func (c *Client) cause(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	if f := failure(st); f != nil {
		return f
	}
	switch st.Code() {
	case codes.Unavailable, codes.Canceled, codes.Internal:
		select {
		case <-c.proc.Done():
		case <-time.After(2 * time.Second):
			if st.Code() != codes.Unavailable {
				return errors.Newf("%s", process.Printable(st.Message()))
			}
			c.proc.Kill() // it lives but does not answer any more
		}
		return c.died(c.proc.Exit())
	case codes.ResourceExhausted:
		return errors.WithHint(errors.Newf("%s", process.Printable(st.Message())), "a plugin answers with messages of at most 8 MiB")
	case codes.Unimplemented:
		return errors.WithHint(errors.Newf("it has no such call: %s", process.Printable(st.Message())), "it is a plugin of kind "+string(c.info.Kind))
	}
	return errors.Newf("%s: %s", st.Code(), process.Printable(limit(st.Message(), 4000)))
}

func (c *Client) died(exit string) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return errors.Newf("%w: the client is closed", ErrDied)
	}
	err := errors.Newf("%w: it ended with %s%s", ErrDied, exit, c.lastWords())
	return errors.WithHint(err, "what was saved before is intact: run the command again, or tern plugin test on the plugin")
}

// lastWords is the end of what the plugin wrote to standard error, or a panic
// in it, on lines of its own.
func (c *Client) lastWords() string {
	const most = 20
	tail := c.proc.Tail()
	if tail == "" {
		return ""
	}
	for _, mark := range []string{"panic: ", "fatal error: "} {
		if i := strings.LastIndex(tail, mark); i >= 0 {
			lines := strings.Split(tail[i:], "\n")
			return "; its standard error has\n" + strings.Join(lines[:min(most, len(lines))], "\n")
		}
	}
	lines := strings.Split(tail, "\n")
	return "; its standard error ends\n" + strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// wantKind fails when the plugin is of another kind.
func (c *Client) wantKind(k Kind) error {
	if c.info.Kind == k {
		return nil
	}
	return c.fault("open", errors.WithHint(errors.Newf("it is a %s, not a %s", c.info.Kind, k), "use it with the option for its kind"))
}
