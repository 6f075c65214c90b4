package gpu

import (
	"debug/buildinfo"
	"fmt"
	"runtime/debug"
)

// The plugin's package and its module.
const (
	module        = "github.com/ternlm/tern"
	pluginPackage = module + "/backends/gpu/cmd/tern-plugin-cuda"
)

// build says from what a program was built, as the linker recorded it.
type build struct {
	pkg      string // of its main
	version  string // of module: that of a release, made of a commit, or "(devel)"
	revision string // the commit; "" where it is not known
}

// readBuild reads it from the file of a program, which is not run.
func readBuild(path string) (build, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return build{}, err
	}
	return buildOf(info), nil
}

// buildOf finds module in what was built: it is the main one, or another program's
// dependency, which has no commit of its own.
func buildOf(info *debug.BuildInfo) build {
	b := build{pkg: info.Path}
	if info.Main.Path != module {
		for _, d := range info.Deps {
			if d.Path == module {
				b.version = d.Version
			}
		}
		return b
	}
	b.version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.revision = s.Value
		}
	}
	return b
}

// differs says how the plugin's build is not this program's; "" if it is. Of a
// checkout without version control, or with changes that are not committed, all
// that is known is the same: then nothing tells them apart.
func (b build) differs(plugin build) string {
	switch {
	case plugin.pkg != pluginPackage:
		return fmt.Sprintf("is another program: its package is %q", plugin.pkg)
	case plugin.version != b.version:
		return fmt.Sprintf("is of version %s, this program of %s", orUnknown(plugin.version), orUnknown(b.version))
	case b.revision != "" && plugin.revision != b.revision:
		return fmt.Sprintf("is of commit %.12s, this program of %.12s", orUnknown(plugin.revision), b.revision)
	}
	return ""
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
