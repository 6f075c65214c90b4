package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/plugins/store"
)

// The states of a plugin.
const (
	stateOK       = "ok"
	stateUnpinned = "not pinned"
	stateChanged  = "changed"
	stateUnsafe   = "unsafe"
	stateMissing  = "missing"
	stateBroken   = "broken"
)

// listedPlugin is one line of tern plugin list.
type listedPlugin struct {
	Name    string `json:"name"`
	Kind    string `json:"kind,omitempty"`
	Version string `json:"version,omitempty"`
	Path    string `json:"path,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // pinned
	State   string `json:"state"`
	Error   string `json:"error,omitempty"`
	hints   []string
}

// stateOf names what is wrong with a plugin.
func stateOf(err error) string {
	switch {
	case err == nil:
		return stateOK
	case errors.Is(err, store.ErrUnpinned):
		return stateUnpinned
	case errors.Is(err, store.ErrChanged):
		return stateChanged
	case errors.Is(err, store.ErrUnsafe):
		return stateUnsafe
	case errors.Is(err, store.ErrNotFound):
		return stateMissing
	}
	return stateBroken
}

func newPluginListCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the plugins that there are, and whether they may run",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			list, err := a.plugins.list(false)
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(list)
			}
			return a.printPlugins(list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func newPluginVerifyCmd(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Compare plugins with their pins, and start them; without names all that are pinned",
		RunE: func(_ *cobra.Command, args []string) error {
			list, err := a.plugins.list(true, args...)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.json(list)
			} else {
				err = a.printPlugins(list)
			}
			bad := 0
			for _, p := range list {
				if p.State != stateOK {
					bad++
				}
			}
			if err == nil && bad > 0 {
				err = errors.Newf("%d of %s may not run", bad, plural(len(list), "plugin"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

// list looks at the plugins that are found or pinned; with start, at those that
// are pinned or named, and starts them.
func (h *pluginHost) list(start bool, names ...string) ([]listedPlugin, error) {
	s, err := h.store()
	if err != nil {
		return nil, err
	}
	l, err := s.ReadLock()
	if err != nil {
		return nil, err
	}
	list := []listedPlugin{}
	for _, name := range listNames(s, l, start, names) {
		found, pin, err := s.Verify(name)
		if err == nil && start {
			err = h.startPinned(found, pin)
		}
		p := listedPlugin{Name: name, Path: found.Path, State: stateOf(err), hints: errors.GetAllHints(err)}
		if pin, ok := l.Pin(name); ok {
			p.Kind, p.Version, p.SHA256 = pin.Kind, pin.Version, pin.SHA256
		}
		if err != nil {
			p.Error = err.Error()
		}
		list = append(list, p)
	}
	return list, nil
}

// startPinned starts a plugin and compares what it says with its pin.
func (h *pluginHost) startPinned(f store.Found, p store.Pin) error {
	i, err := h.describePinned(f.Path, p.SHA256)
	if err != nil {
		return err
	}
	if string(i.Kind) != p.Kind || i.Version != p.Version {
		return errors.WithHint(errors.Newf("it is a %s %s, pinned as a %s %s", i.Kind, i.Version, p.Kind, p.Version), f.Accept())
	}
	return nil
}

// listNames are the names to look at, each once.
func listNames(s *store.Store, l *store.Lock, pinned bool, names []string) []string {
	all := names
	if len(names) == 0 {
		for _, p := range l.Pins {
			if p.Platform == store.Platform() {
				all = append(all, p.Name)
			}
		}
		if !pinned {
			for _, f := range s.All() {
				all = append(all, f.Name)
			}
		}
	}
	return sortedSet(all)
}

func (a *app) printPlugins(list []listedPlugin) error {
	if len(list) == 0 {
		a.printf("there are no plugins: tern plugin install PATH installs one, tern plugin new starts one\n")
		return nil
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tKIND\tVERSION\tSTATE\tPATH")
	for _, p := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.Kind, p.Version, p.State, p.Path)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, p := range list {
		if p.Error == "" {
			continue
		}
		a.printf("\n%s: %s\n", p.Name, strings.TrimPrefix(p.Error, p.Name+": "))
		for _, h := range p.hints {
			a.printf("  hint: %s\n", h)
		}
	}
	return nil
}
