package plugins

import (
	"context"
	"fmt"
	"strings"

	"github.com/cockroachdb/errors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/plugins/internal/fragment"
	"github.com/ternlm/tern/plugins/internal/process"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// Errors of this package. Every error of a plugin is ErrPlugin; the others say
// what went wrong.
var (
	ErrPlugin   = errors.New("plugin failed")
	ErrProtocol = process.ErrProtocol // it speaks another version of the protocol
	ErrPin      = process.ErrPin      // its program has another hash
	ErrFragment = fragment.ErrInvalid // it answered with a graph that is not what was asked for
	ErrDied     = errors.New("plugin died")
	ErrTimeout  = errors.New("plugin did not answer in time")
)

// sentinels are the errors that keep their identity from plugin to host.
var sentinels = map[string]error{
	"option":      framework.ErrOption,
	"unknown":     framework.ErrUnknown,
	"unsupported": framework.ErrUnsupported,
	"state":       framework.ErrNoState,
	"mismatch":    framework.ErrMismatch,
	"closed":      framework.ErrClosed,
	"input":       framework.ErrInput,
	"canceled":    context.Canceled,
}

// toStatus carries err, its hints and its identity to the host.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	f := &wire.Failure{Message: limit(err.Error(), 4000)}
	for name, s := range sentinels {
		if errors.Is(err, s) {
			f.Sentinel = name
		}
	}
	if g := (*graph.Error)(nil); errors.As(err, &g) {
		f.Sentinel, f.Message = "graph", g.Msg
	}
	for _, h := range errors.GetAllHints(err) {
		if len(f.Hints) < 8 {
			f.Hints = append(f.Hints, limit(h, 1000))
		}
	}
	st, e := status.New(codes.FailedPrecondition, f.Message).WithDetails(f)
	if e != nil {
		return status.Error(codes.FailedPrecondition, f.Message)
	}
	return st.Err()
}

// failure is what a plugin reported, or nil if st is a fault of the call.
func failure(st *status.Status) error {
	for _, d := range st.Details() {
		f, ok := d.(*wire.Failure)
		if !ok {
			continue
		}
		msg := process.Printable(limit(f.GetMessage(), 4000))
		if f.GetSentinel() == "graph" {
			return &graph.Error{Msg: msg}
		}
		err := errors.Newf("%s", msg)
		if s := sentinels[f.GetSentinel()]; s != nil {
			err = is(err, s)
		}
		for i, h := range f.GetHints() {
			if i < 8 {
				err = errors.WithHint(err, process.Printable(limit(h, 1000)))
			}
		}
		return err
	}
	return nil
}

// limit cuts s to n bytes.
func limit(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// fault marks err as one of this plugin's and names the call.
func (c *Client) fault(call string, err error) error {
	return is(errors.Wrapf(err, "plugin %s: %s", c.label(), call), ErrPlugin)
}

// marked is an error that is also another one.
type marked struct {
	error
	as error
}

// is makes err be target too, for errors.Is of this and the standard package.
func is(err, target error) error { return &marked{err, target} }

// Is reports whether target is what err was marked as.
func (m *marked) Is(target error) bool { return target == m.as }

// Unwrap returns the error that was marked.
func (m *marked) Unwrap() error { return m.error }

// label names the plugin in errors.
func (c *Client) label() string {
	if c.info.Name == "" {
		return c.path
	}
	return fmt.Sprintf("%s %s (%s)", c.info.Name, c.info.Version, c.path)
}
