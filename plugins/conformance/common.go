package conformance

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// closeLimit is how long a plugin may take to end.
const closeLimit = 5 * time.Second

var versionPattern = regexp.MustCompile(`^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// entry is a case that is not run yet.
type entry struct {
	name, rule, fix string
	run             func(ctx context.Context) (string, error)
}

func (t *tester) entries() []entry {
	return []entry{
		{"describe", "name, version, help and options are complete", "Meta", t.describe},
		{"defaults", "the default of every option, written out, opens the same as no option", "Option.Default, or what Open takes where an option is not given", t.defaults},
		{"unknown option", "an option that is not described is refused with framework.ErrOption", "Open that reads its options by framework.Options", t.unknown},
		{"bad value", "a value that is no number, or none of the choices, is refused with framework.ErrOption", "Open: use Options.Int, Float and Choice, and return their errors", t.badValues},
		{"restart", "a second process gives the same spec and the same graphs", "a random number, the time, or the environment in Open or in what builds the graph", t.restart},
		{"in parallel", "calls from several goroutines give the same graphs", "state that calls share", t.parallel},
		{"end", "the process ends when the host lets go, and later calls are errors", "a deferred call or a goroutine that keeps main alive", t.end},
	}
}

// common runs the cases that hold for every kind.
func (t *tester) common(ctx context.Context) []Case {
	var cases []Case
	for _, e := range t.entries() {
		cases = append(cases, t.one(ctx, e))
	}
	return cases
}

func (t *tester) one(ctx context.Context, e entry) (c Case) {
	c = Case{Mode: "plugin", Name: e.name, Rule: e.rule}
	for _, key := range []string{c.ID(), e.name, "plugin"} {
		if why, ok := t.o.Skip[key]; ok {
			c.Skipped = why
			if why == "" {
				c.Skipped = "skipped by " + key
			}
			return c
		}
	}
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			c.Err = errors.Newf("panic: %v", p)
		}
		c.Took = time.Since(start)
		if c.Err != nil {
			c.Detail, c.Fix = explain(c.Err), e.fix
		}
	}()
	if c.Err = ctx.Err(); c.Err == nil {
		c.Detail, c.Err = e.run(ctx)
	}
	return c
}

func (t *tester) describe(context.Context) (string, error) {
	i := t.info
	switch {
	case store.CheckName(i.Name) != nil:
		return "", errors.Newf("name %q", i.Name)
	case !versionPattern.MatchString(i.Version):
		return "", errors.Newf("version %q is no semantic version, such as 1.0.0", i.Version)
	case len(i.Help) < 3 || len(i.Help) > 300 || strings.ContainsAny(i.Help, "\n\t"):
		return "", errors.Newf("help %q is no sentence", i.Help)
	}
	seen := map[string]bool{}
	for _, o := range i.Options {
		if err := checkOption(o); err != nil {
			return "", errors.Wrapf(err, "option %q", o.Name)
		}
		if seen[o.Name] {
			return "", errors.Newf("option %q is described twice", o.Name)
		}
		seen[o.Name] = true
	}
	return fmt.Sprintf("options: %d", len(i.Options)), nil
}

func checkOption(o plugins.Option) error {
	if o.Name == "" || strings.ContainsAny(o.Name, ",=: \t\n") {
		return errors.New("a name has no space, comma, colon or equal sign")
	}
	if strings.ContainsAny(o.Default, ",\n") {
		return errors.Newf("default %q cannot stand in a spec", o.Default)
	}
	if o.Help == "" {
		return errors.New("it has no help")
	}
	var err error
	switch o.Type {
	case "int":
		_, err = strconv.Atoi(o.Default)
	case "float":
		_, err = strconv.ParseFloat(o.Default, 64)
	case "string":
	case "choice":
		if !slices.Contains(o.Choices, o.Default) {
			err = errors.Newf("it is none of the choices %v", o.Choices)
		}
	default:
		return errors.Newf("type %q: int, float, string and choice are known", o.Type)
	}
	return errors.Wrapf(err, "default %q", o.Default)
}

// opened is what the plugin made of options: its spec and what it builds.
type opened struct {
	spec, text string
}

// open opens what the plugin serves. The text of a backend is empty.
func open(c *plugins.Client, options string) (opened, error) {
	switch c.Info().Kind {
	case plugins.KindQuantizer:
		q, err := c.Quantizer(options)
		if err != nil {
			return opened{}, err
		}
		text, err := packText(q)
		return opened{q.Spec(), text}, err
	case plugins.KindResidual:
		r, err := c.Residual(options)
		if err != nil {
			return opened{}, err
		}
		text, err := stackText(r)
		return opened{r.Spec(), text}, err
	case plugins.KindBackend:
		be, err := c.Backend(options)
		if err != nil {
			return opened{}, err
		}
		return opened{spec: be.Name()}, be.Close()
	}
	return opened{}, errors.Newf("kind %q", c.Info().Kind)
}

// packText is the graph that packs a weight of 4 groups a row.
func packText(q framework.Quantizer) (string, error) {
	f := q.Format()
	if !f.Quantized() {
		return "", nil
	}
	g, err := graph.Trace(func(b *graph.Builder) {
		b.In("probe", func() {
			codes, scales := q.Pack(b, b.Input("w", tensor.F32, 6, 4*max(f.Group, 32)))
			b.Output("codes", codes)
			b.Output("scales", scales)
		})
	})
	if err != nil {
		return "", err
	}
	return g.String(), nil
}

// stackText is the graph of two sub-layers that do nothing.
func stackText(r framework.Residual) (string, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		s := r.Expand(b, b.Input("x", tensor.F32, 3, 8))
		for l := range 2 {
			b.In(fmt.Sprintf("blk.0.%s", []string{"attn", "ffn"}[l]), func() {
				s = r.Write(b, l, s, r.Read(b, l, s))
			})
		}
		b.Output("y", r.Collapse(b, s))
	})
	if err != nil {
		return "", err
	}
	return g.String(), nil
}

func (t *tester) defaults(context.Context) (string, error) {
	plain, err := open(t.c, "")
	if err != nil {
		return "", errors.Wrap(err, "without options")
	}
	var all []string
	for _, o := range t.info.Options {
		if o.Default != "" {
			all = append(all, o.Name+"="+o.Default)
		}
	}
	written := strings.Join(all, ",")
	same, err := open(t.c, written)
	if err != nil {
		return "", errors.Wrapf(err, "with %s", written)
	}
	if same != plain {
		return "", errors.Newf("without options it is %q, with %s it is %q", plain.spec, written, same.spec)
	}
	return plain.spec, nil
}

// refused opens with an option that must not be taken.
func (t *tester) refused(option string) error {
	_, err := open(t.c, option)
	switch {
	case err == nil:
		return errors.Newf("%s is accepted", option)
	case !errors.Is(err, framework.ErrOption):
		return errors.Newf("%s is refused, but not with framework.ErrOption: %v", option, err)
	}
	return nil
}

func (t *tester) unknown(context.Context) (string, error) {
	return "", t.refused("no-such-option=1")
}

func (t *tester) badValues(context.Context) (string, error) {
	n := 0
	for _, o := range t.info.Options {
		bad := map[string]string{"int": "1.5x", "float": "one", "choice": "no-such-choice"}[o.Type]
		if bad == "" {
			continue
		}
		n++
		if err := t.refused(o.Name + "=" + bad); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("options: %d", n), nil
}

func (t *tester) restart(ctx context.Context) (string, error) {
	first, err := open(t.c, t.o.Options)
	if err != nil {
		return "", err
	}
	c, err := t.o.Dial(ctx)
	if err != nil {
		return "", err
	}
	second, err := open(c, t.o.Options)
	if err = errors.CombineErrors(err, c.Close()); err != nil {
		return "", err
	}
	if first != second {
		return "", errors.Newf("spec %q, then %q; the graphs are equal: %v", first.spec, second.spec, first.text == second.text)
	}
	return fmt.Sprintf("%d bytes of graph", len(first.text)), nil
}

// parallel asks a process of its own, which has answered nothing yet.
func (t *tester) parallel(ctx context.Context) (string, error) {
	want, err := open(t.c, t.o.Options)
	if err != nil {
		return "", err
	}
	c, err := t.o.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	const callers = 8
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			got, err := open(c, t.o.Options)
			if err == nil && got != want {
				err = errors.Newf("caller %d got another graph", i)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d callers", callers), nil
}

func (t *tester) end(ctx context.Context) (string, error) {
	c, err := t.o.Dial(ctx)
	if err != nil {
		return "", err
	}
	start, closed := time.Now(), make(chan error, 1)
	go func() { closed <- c.Close() }()
	select {
	case err = <-closed:
	case <-time.After(closeLimit):
		err = errors.Newf("it runs %s after the host let go", closeLimit)
	}
	if err != nil {
		return "", err
	}
	took := time.Since(start)
	if _, err := open(c, t.o.Options); err == nil {
		return "", errors.New("a call after the end succeeds")
	}
	return fmt.Sprintf("after %s", took.Round(time.Millisecond)), nil
}
