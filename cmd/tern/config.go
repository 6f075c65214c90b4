package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newConfigCmd(a *app) *cobra.Command {
	return newGroup("config", "Show the configuration", newConfigPrintCmd(a))
}

func newConfigPrintCmd(a *app) *cobra.Command {
	s := newSettings()
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "print [flags of tern train]",
		Short: "Print each value that tern train would use, and where it comes from",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := s.load(a); err != nil {
				return err
			}
			if err := s.resolve(nil); err != nil {
				return err
			}
			return a.printSettings(s, asJSON)
		},
	}
	s.addTo(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

// printSettings writes a table that is a valid configuration file.
func (a *app) printSettings(s *settings, asJSON bool) error {
	all := s.set.Settings()
	if asJSON {
		return a.json(all)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, v := range all {
		value := v.Value
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(tw, "%s: %s\t# %s\n", v.Key, value, v.Origin)
	}
	return tw.Flush()
}
