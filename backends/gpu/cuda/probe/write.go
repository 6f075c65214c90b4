package probe

import (
	"fmt"
	"io"
	"strings"
)

// Write writes r for people.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	r.Driver.write(&b, "driver")
	for _, d := range r.Devices {
		d.write(&b)
	}
	r.NVRTC.write(&b, "NVRTC")
	r.CuBLASLt.write(&b, "cuBLASLt")
	if r.CuBLASLt.Error != "" && r.Ready {
		line(&b, "", "products of matrices are computed without it, slower")
	}
	if r.Cache != "" {
		line(&b, "cache", r.Cache)
	}
	switch {
	case r.Ready:
		line(&b, "ready", "yes: --backend gpu")
	default:
		line(&b, "ready", "no")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func line(b *strings.Builder, name, text string) { fmt.Fprintf(b, "%-10s %s\n", name, text) }

func (p Part) write(b *strings.Builder, name string) {
	text := strings.TrimSpace(p.Version + " " + p.Path)
	if p.Error != "" {
		text = p.Error
	}
	line(b, name, text)
	if p.Hint != "" {
		line(b, "", "-> "+p.Hint)
	}
}

func (d Device) write(b *strings.Builder) {
	const gib = 1 << 30
	text := fmt.Sprintf("%s, compute capability %s, %d multiprocessors, %.1f of %.1f GiB free", d.Name, d.Capability, d.Multiprocessors,
		float64(d.Free)/gib, float64(d.Memory)/gib)
	if d.Error != "" {
		text = d.Name + ": " + d.Error
	}
	line(b, fmt.Sprintf("device %d", d.Ordinal), text)
	if d.Hint != "" {
		line(b, "", "-> "+d.Hint)
	}
}
