package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// pluginInstall holds the flags of tern plugin install.
type pluginInstall struct {
	name    string
	pinOnly bool
	json    bool
}

func newPluginInstallCmd(a *app) *cobra.Command {
	var c pluginInstall
	cmd := &cobra.Command{
		Use:   "install PATH",
		Short: "Copy a plugin's binary to the per-user directory and pin it",
		Long: "Starts the binary, asks what it is, copies it to the per-user directory of plugins, and writes its SHA-256 to the\n" +
			"lock file there. From then on that binary is what plugin:NAME may mean, wherever it lies. It is started before it is\n" +
			"pinned: install only what you trust.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return c.run(a, args[0]) },
	}
	cmd.Flags().StringVar(&c.name, "name", "", "the name in specs; without it the one that the plugin gives itself")
	cmd.Flags().BoolVar(&c.pinOnly, "pin-only", false, "pin the binary where it is, without a copy")
	cmd.Flags().BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

func (c pluginInstall) run(a *app, path string) error {
	if c.name != "" {
		if err := store.CheckName(c.name); err != nil {
			return err
		}
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() {
		return usagef("name a plugin's binary; go build makes one", "%s is no file", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	s, err := a.plugins.store()
	if err != nil {
		return err
	}
	var i plugins.Info
	if c.pinOnly {
		i, path, err = c.pin(a, s, path)
	} else {
		i, path, err = c.copy(a, s, path)
	}
	if err != nil {
		return errors.Wrapf(err, "install %s", path)
	}
	if c.json {
		return a.json(c.listed(i, path))
	}
	name := c.pinOf(i).Name
	a.printf("installed %s %s, a %s\n          %s\n          sha256 %s\nuse it    tern train --%s plugin:%s\n",
		name, i.Version, i.Kind, path, i.SHA256, flagOf(i.Kind), name)
	return nil
}

// pinOf is the pin of an installed plugin.
func (c pluginInstall) pinOf(i plugins.Info) store.Pin {
	name := c.name
	if name == "" {
		name = i.Name
	}
	return store.Pin{
		Name: name, Kind: string(i.Kind), Version: i.Version, SHA256: i.SHA256,
		Platform: store.Platform(), Installed: time.Now().UTC().Truncate(time.Second),
	}
}

func (c pluginInstall) listed(i plugins.Info, path string) listedPlugin {
	p := c.pinOf(i)
	return listedPlugin{Name: p.Name, Kind: p.Kind, Version: p.Version, SHA256: p.SHA256, Path: path, State: stateOK}
}

// copy makes a copy of the binary, looks at the binary if it has the copy's bytes,
// and keeps the copy.
func (c pluginInstall) copy(a *app, s *store.Store, path string) (i plugins.Info, kept string, err error) {
	staged, sum, err := s.Stage(path)
	if err != nil {
		return i, path, err
	}
	if i, err = a.plugins.describePinned(path, sum); err == nil {
		kept, err = s.Keep(staged, c.pinOf(i))
	}
	if err != nil {
		return i, path, errors.CombineErrors(err, removeIfThere(staged))
	}
	return i, kept, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// pin looks at the binary where it is.
func (c pluginInstall) pin(a *app, s *store.Store, path string) (plugins.Info, string, error) {
	if err := store.CheckFile(path); err != nil {
		return plugins.Info{}, path, err
	}
	sum, err := store.Hash(path)
	if err != nil {
		return plugins.Info{}, path, err
	}
	i, err := a.plugins.describePinned(path, sum)
	if err != nil {
		return i, path, err
	}
	return i, path, s.ChangeLock(func(l *store.Lock) error { l.Set(c.pinOf(i)); return nil })
}

// describePinned starts the binary at path, which must have the hash sum, and
// asks it what it is.
func (h *pluginHost) describePinned(path, sum string) (plugins.Info, error) {
	c, err := plugins.Dial(h.ctx, plugins.DialOptions{Path: path, SHA256: sum})
	if err != nil {
		return plugins.Info{}, err
	}
	return c.Info(), c.Close()
}

func newPluginRemoveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a plugin from the per-user directory, and its pin",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.plugins.store()
			if err != nil {
				return err
			}
			if err := s.Remove(args[0]); err != nil {
				return err
			}
			a.printf("removed   %s\n", args[0])
			return nil
		},
	}
}
