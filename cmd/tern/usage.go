package main

import (
	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/framework"
)

// newGroup returns a command that only holds others.
func newGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	g.AddCommand(commands...)
	g.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		return usagef(framework.Suggest(args[0], names), "%s has no command %q", cmd.CommandPath(), args[0])
	}
	return g
}

// flagError makes an error of the command line a usage error, with the flag
// that may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	hint := "see " + cmd.CommandPath() + " --help"
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := framework.Nearest(missing.GetSpecifiedName(), names); near != "" {
			hint = "did you mean --" + near + "? " + hint
		}
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		f := invalid.GetFlag()
		return usagef(f.Usage, "--%s: %q is no %s", f.Name, invalid.GetValue(), kindOfFlag(f.Value.Type()))
	}
	return usagef(hint, "%v", err)
}

// kindOfFlag is what a person calls the values of a flag of that type.
func kindOfFlag(kind string) string {
	switch kind {
	case "int":
		return "integer"
	case "uint64":
		return "integer from 0 on"
	case "intSlice":
		return "list of integers such as 1,4"
	case "float64":
		return "number"
	case "bool":
		return "true or false"
	case "duration":
		return "duration such as 30s or 1h30m"
	}
	return kind
}

// noArgs refuses arguments that are no flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("see "+cmd.CommandPath()+" --help", "%s takes flags only, not %q", cmd.CommandPath(), args[0])
}

// usageArgs makes what check finds wrong a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("usage: "+cmd.UseLine(), "%v", err)
		}
		return nil
	}
}
