package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"tern": main}) }

// TestScripts runs the command as users do. Each script has a file
// small.yaml: a model that trains in a second.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("BADTEXT", "caf\xe9")
			if err := setGo(e); err != nil {
				return err
			}
			return writeSmall(e.WorkDir)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
			"poke":   poke,
			"setkey": setKey,
		},
	})
}
