package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/probe"
	"github.com/ternlm/tern/backends/gpu/cuda/simulated"
)

func TestCheckEndsWithAStatusThatSaysWhetherItCanRun(t *testing.T) {
	good := simulated.Libraries(t, simulated.Options{})
	old := simulated.Libraries(t, simulated.Options{Settings: []string{"version=11080"}})
	for name, c := range map[string]struct {
		args []string
		want int
		out  string
	}{
		"it can":          {[]string{"-libraries", good}, 0, "ready      yes"},
		"too old":         {[]string{"-libraries", old}, 1, "the CUDA driver is too old"},
		"no such device":  {[]string{"-libraries", good, "-device", "7"}, 1, "ready      no"},
		"no such flag":    {[]string{"-library", good}, 2, "flag provided but not defined"},
		"no such command": {[]string{"now"}, 2, "check takes no arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if got := check(c.args, &out, &out); got != c.want || !strings.Contains(out.String(), c.out) {
				t.Errorf("status %d, want %d:\n%s", got, c.want, out.String())
			}
		})
	}
	var out bytes.Buffer
	var r probe.Report
	if status := check([]string{"--json", "--libraries", good}, &out, &out); status != 0 {
		t.Fatalf("status %d", status)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || !r.Ready || len(r.Devices) != 1 || r.Devices[0].Free == 0 {
		t.Errorf("%+v, error %v", r, err)
	}
}
