package framework_test

import (
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

func TestADelegatedNameGetsTheRestAsItStands(t *testing.T) {
	r := framework.NewRegistry[string]("thing")
	r.Register("plain", func(framework.Options) (string, error) { return "plain", nil })
	r.Delegate("plugin", func(rest string) (string, error) {
		if rest == "bad" {
			return "", framework.ErrUnsupported
		}
		return "[" + rest + "]", nil
	})
	for spec, want := range map[string]string{"plain": "plain", "plugin:mine": "[mine]", "plugin:mine:a=1,b=2": "[mine:a=1,b=2]", "plugin": "[]", "plugin:": "[]"} {
		if got, err := r.Open(spec); err != nil || got != want {
			t.Errorf("%s opens as %q, %v, want %q", spec, got, err, want)
		}
	}
	if _, err := r.Open("plugin:bad"); !errors.Is(err, framework.ErrUnsupported) || !strings.Contains(err.Error(), `thing "plugin:bad"`) {
		t.Errorf("an error of who opens it: %v", err)
	}
	for _, name := range []string{"plain", "plugin"} {
		for how, again := range map[string]func(){
			"register": func() { r.Register(name, nil) },
			"delegate": func() { r.Delegate(name, nil) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s of %s again is accepted", how, name)
					}
				}()
				again()
			}()
		}
	}
}
