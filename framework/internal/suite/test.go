package suite

import (
	"context"
	"testing"
)

// Test runs the entries as subtests named by mode and name.
func Test(t *testing.T, entries []Entry, skip map[string]string) {
	t.Helper()
	if len(entries) == 0 {
		t.Fatal("the suite has no case")
	}
	for _, e := range entries {
		t.Run(Case{Mode: e.Mode, Name: e.Name}.ID(), func(t *testing.T) {
			c := One(context.Background(), e, skip)
			switch c.Status() {
			case "skip":
				t.Skip(c.Skipped)
			case "FAIL":
				t.Errorf("rule: %s\nseen: %s\nlook: %s", c.Rule, c.Detail, c.Fix)
			default:
				t.Log(c.Detail)
			}
		})
	}
}
