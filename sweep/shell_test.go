package sweep

import (
	"os/exec"
	"testing"
)

func TestShellWordsComeBackFromAShellAsTheyWere(t *testing.T) {
	for s, want := range map[string]string{
		"runs/a": "runs/a", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'", "a\nb": "'a\nb'", "ä": "'ä'",
		"mhclite:streams=4,init=report": "mhclite:streams=4,init=report",
	} {
		if got := ShellWord(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
		sh, err := exec.LookPath("sh")
		if err != nil {
			continue
		}
		if out, err := exec.Command(sh, "-c", "printf %s "+ShellWord(s)).Output(); err != nil || string(out) != s {
			t.Errorf("%q comes back as %q, %v", s, out, err)
		}
	}
}
