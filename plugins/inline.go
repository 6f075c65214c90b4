package plugins

import (
	"context"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/plugins/internal/fragment"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// maxFragments bounds how many fragments a client keeps.
const maxFragments = 10_000

// request is one question for a fragment.
type request struct {
	call string // for errors
	key  string // equal ones have equal answers
	want fragment.Want
	ask  func(context.Context) (*wire.Fragment, error)
}

// inline splices the plugin's answer into b. It is asked once for each key.
// A failure ends the trace that b is of.
func (c *Client) inline(b *graph.Builder, r request, args ...graph.Value) []graph.Value {
	f, err := c.fragment(r)
	if err != nil {
		if g := (*graph.Error)(nil); errors.As(err, &g) && !errors.Is(err, ErrFragment) {
			graph.Fail("%s", g.Msg) // the plugin's own refusal, as it would be in the process
		}
		graph.FailWith(err)
	}
	if c.info.Kind == KindResidual {
		return b.InlineAs(c, f, args...)
	}
	// The parameters of a quantizer stand under its weight's scope, where there
	// is nothing else; a trainer declares them too.
	return b.Inline(f, args...)
}

// fragment returns the verified answer to r.
func (c *Client) fragment(r request) (*graph.Graph, error) {
	c.mu.Lock()
	f, ok := c.fragments[r.key]
	c.mu.Unlock()
	if ok {
		return f, nil
	}
	var answer *wire.Fragment
	err := c.do(context.Background(), r.call, c.call, func(ctx context.Context) (err error) {
		answer, err = r.ask(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err = fragment.Read(answer.GetText(), r.want)
	if err != nil {
		return nil, c.fault(r.call, errors.WithHint(err, "the plugin is at fault: tern plugin test says which rule it breaks"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fragments) >= maxFragments {
		clear(c.fragments)
	}
	c.fragments[r.key] = f
	return f, nil
}

// spec is the spec that opens the plugin with these options.
func (c *Client) spec(options string) string {
	return strings.TrimSuffix("plugin:"+c.name+":"+options, ":")
}
