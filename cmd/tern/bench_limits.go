package main

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"gonum.org/v1/gonum/floats"

	"github.com/ternlm/tern/backends/avx2"
)

// Names of the limits of the machine.
const (
	limitInt8 = "int8" // multiplications and additions of bytes, in registers
	limitFMA  = "fma"  // multiplications and additions of f32, in registers
	limitRead = "read" // bytes of the same data again and again, wherever they fit
)

// limitUnits by name.
var limitUnits = map[string]string{limitInt8: "GOPS", limitFMA: "GFLOP/s", limitRead: "GB/s"}

// work is what one item (a product, a token, a step) takes at least.
type work struct {
	Int8  float64 `json:"int8_ops"`  // multiplications and additions of int8
	F32   float64 `json:"f32_flops"` // multiplications and additions of f32
	Bytes float64 `json:"bytes"`     // read, each operand once
}

// plus is the work of both.
func (w work) plus(o work) work { return work{w.Int8 + o.Int8, w.F32 + o.F32, w.Bytes + o.Bytes} }

// times is the work n times.
func (w work) times(n float64) work { return work{n * w.Int8, n * w.F32, n * w.Bytes} }

// of gives the part of the work that a limit bounds, in billions.
func (w work) of(limit string) float64 {
	return map[string]float64{limitInt8: w.Int8, limitFMA: w.F32, limitRead: w.Bytes}[limit] / 1e9
}

// benchFloor is the least time of an item by the measured limits.
type benchFloor struct {
	work
	Arithmetic float64 `json:"arithmetic_s"` // int8 and f32 one after the other: they share the units
	Memory     float64 `json:"memory_s"`
	Seconds    float64 `json:"s"` // the larger
	Bound      string  `json:"bound"`
}

// floor divides the work by what the limits gave; a limit that is not known
// bounds nothing.
func (w work) floor(limits map[string]float64) benchFloor {
	f := benchFloor{work: w}
	seconds := func(limit string) float64 {
		if l := limits[limit]; l > 0 {
			return w.of(limit) / l
		}
		return 0
	}
	f.Arithmetic, f.Memory = seconds(limitInt8)+seconds(limitFMA), seconds(limitRead)
	f.Seconds, f.Bound = f.Arithmetic, "arithmetic"
	if f.Memory > f.Arithmetic {
		f.Seconds, f.Bound = f.Memory, "memory"
	}
	return f
}

// prober measures the machine's limits.
type prober struct {
	time  time.Duration // of a measurement
	bytes []float32     // what read reads
}

// known lists the limits that bound some of w and that this machine can show.
func (p *prober) known(w work) []string {
	var names []string
	for _, n := range []string{limitInt8, limitFMA, limitRead} {
		if w.of(n) > 0 && (n == limitRead || avx2.Supported()) {
			names = append(names, n)
		}
	}
	return names
}

// contender measures a limit of the instructions that cpu probes, on so many
// threads; bytes is the size of the data of limitRead.
func (p *prober) contender(cpu avx2.Probe, limit string, threads int, bytes float64) contender {
	return contender{name: "limit " + limit, rate: func(context.Context) (float64, error) {
		piece := p.piece(cpu, limit, threads, bytes)
		units := make([]float64, threads)
		var all sync.WaitGroup
		begin := time.Now()
		for t := range threads {
			all.Go(func() {
				for time.Since(begin) < p.time {
					units[t] += piece(t)
				}
			})
		}
		all.Wait()
		return floats.Sum(units) / 1e9 / time.Since(begin).Seconds(), nil
	}}
}

// mostRead bounds the memory that is read: well beyond any cache.
const mostRead = 256 << 20

// piece returns some microseconds of work of thread t, which says how much it
// was.
func (p *prober) piece(cpu avx2.Probe, limit string, threads int, bytes float64) func(t int) float64 {
	switch limit {
	case limitInt8:
		return func(int) float64 { return cpu.Int8(2000) }
	case limitFMA:
		return func(int) float64 { return cpu.FMA(2000) }
	}
	n := int(min(max(bytes, 4096), mostRead)) / 4
	if len(p.bytes) < n {
		p.bytes = slices.Repeat([]float32{1}, n) // pages that nobody wrote would all be one page
	}
	data := p.bytes[:n]
	each := max(1, n/threads)
	return func(t int) float64 {
		x := data[t*each:][:each]
		again := max(1, 1<<16/(4*each))
		for range again {
			read(cpu, x)
		}
		return float64(4 * each * again)
	}
}

// sink keeps the compiler from leaving reads out.
var sink [64]uint32

// read reads x with what the machine has.
func read(cpu avx2.Probe, x []float32) {
	if avx2.Supported() {
		cpu.Read(x)
		return
	}
	var a, b, c, d uint32
	for ; len(x) >= 4; x = x[4:] {
		a, b, c, d = a|math.Float32bits(x[0]), b|math.Float32bits(x[1]), c|math.Float32bits(x[2]), d|math.Float32bits(x[3])
	}
	if a|b|c|d == 1 { // never: it makes the loop's result count
		sink[0]++
	}
}
