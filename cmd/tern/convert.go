package main

import (
	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
)

// convertCmd holds the flags of tern convert.
type convertCmd struct {
	output
	backend backendFlags
	json    bool
}

func newConvertCmd(a *app) *cobra.Command {
	var c convertCmd
	cmd := &cobra.Command{
		Use:   "convert IN OUT",
		Short: "Write a model in another format or type: GGUF, Hugging Face, llama2.c",
		Long: "IN is a GGUF file, a directory of the Hugging Face layout, a llama2.c file (its tokenizer beside it as tokenizer.bin or\n" +
			"tokN.bin), a checkpoint or a run. OUT is NAME.gguf, NAME.bin for llama2.c, or a new directory for the Hugging Face layout.\n" + typesHelp,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			t, err := c.target(args[1])
			if err != nil {
				return err
			}
			be, err := c.backend.open(a)
			if err != nil {
				return err
			}
			defer func() { err = errors.CombineErrors(err, be.Close()) }()
			w, err := openWeights(cmd.Context(), be, args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.CombineErrors(err, w.Close()) }()
			r, err := c.write(w, t)
			if err != nil {
				return err
			}
			if c.json {
				return a.json(r)
			}
			a.printf("converted %s\n", args[0])
			a.printWritten(r)
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	c.add(fs)
	c.backend.add(fs)
	fs.BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}
