package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

func newPluginCmd(a *app) *cobra.Command {
	g := newGroup("plugin", "Write, test and install quantizers, residuals and backends of your own",
		newPluginNewCmd(a), newPluginTestCmd(a), newPluginInstallCmd(a), newPluginListCmd(a), newPluginDescribeCmd(a),
		newPluginVerifyCmd(a), newPluginRemoveCmd(a), newPluginDevCmd(a), newPluginBenchCmd(a),
	)
	g.Long = "A plugin is a program of its own that serves a quantizer, a residual or a backend. Where tern takes one of these by\n" +
		"name, it takes plugin:NAME and plugin:NAME:option=value too:\n\n" +
		"  tern train --quant plugin:nf4:group=64\n\n" +
		"NAME is the file tern-plugin-NAME in a directory of " + store.Variable + " or in the per-user directory, or what\n" +
		"--plugin NAME=PATH says. It runs if its SHA-256 is the one pinned by tern plugin install: a plugin is a program that\n" +
		"does whatever you may do."
	for _, c := range g.Commands() {
		if strings.Contains(c.Use, "NAME|PATH") || strings.Contains(c.Use, "NAME...") || c.Name() == "remove" {
			c.ValidArgsFunction = completePlugins
		}
	}
	return g
}

// completePlugins gives the shell the names of plugins, and files.
func completePlugins(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if s, err := hosts.Load().store(); err == nil {
		for _, f := range s.All() {
			names = append(names, f.Name)
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// target is a plugin on the command line: a name, or the path of a binary, which
// has a separator.
type pluginTarget struct {
	name, path string
}

// aim tells names from paths.
func aim(arg string) (pluginTarget, error) {
	if strings.ContainsAny(arg, `/\`) || filepath.IsAbs(arg) {
		abs, err := filepath.Abs(arg)
		return pluginTarget{path: abs}, err
	}
	if err := store.CheckName(arg); err != nil {
		return pluginTarget{}, errors.WithHint(err, "for a file in this directory write ./"+arg)
	}
	return pluginTarget{name: arg}, nil
}

// options are how the plugin is dialed: the pinned binary of a name, or the
// binary at a path as it is, which the user has just named.
func (h *pluginHost) options(t pluginTarget) (plugins.DialOptions, error) {
	if t.path != "" {
		return plugins.DialOptions{Path: t.path}, store.CheckFile(t.path)
	}
	s, err := h.store()
	if err != nil {
		return plugins.DialOptions{}, err
	}
	found, pin, err := s.Verify(t.name)
	return plugins.DialOptions{Name: t.name, Path: found.Path, SHA256: pin.SHA256}, err
}

// describeBinary starts the binary at path and asks it what it is.
func (h *pluginHost) describeBinary(path string) (plugins.Info, error) {
	c, err := plugins.Dial(h.ctx, plugins.DialOptions{Path: path})
	if err != nil {
		return plugins.Info{}, err
	}
	return c.Info(), c.Close()
}

func newPluginDescribeCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe NAME|PATH",
		Short: "Say what a plugin is and which options it has",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := aim(args[0])
			if err != nil {
				return err
			}
			o, err := a.plugins.options(t)
			if err != nil {
				return err
			}
			c, err := plugins.Dial(a.plugins.ctx, o)
			if err != nil {
				return err
			}
			info := c.Info()
			if err := c.Close(); err != nil {
				return err
			}
			if asJSON {
				return a.json(info)
			}
			return a.printPlugin(info)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (a *app) printPlugin(i plugins.Info) error {
	a.printf("%s %s, a %s (protocol %d)\n", i.Name, i.Version, i.Kind, i.Protocol)
	if i.Help != "" {
		a.printf("%s\n", i.Help)
	}
	a.printf("binary    %s\nsha256    %s\n", i.Path, i.SHA256)
	use := "plugin:" + i.Name
	if len(i.Options) > 0 {
		a.printf("\n")
		tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "OPTION\tTYPE\tDEFAULT\tMEANS")
		for _, o := range i.Options {
			typ := o.Type
			if len(o.Choices) > 0 {
				typ = strings.Join(o.Choices, "|")
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", o.Name, typ, o.Default, o.Help)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		if o := i.Options[0]; o.Default != "" {
			use += ":" + o.Name + "=" + o.Default
		}
	}
	a.printf("\nuse it: tern train --%s %s\n", flagOf(i.Kind), use)
	return nil
}
