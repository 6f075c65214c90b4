package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// goEnv is where the go command keeps what scripts build with: they have no
// home, and no network.
var goEnv = sync.OnceValues(func() (map[string]string, error) {
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	return env, json.Unmarshal(out, &env)
})

// setGo lets a script build plugins with the checkout $TERN.
func setGo(e *testscript.Env) error {
	env, err := goEnv()
	if err != nil {
		return err
	}
	for k, v := range env {
		e.Setenv(k, v)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	e.Setenv("TERN", root)
	e.Setenv("GOFLAGS", "")
	e.Setenv("GOPROXY", "off")
	e.Setenv("GOTOOLCHAIN", "local")
	e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
	e.Setenv("TERN_PLUGIN_PATH", "")
	return nil
}
