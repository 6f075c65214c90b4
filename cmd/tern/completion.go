package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/train"
)

// flagValues gives the names that a flag takes, for completion by the shell.
var flagValues = map[string]func() []string{
	"preset": model.Presets,
	"recipe": train.Recipes,
	"backend": func() []string {
		return slices.Concat([]string{"auto"}, framework.Backends.Names(), pluginSpecs(plugins.KindBackend))
	},
	"head":      func() []string { return model.Heads },
	"precision": func() []string { return precisions },
	"quant": func() []string {
		return slices.Concat(framework.Quantizers.Names(), pluginSpecs(plugins.KindQuantizer))
	},
	"residual": func() []string { return slices.Concat(framework.Residuals.Names(), pluginSpecs(plugins.KindResidual)) },
}

// completeFlags registers flagValues with cmd and the commands below it.
func completeFlags(cmd *cobra.Command) error {
	for flag, values := range flagValues {
		if cmd.Flags().Lookup(flag) == nil {
			continue
		}
		err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return values(), cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			return err
		}
	}
	for _, c := range cmd.Commands() {
		if err := completeFlags(c); err != nil {
			return err
		}
	}
	return nil
}
