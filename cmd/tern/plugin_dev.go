package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// buildLimit is how long a plugin may take to build.
const buildLimit = 10 * time.Minute

// build builds the Go package in dir and returns the binary. The go command's
// cache has it do nothing where no source changed; the same sources give the
// same bytes.
func (h *pluginHost) build(dir string) (string, error) {
	if err := store.CheckDir(dir); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp("", "tern-plugin-")
	if err != nil {
		return "", errors.Wrap(err, "build")
	}
	h.built = append(h.built, tmp)
	binary := filepath.Join(tmp, "plugin")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	return binary, goBuild(h.ctx, dir, binary)
}

// goBuild runs go build in dir.
func goBuild(ctx context.Context, dir, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, ".")
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.WithHint(errors.Wrap(err, "build"), "install Go, or build the plugin elsewhere and use --plugin NAME=PATH")
	case err != nil:
		return errors.Wrapf(err, "go build in %s\n%s", dir, lastLines(out.String(), 20))
	}
	if st, err := os.Stat(binary); err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 && runtime.GOOS != "windows" {
		return usagef("name the directory of a package main", "%s is no program", dir)
	}
	return nil
}

// lastLines is the end of a text.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func newPluginDevCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "dev DIR -- COMMAND...",
		Short: "Run a command of tern with a plugin built from source, rebuilt when it changed",
		Long: "Builds the Go package in DIR, asks the plugin for its name, and runs the command with plugin:NAME meaning it, as\n" +
			"--plugin-dev NAME=DIR does. It needs no pin. For example:\n\n" +
			"  tern plugin dev ./mine -- train --quant plugin:mine --steps 100",
		Args: usageArgs(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.plugins.develop(args[0], args[1:])
		},
	}
}

// develop runs a command with the plugin in dir.
func (h *pluginHost) develop(dir string, command []string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if st, err := os.Stat(abs); err != nil || !st.IsDir() {
		return usagef("name the directory of a plugin's package main", "%s is no directory", dir)
	}
	info, err := h.describeSource(abs)
	if err != nil {
		return err
	}
	h.outer.dev = append(h.outer.dev, append(h.dev, info.Name+"="+abs)...)
	h.outer.given = append(h.outer.given, h.given...)
	accept := h.accept
	root := newRootCmd(h.a) // sets the values of its flags to their defaults
	h.accept = accept
	root.SetArgs(command)
	root.SetOut(h.a.stdout)
	root.SetErr(h.a.stderr)
	return root.ExecuteContext(h.ctx)
}

// describeSource builds the plugin in dir and asks it what it is.
func (h *pluginHost) describeSource(dir string) (plugins.Info, error) {
	binary, err := h.build(dir)
	if err != nil {
		return plugins.Info{}, err
	}
	return h.describeBinary(binary)
}
