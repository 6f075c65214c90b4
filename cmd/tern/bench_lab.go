package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/backends/gpu"
	"github.com/ternlm/tern/framework"
)

// benchFlags are the flags of all commands of tern bench.
type benchFlags struct {
	spec        string
	precision   string
	threads     []int
	rounds      int
	seconds     float64
	json        bool
	plot        string
	peers       []string
	peerTimeout time.Duration
	scalar      bool
}

func (f *benchFlags) add(fs *pflag.FlagSet, rounds int, seconds float64) {
	fs.SortFlags = false
	fs.StringVar(&f.spec, "backend", "auto", "what computes, such as scalar, avx2 or gpu")
	fs.StringVar(&f.precision, "precision", "", precisionUsage)
	fs.IntSliceVar(&f.threads, "threads", nil, "numbers of threads, measured in the same rounds; 0 is one for each processor")
	fs.IntVar(&f.rounds, "rounds", rounds, "times that each is measured, in turn")
	fs.Float64Var(&f.seconds, "seconds", seconds, "least time of a measurement")
	fs.BoolVar(&f.scalar, "scalar", true, "measure the scalar backend, too")
	fs.StringArrayVar(&f.peers, "peer", nil, "NAME=COMMAND: a program to measure in the same rounds (see tern bench --help)")
	fs.DurationVar(&f.peerTimeout, "peer-timeout", time.Minute, "most time of one run of a peer")
	fs.BoolVar(&f.json, "json", false, "write JSON (docs/bench.md has the names)")
	fs.StringVar(&f.plot, "plot", "", "also draw the rates: FILE.svg or FILE.png")
}

// lab is where a benchmark runs: the backends, the limits and the peers.
type lab struct {
	a       *app
	spec    string
	threads []int // nil is each part's own
	rounds  int
	least   time.Duration
	scalar  bool
	main    string // the part that a peer without one takes part in
	peers   []peer
	probe   *prober
	open    map[string]framework.Backend
}

// newLab checks the flags.
func (a *app) newLab(f benchFlags, main string) (*lab, error) {
	if f.rounds < 1 || f.rounds > 1000 {
		return nil, usagef("choose 1 to 1000", "--rounds %d", f.rounds)
	}
	if !(f.seconds > 0 && f.seconds <= 3600) {
		return nil, usagef("choose more than 0, at most 3600", "--seconds %v", f.seconds)
	}
	if f.peerTimeout <= 0 {
		return nil, usagef("for example 30s", "--peer-timeout %v", f.peerTimeout)
	}
	if err := checkPlot(f.plot); err != nil {
		return nil, err
	}
	var err error
	if f.spec, err = withPrecision(gpu.Spec(f.spec), f.precision); err != nil {
		return nil, err
	}
	l := &lab{a: a, spec: f.spec, rounds: f.rounds, scalar: f.scalar, main: main, open: map[string]framework.Backend{}}
	l.least = time.Duration(f.seconds * float64(time.Second))
	l.probe = &prober{time: max(2*time.Millisecond, min(l.least/4, 50*time.Millisecond))}
	if err := l.setThreads(f); err != nil {
		return nil, err
	}
	for _, s := range f.peers {
		p, err := parsePeer(s, f.peerTimeout)
		if err != nil {
			return nil, err
		}
		if p.part == "" {
			p.part = main
		}
		if p.part == "" {
			return nil, usagef("name its part: --peer decode/"+s, "--peer %q: several parts are measured", s)
		}
		l.peers = append(l.peers, p)
	}
	return l, nil
}

// setThreads checks the numbers of threads and leaves out repetitions. A
// backend that names its own is measured on those; one that has none, on 0.
func (l *lab) setThreads(f benchFlags) error {
	for _, t := range f.threads {
		if t < 0 {
			return usagef("0 is one for each processor", "--threads %d", t)
		}
	}
	if !takes(f.spec, "threads") {
		l.threads = []int{0}
		return nil
	}
	if len(f.threads) == 0 {
		spec, t, err := l.a.chooseThreads(f.spec, 0, false)
		if err == nil && spec != f.spec {
			l.spec, l.threads = spec, []int{cmp.Or(t, runtime.GOMAXPROCS(0))}
		}
		return err
	}
	for _, t := range f.threads {
		_, t, err := l.a.chooseThreads(f.spec, t, true)
		if err != nil {
			return err
		}
		if t = cmp.Or(t, runtime.GOMAXPROCS(0)); !slices.Contains(l.threads, t) {
			l.threads = append(l.threads, t)
		}
	}
	return nil
}

// threadsOf is what a part is measured on: one thread and all, but training,
// which takes much memory, on all.
func (l *lab) threadsOf(part string) []int {
	all := runtime.GOMAXPROCS(0)
	switch {
	case l.threads != nil:
		return l.threads
	case part == "train" || all == 1:
		return []int{all}
	}
	return []int{1, all}
}

// peersOf are the peers that take part in a part.
func (l *lab) peersOf(part string) []peer {
	var out []peer
	for _, p := range l.peers {
		if p.part == part {
			out = append(out, p)
		}
	}
	return out
}

// backend returns the chosen backend with so many threads.
func (l *lab) backend(threads int) (framework.Backend, error) { return l.opened(l.spec, threads) }

// reference returns the scalar backend with so many threads.
func (l *lab) reference(threads int) (framework.Backend, error) { return l.opened("scalar", threads) }

func (l *lab) opened(spec string, threads int) (framework.Backend, error) {
	key := withThreads(spec, threads)
	if be := l.open[key]; be != nil {
		return be, nil
	}
	be, err := openBackend(spec, threads)
	if err == nil {
		l.open[key] = be
	}
	return be, err
}

func (l *lab) close() error {
	var err error
	for _, be := range l.open {
		err = errors.CombineErrors(err, be.Close())
	}
	return err
}

// measureAll measures the cases. What it measured before an error stays.
func (l *lab) measureAll(ctx context.Context, cases []benchCase) ([]benchRow, error) {
	var rows []benchRow
	p := &benchProgress{a: l.a, total: len(cases) * l.rounds, begin: time.Now()}
	p.width, p.tty = l.a.terminal()
	defer p.done()
	for i, c := range cases {
		cases[i] = benchCase{} // its model is no longer wanted when it is measured
		p.what = strings.Join([]string{c.part, c.series, c.name}, ", ")
		p.show(true)
		if c.part == "train" {
			l.probe.bytes = nil
			forgetPeak()
		}
		measured, err := l.measureCase(ctx, c, p.step)
		if err != nil {
			return rows, errors.Wrapf(err, "bench %s", c.part)
		}
		rows = append(rows, measured...)
		p.steps = (i + 1) * l.rounds
	}
	return rows, nil
}

// benchProgress shows what is measured: one line that is written over on a
// terminal, else a line for each case.
type benchProgress struct {
	a            *app
	what         string
	steps, total int
	begin        time.Time
	width        int
	tty          bool
}

func (p *benchProgress) step() {
	p.steps++
	p.show(false)
}

func (p *benchProgress) show(first bool) {
	line := fmt.Sprintf("measuring %.0f%%: %s", 100*float64(p.steps)/float64(p.total), p.what)
	if p.steps > 0 {
		spent := time.Since(p.begin).Seconds()
		line += " | ETA " + duration(spent/float64(p.steps)*float64(p.total-p.steps))
	}
	switch {
	case p.tty:
		fmt.Fprintf(p.a.stderr, "\r%s\x1b[K", line[:min(len(line), p.width-1)])
	case first:
		p.a.note("%s", line)
	}
}

func (p *benchProgress) done() {
	if p.tty {
		fmt.Fprint(p.a.stderr, "\r\x1b[K")
	}
}
