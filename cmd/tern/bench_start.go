package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
)

func newBenchStartCmd(a *app) *cobra.Command {
	var f benchFlags
	s := startFlags{s: benchSettings("nano-125m")}
	cmd := &cobra.Command{
		Use: "start", Short: "Measure the time from the start of tern to its first token", Args: noArgs,
		Long: "Runs tern generate --tokens 1 with a GGUF file of the preset's size and random weights, which the system has in its page\n" +
			"cache, from its start to its end: TIME is what a user waits for the first token.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), f, "start", s.cases(a)) },
	}
	f.add(cmd.Flags(), 5, 0.2)
	s.s.addSome(cmd.Flags(), append([]string{"preset"}, modelKeys...))
	return cmd
}

// startFlags are those of tern bench start.
type startFlags struct{ s *settings }

func (f startFlags) cases(a *app) casesOf {
	return func(_ context.Context, l *lab, dir string) ([]benchCase, error) {
		m, err := presetModel(a, f.s)
		if err != nil {
			return nil, err
		}
		s, err := sizes(m.config)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, "start.gguf")
		return []benchCase{{
			part: "start", threads: l.threadsOf("start"), series: m.name, name: "first token", unit: "starts/s", item: "start", units: 1, work: s.decodeWork(0),
			params: map[string]any{"model": m.name, "parameters": s.parameters, "quant": m.config.Quant, "residual": m.config.Residual},
			values: map[string]string{"model": path, "preset": m.name},
			open: func(ctx context.Context, be framework.Backend) (subject, error) {
				return newStarting(ctx, be, l.spec, m, path)
			},
		}}, nil
	}
}

// starting runs tern from its start to the first token.
type starting struct{ program, spec, threads, path string }

// newStarting writes the file unless it is there.
func newStarting(ctx context.Context, be framework.Backend, spec string, m benchModel, path string) (*starting, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, errors.Wrap(err, "find this program")
	}
	if _, err := os.Stat(path); err != nil {
		w, err := m.weights(ctx, be)
		if err != nil {
			return nil, err
		}
		if err := w.WriteGGUF(path); err != nil {
			return nil, err
		}
	}
	return &starting{program, spec, fmt.Sprint(describe(be).Threads), path}, nil
}

func (s *starting) Run(ctx context.Context) (float64, error) {
	cmd := exec.CommandContext(ctx, s.program, "generate", "--model", s.path, "--tokens", "1", "--backend", s.spec, "--threads", s.threads, "")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, errors.WithHint(errors.Wrap(err, "tern generate"), "it said: "+lastLine(string(out)))
	}
	return 1, nil
}

func (s *starting) Close() error { return nil }
