package cuda

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/roofline"
)

// Where the floors stand in the page of the backend.
const (
	page       = "../../../docs/gpu.md"
	floorsFrom = "<!-- floors: made by go test ./backends/gpu/cuda -run Floors -update -->\n"
	floorsTo   = "<!-- end of floors -->\n"
)

// TestFloorsInThePageAreCurrent keeps the floors of nano-125m in docs/gpu.md as
// its graphs are planned. A plan needs no device.
func TestFloorsInThePageAreCurrent(t *testing.T) {
	text, err := os.ReadFile(page)
	if os.IsNotExist(err) {
		t.Skip("not checked here: there is no docs/gpu.md beside the test")
	}
	must(t, err)
	before, rest, ok := strings.Cut(string(text), floorsFrom)
	have, after, ok2 := strings.Cut(rest, floorsTo)
	if !ok || !ok2 {
		t.Fatalf("%s has no floors between %q and %q", page, floorsFrom, floorsTo)
	}
	want := floorsPage(t)
	if *update {
		must(t, os.WriteFile(page, []byte(before+floorsFrom+want+floorsTo+after), 0o644))
		return
	}
	if have != want {
		t.Errorf("the floors in %s are not those of these graphs: run go test ./backends/gpu/cuda -run Floors -update", page)
	}
}

func floorsPage(t *testing.T) string {
	t.Helper()
	m, r := nano(t)
	b := backend(engine.NewDevice(nil, nil, nil, engine.BF16), true, nil)
	var s, tables strings.Builder
	s.WriteString("\n| | nodes | MB | Gop | floor, µs | at the floor, tok/s |\n|---|---|---|---|---|---|\n")
	line := func(name string, c count, tokens int) {
		fmt.Fprintf(&s, "| %s | %d | %s | %s | %s | %s |\n", name, c.Nodes, grouped(c.Bytes/1e6), grouped(c.operations()/1e9), micros(c.Floor), perSecond(tokens, c.Floor))
	}
	var step count
	for i, k := range tasks(t, m, r, 256) {
		all := floors(t, b, k, roofline.H200)
		_, total := all.sorted()
		line(k.Name, total, k.Tokens)
		if i < steps { // a step is its gradients and the optimizer
			step.Nodes += total.Nodes
			step.Add(total.Work)
			step.Floor += total.Floor
		}
		if i == steps-1 {
			line("Both: a step of training", step, k.Tokens)
		}
		tables.WriteString("\n" + all.markdown(k))
	}
	return s.String() + tables.String() + "\n"
}

// perSecond is the rate of n in d, to three digits.
func perSecond(n int, d time.Duration) string {
	rate, unit := float64(n)/d.Seconds(), 1.0
	for rate/unit >= 1000 {
		unit *= 10
	}
	return grouped(int64(rate/unit+0.5) * int64(unit))
}
