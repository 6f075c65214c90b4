package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/conformance"
)

// sortedSet sorts and leaves each once.
func sortedSet(names []string) []string {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// pluginTest holds the flags of tern plugin test.
type pluginTest struct {
	options string
	modes   []string
	json    bool
}

func newPluginTestCmd(a *app) *cobra.Command {
	var c pluginTest
	cmd := &cobra.Command{
		Use:   "test NAME|PATH",
		Short: "Run the conformance suite on a plugin, over the wire",
		Long: "Starts the plugin and checks the rules of all plugins and of its kind. Each failure names the rule that it breaks,\n" +
			"what was seen, and where to look. A binary that is named by its path needs no pin.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), a, args[0]) },
	}
	cmd.Flags().StringVar(&c.options, "options", "", "what the plugin is opened with, such as group=64; without it its defaults")
	cmd.Flags().StringSliceVar(&c.modes, "mode", nil, "parts of the suite to run: plugin, and its kind or a mode of tern backend test")
	cmd.Flags().BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

func (c pluginTest) run(ctx context.Context, a *app, arg string) error {
	t, err := aim(arg)
	if err != nil {
		return err
	}
	o, err := a.plugins.options(t)
	if err != nil {
		return err
	}
	if err := c.checkModes(); err != nil {
		return err
	}
	r := conformance.Check(ctx, conformance.Options{
		Dial:    func(ctx context.Context) (*plugins.Client, error) { return plugins.Dial(ctx, o) },
		Options: c.options, Modes: c.modes,
	})
	if c.json {
		err = a.json(r)
	} else {
		err = r.Write(a.stdout)
	}
	if err == nil && !r.OK() {
		err = errors.Newf("plugin %s fails %d of %d cases", arg, len(r.Failed()), len(r.Cases))
	}
	return err
}

// checkModes refuses modes that no kind has.
func (c pluginTest) checkModes() error {
	var known []string
	for _, k := range []plugins.Kind{plugins.KindQuantizer, plugins.KindResidual, plugins.KindBackend} {
		known = append(known, conformance.Modes(k)...)
	}
	known = sortedSet(known)
	for _, m := range c.modes {
		if !slices.Contains(known, m) {
			return usagef(framework.Suggest(m, known), "--mode %s", m)
		}
	}
	if strings.Contains(c.options, ":") {
		return usagef("write them as in a spec, without the name: group=64,scale=f16", "--options %s", c.options)
	}
	return nil
}
