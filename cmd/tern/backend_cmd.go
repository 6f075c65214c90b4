package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
	"github.com/ternlm/tern/plugins"
)

func newBackendCmd(a *app) *cobra.Command {
	return newGroup("backend", "List and test what computes", newBackendListCmd(a), newBackendTestCmd(a))
}

// backendInfo is one line of tern backend list.
type backendInfo struct {
	framework.Info
	Auto  bool   `json:"auto"` // what auto stands for here
	Error string `json:"error,omitempty"`
}

func newBackendListCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backends",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := listBackends()
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(list)
			}
			return a.printBackends(list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func listBackends() ([]backendInfo, error) {
	chosen, err := openBackend("auto", 0)
	if err != nil {
		return nil, err
	}
	auto := chosen.Name()
	if err := chosen.Close(); err != nil {
		return nil, err
	}
	var list []backendInfo
	for _, name := range append(framework.Backends.Names(), pluginSpecs(plugins.KindBackend)...) {
		be, err := framework.Backends.Open(name)
		if err != nil {
			list = append(list, backendInfo{Info: framework.Info{Name: name}, Error: err.Error()})
			continue
		}
		info := describe(be)
		if strings.HasPrefix(name, pluginScheme+":") {
			info.Name = name
		}
		list = append(list, backendInfo{Info: info, Auto: name == auto})
		if err := be.Close(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// reason is the error without the name and the words that all such errors share.
func (b backendInfo) reason() string {
	short := strings.TrimPrefix(b.Error, fmt.Sprintf("backend %q: ", b.Name))
	return strings.TrimSuffix(short, ": "+framework.ErrUnsupported.Error())
}

// printBackends writes a table, and below it why others cannot run.
func (a *app) printBackends(list []backendInfo) error {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tDEVICE\tTHREADS\tOWN KERNELS\t")
	for _, b := range list {
		note := ""
		if b.Auto {
			note = "auto"
		}
		if b.Error == "" {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\n", b.Name, b.Device, threadsText(b.Threads), len(b.Native), note)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, b := range list {
		if b.Error != "" {
			a.printf("%s  %s\n", b.Name, b.reason())
		}
	}
	return nil
}

func newBackendTestCmd(a *app) *cobra.Command {
	var asJSON bool
	var modes []string
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "Run the conformance suite on a backend, with scalar as the reference",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.testBackend(cmd.Context(), args[0], modes, asJSON)
		},
	}
	cmd.Flags().StringSliceVar(&modes, "mode", nil, "parts of the suite to run: "+strings.Join(backendtest.Modes(), ", "))
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (a *app) testBackend(ctx context.Context, spec string, modes []string, asJSON bool) error {
	open := func() (framework.Backend, error) { return openBackend(spec, 0) }
	be, err := open()
	if err != nil {
		return err
	}
	if err := be.Close(); err != nil {
		return err
	}
	for _, m := range modes {
		if !slices.Contains(backendtest.Modes(), m) {
			return usagef(framework.Suggest(m, backendtest.Modes()), "--mode %s", m)
		}
	}
	o := backendtest.Options{
		Open: open, Modes: modes,
		Reference:   func() (framework.Backend, error) { return framework.Backends.Open("scalar") },
		Reference64: func() framework.Backend { return scalar.Open64(0) },
	}
	if takes(spec, "threads") && !strings.Contains(spec, "threads=") {
		o.OpenThreads = func(n int) (framework.Backend, error) { return openBackend(spec, n) }
	}
	r := backendtest.Check(ctx, o)
	if asJSON {
		err = a.json(r)
	} else {
		err = r.Write(a.stdout)
	}
	if err == nil && !r.OK() {
		err = errors.Newf("backend %s fails %d of %d cases", spec, len(r.Failed()), len(r.Cases))
	}
	return err
}
