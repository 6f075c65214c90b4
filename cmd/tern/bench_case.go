package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/avx2"
	"github.com/ternlm/tern/framework"
)

// benchCase is one thing to measure, for several numbers of threads in the
// same rounds.
type benchCase struct {
	part    string // of benchParts
	series  string // what it is compared along, such as "1 token"
	name    string // its place in the series, such as "1024x1024"
	unit    string
	item    string  // what the times are of, such as "token"
	units   float64 // that an item makes
	work    work    // of an item
	params  map[string]any
	values  map[string]string // for a peer's command, beside threads
	threads []int
	open    func(ctx context.Context, be framework.Backend) (subject, error)
	scalar  *scalarCase         // nil where scalar has nothing to show
	opened  func(row *benchRow) // looks at the first subject when it has run once; may be nil
}

// scalarCase says how the scalar backend is measured.
type scalarCase struct {
	open   func(ctx context.Context, be framework.Backend) (subject, error)
	factor float64 // of its rate, 1 where it measures the same
	note   string  // how it was scaled down, "" where it was not
}

// benchRow is one line of a report: a case on so many threads.
type benchRow struct {
	Part    string         `json:"part"`   // kernels, gemm, decode, prefill, train or tokenizer
	Series  string         `json:"series"` // such as "ternary:group=128, 1 token"
	Name    string         `json:"name"`   // such as "1024x1024"
	Params  map[string]any `json:"params"`
	Threads int            `json:"threads"`
	Unit    string         `json:"unit"`
	Rate    figure         `json:"rate"`
	Scaling float64        `json:"scaling"` // rate to that of the case's first number of threads
	Item    string         `json:"item"`    // what the times are of
	Seconds float64        `json:"item_s"`  // at the median rate
	Limits  []benchLimit   `json:"limits"`
	Floor   benchFloor     `json:"floor"`
	Above   float64        `json:"above_floor"` // time to the floor's, by round
	Share   float64        `json:"share"`       // its inverse
	Scalar  *benchScalar   `json:"scalar"`      // null where there is none
	Peers   []benchPeer    `json:"peers"`
	Memory  *benchMemory   `json:"memory,omitempty"` // of training
}

// benchLimit is a limit of the machine, measured in the same rounds.
type benchLimit struct {
	Name  string  `json:"name"` // int8, fma or read
	Unit  string  `json:"unit"`
	Rate  figure  `json:"rate"`
	Share float64 `json:"share"` // that the case used of it
}

// benchScalar is what the scalar backend does on as many threads.
type benchScalar struct {
	Rate   figure  `json:"rate"`
	Ratio  float64 `json:"ratio"`  // ours to it
	Scaled string  `json:"scaled"` // how it was scaled down, "" where it was not
}

// benchPeer is what a peer did in the same rounds.
type benchPeer struct {
	Name  string  `json:"name"`
	Rate  figure  `json:"rate"`
	Ratio float64 `json:"ratio"` // ours to it
}

// laneOf finds the contenders of one number of threads.
type laneOf struct {
	ours, scalar int // -1 is none
	limits       map[string]int
	peers        []int
	names        []string // of the limits
}

// course is a case whose subjects are open.
type course struct {
	c          benchCase
	contenders []contender
	lanes      []laneOf
	close      []func() error
}

// measureCase runs a case and returns its rows.
func (l *lab) measureCase(ctx context.Context, c benchCase, step func()) (rows []benchRow, err error) {
	k := &course{c: c}
	defer func() {
		for _, f := range k.close {
			err = errors.CombineErrors(err, f())
		}
	}()
	rows = make([]benchRow, len(c.threads))
	for i, t := range c.threads {
		rows[i] = benchRow{Part: c.part, Series: c.series, Name: c.name, Params: c.params, Threads: t, Unit: c.unit, Item: c.item, Peers: []benchPeer{}}
		if err := k.lane(ctx, l, t, &rows[i]); err != nil {
			return nil, err
		}
	}
	rates, err := inRounds(ctx, k.contenders, l.rounds, step)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		k.fill(&rows[i], l, rates, i)
	}
	return rows, nil
}

// add returns the place of a contender.
func (k *course) add(c contender) int {
	k.contenders = append(k.contenders, c)
	return len(k.contenders) - 1
}

// subject opens one, runs it once, which binds kernels and packs weights, and
// adds it.
func (k *course) subject(ctx context.Context, name string, be framework.Backend, least time.Duration, most int,
	open func(context.Context, framework.Backend) (subject, error),
) (int, error) {
	s, err := open(ctx, be)
	if err != nil {
		return 0, errors.Wrap(err, name)
	}
	k.close = append(k.close, s.Close)
	if _, err := s.Run(ctx); err != nil {
		return 0, errors.Wrap(err, name)
	}
	return k.add(contender{name: name, most: most, rate: func(ctx context.Context) (float64, error) { return rateOf(ctx, s, least) }}), nil
}

// scalarRounds is in how many rounds scalar is measured: it is slow.
const scalarRounds = 2

// lane opens what is measured on so many threads.
func (k *course) lane(ctx context.Context, l *lab, threads int, row *benchRow) error {
	be, err := l.backend(threads)
	if err != nil {
		return err
	}
	lane := laneOf{limits: map[string]int{}, scalar: -1}
	if !onDevice(be) { // the limits are the processor's
		lane.names = l.probe.known(k.c.work)
	}
	for _, n := range lane.names {
		lane.limits[n] = k.add(l.probe.contender(avx2.ProbeOf(be), n, threads, k.c.work.Bytes))
	}
	if lane.ours, err = k.subject(ctx, k.c.name+", "+onText(threads), be, l.least, 0, k.c.open); err != nil {
		return err
	}
	if len(k.lanes) == 0 && k.c.opened != nil {
		k.c.opened(row) // while nothing else is open
	}
	if err := k.peers(ctx, l, threads, &lane); err != nil {
		return err
	}
	if k.c.scalar != nil && l.scalar && be.Name() != "scalar" {
		ref, err := l.reference(threads)
		if err != nil {
			return err
		}
		if lane.scalar, err = k.subject(ctx, "scalar", ref, l.least, scalarRounds, k.c.scalar.open); err != nil {
			return err
		}
	}
	k.lanes = append(k.lanes, lane)
	return nil
}

// onDevice reports whether a backend computes on something else than the
// processor.
func onDevice(be framework.Backend) bool {
	_, ok := be.(framework.OwnMemory)
	return ok
}

// peers adds the peers of a lane, each run once before.
func (k *course) peers(ctx context.Context, l *lab, threads int, lane *laneOf) error {
	for _, p := range l.peersOf(k.c.part) {
		values := map[string]string{"threads": fmt.Sprint(threads)}
		maps.Copy(values, k.c.values)
		if _, err := p.rate(ctx, values); err != nil {
			return errors.Wrap(err, p.name)
		}
		lane.peers = append(lane.peers, k.add(contender{name: p.name, rate: func(ctx context.Context) (float64, error) { return p.rate(ctx, values) }}))
	}
	return nil
}

// fill puts the rates of a lane into its row.
func (k *course) fill(row *benchRow, l *lab, rates [][]float64, i int) {
	lane, ours := k.lanes[i], rates[k.lanes[i].ours]
	row.Rate = summarize(ours)
	row.Scaling = summarize(ratios(ours, rates[k.lanes[0].ours])).Median
	row.Seconds = k.c.units / row.Rate.Median
	medians := map[string]float64{}
	for _, n := range lane.names {
		limit := rates[lane.limits[n]]
		used := make([]float64, len(ours))
		for r := range used {
			used[r] = ours[r] / k.c.units * k.c.work.of(n) / limit[r]
		}
		f := summarize(limit)
		medians[n] = f.Median
		row.Limits = append(row.Limits, benchLimit{n, limitUnits[n], f, summarize(used).Median})
	}
	row.Floor = k.c.work.floor(medians)
	row.Above = summarize(k.above(lane, rates)).Median
	if row.Above > 0 {
		row.Share = 1 / row.Above
	}
	if lane.scalar >= 0 {
		scaled := make([]float64, len(ours))
		for r, v := range rates[lane.scalar] {
			scaled[r] = v * k.c.scalar.factor
		}
		row.Scalar = &benchScalar{summarize(scaled), summarize(ratios(ours, scaled)).Median, k.c.scalar.note}
	}
	for j, p := range l.peersOf(k.c.part) {
		theirs := rates[lane.peers[j]]
		row.Peers = append(row.Peers, benchPeer{p.name, summarize(theirs), summarize(ratios(ours, theirs)).Median})
	}
}

// above gives, by round, how often the floor fits into the time of an item.
func (k *course) above(lane laneOf, rates [][]float64) []float64 {
	ours := rates[lane.ours]
	above := make([]float64, len(ours))
	for r := range above {
		limits := map[string]float64{}
		for _, n := range lane.names {
			limits[n] = rates[lane.limits[n]][r]
		}
		above[r] = math.NaN()
		if f := k.c.work.floor(limits); f.Seconds > 0 {
			above[r] = k.c.units / ours[r] / f.Seconds
		}
	}
	return above
}
