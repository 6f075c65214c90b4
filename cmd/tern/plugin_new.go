package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// ternModule is the module that plugins are built with.
const ternModule = "github.com/ternlm/tern"

//go:embed plugin_new
var pluginTemplates embed.FS

// pluginKinds are the kinds that tern plugin new makes.
var pluginKinds = []string{string(plugins.KindQuantizer), string(plugins.KindResidual), string(plugins.KindBackend)}

// pluginNew holds the flags of tern plugin new.
type pluginNew struct {
	dir    string
	module string
	tern   string
}

func newPluginNewCmd(a *app) *cobra.Command {
	var c pluginNew
	cmd := &cobra.Command{
		Use:   "new quantizer|residual|backend NAME",
		Short: "Write a module that builds and passes the conformance suite, to start from",
		Args:  usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), a, args[0], args[1])
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&c.dir, "dir", "", "where to; without it tern-plugin-NAME in the working directory")
	fs.StringVar(&c.module, "module", "", "path of the module; without it example.com/tern-plugin-NAME")
	fs.StringVar(&c.tern, "tern", "", "a checkout of tern to build with; without it the one around DIR, or else this tern's version")
	return cmd
}

// scaffold is what the templates know.
type scaffold struct {
	Kind, Name, Module string
	Binary             string // name of the binary
	Type               string // an exported identifier made of Name
	Tern               string // directory of a checkout, or ""
	Version            string // of tern
	Requires           string // lines of go.mod that a checkout asks for
	Go                 string // version of the language
	Flag               string // that the plugin is chosen by
}

func (c pluginNew) run(ctx context.Context, a *app, kind, name string) error {
	s, err := c.scaffold(kind, name)
	if err != nil {
		return err
	}
	dir := c.dir
	if dir == "" {
		dir = store.Prefix + name
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return usagef("choose another with --dir", "%s is not empty", dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return usagef("choose another with --dir", "%s is no directory to write to: %v", dir, err)
	}
	sums, err := c.source(&s, dir)
	if err != nil {
		return err
	}
	if err := s.write(dir); err != nil {
		return err
	}
	if sums != nil {
		err = os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o666)
	} else {
		err = tidy(ctx, dir)
	}
	if err != nil {
		return errors.Wrapf(err, "%s is written, but not complete", dir)
	}
	a.printf("wrote     %s, a %s in module %s\n\nNext:\n  cd %s\n  go test ./...\n  go build -trimpath -ldflags='-s -w' -o %s .\n  %s plugin test ./%s\n  %s plugin install ./%s\n  %s train --%s plugin:%s\n",
		dir, kind, s.Module, dir, s.Binary, self(), s.Binary, self(), s.Binary, self(), s.Flag, name)
	return nil
}

// scaffold checks the arguments.
func (c pluginNew) scaffold(kind, name string) (scaffold, error) {
	s := scaffold{Kind: kind, Name: name, Module: c.module, Binary: store.FileName(name), Flag: flagOf(plugins.Kind(kind)), Go: "1.26"}
	known := false
	for _, k := range pluginKinds {
		known = known || k == kind
	}
	if !known {
		return s, usagef(framework.Suggest(kind, pluginKinds), "there is no kind of plugin %q", kind)
	}
	if err := store.CheckName(name); err != nil {
		return s, err
	}
	if s.Module == "" {
		s.Module = "example.com/" + store.Prefix + name
	}
	if !modulePattern.MatchString(s.Module) {
		return s, usagef("such as github.com/me/"+store.Prefix+name, "--module %s is no module path", s.Module)
	}
	s.Type = identifier(name)
	return s, nil
}

var modulePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9][A-Za-z0-9._~-]*)*$`)

// identifier makes an exported name of Go: my-nf4 is MyNf4.
func identifier(name string) string {
	var b strings.Builder
	for _, part := range strings.Split(name, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	if id := b.String(); token.IsIdentifier(id) {
		return id
	}
	return "X" + b.String() // it begins with a digit
}

// source finds the tern that the module is built with: its version, or a
// checkout with the requirements and sums (not nil) that it has.
func (c pluginNew) source(s *scaffold, dir string) (sums []byte, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s.Tern = checkoutAround(abs)
	if c.tern != "" {
		if s.Tern, err = filepath.Abs(c.tern); err != nil {
			return nil, err
		}
		if !isCheckout(s.Tern) {
			return nil, usagef("name the directory with tern's go.mod", "--tern %s is no checkout of %s", c.tern, ternModule)
		}
	}
	if s.Tern == "" {
		if s.Version = mainVersion(); !released(s.Version) {
			return nil, usagef("name a checkout of it: --tern DIR", "this tern is no released version that a module could ask for")
		}
		return nil, nil
	}
	s.Version = "v0.0.0"
	sumFile := filepath.Join(s.Tern, "go.sum")
	mod, err := os.ReadFile(filepath.Join(s.Tern, "go.mod"))
	s.Tern = quoteModule(s.Tern)
	if err != nil {
		return nil, err
	}
	s.Requires, s.Go = requirements(string(mod))
	sums, err = os.ReadFile(sumFile)
	if sums == nil {
		sums = []byte{}
	}
	return sums, err
}

// mainVersion is the version of this program's module, as the go command has it;
// tests have another.
var mainVersion = func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Version
}

// quoteModule writes a path as go.mod has it.
func quoteModule(path string) string {
	if strings.ContainsAny(path, " \"'`()[]{},") || strings.Contains(path, "//") || strings.Contains(path, "/*") {
		return strconv.Quote(path)
	}
	return path
}

// released reports whether a version is one that proxies have.
func released(version string) bool {
	return regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-(alpha|beta|rc)[0-9A-Za-z.]*)?$`).MatchString(version)
}

func isCheckout(dir string) bool {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(mod), "module "+ternModule+"\n")
}

// checkoutAround is the checkout that dir lies in, or "".
func checkoutAround(dir string) string {
	for ; ; dir = filepath.Dir(dir) {
		if isCheckout(dir) {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// requirements are the modules that a go.mod asks for, all as indirect ones, and
// its version of Go: a module that replaces tern by a checkout then builds with
// the same modules, and needs no network.
func requirements(mod string) (requires, goVersion string) {
	var b strings.Builder
	for line := range strings.SplitSeq(mod, "\n") {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && f[0] == "go" {
			goVersion = f[1]
		} else if len(f) >= 2 && strings.Contains(f[0], ".") && strings.HasPrefix(f[1], "v") {
			fmt.Fprintf(&b, "\t%s %s // indirect\n", f[0], f[1])
		}
	}
	return b.String(), goVersion
}

// write writes the files of the kind and those that all kinds share.
func (s scaffold) write(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return errors.Wrap(err, "new plugin")
	}
	for _, from := range []string{"plugin_new/common", "plugin_new/" + s.Kind} {
		entries, err := fs.ReadDir(pluginTemplates, from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			t, err := template.ParseFS(pluginTemplates, path.Join(from, e.Name()))
			if err != nil {
				return err
			}
			var b bytes.Buffer
			if err := t.Execute(&b, s); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, strings.Replace(strings.TrimSuffix(e.Name(), ".tmpl"), "dot-", ".", 1)), b.Bytes(), 0o666); err != nil {
				return errors.Wrap(err, "new plugin")
			}
		}
	}
	return nil
}

// tidy fetches what the module needs.
func tidy(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.WithHint(errors.Wrapf(err, "go mod tidy\n%s", lastLines(string(out), 10)), "run go mod tidy there")
	}
	return nil
}
