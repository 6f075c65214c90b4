package report

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ternlm/tern/sweep"
)

var created = time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)

// cellOf is a cell of the made-up sweeps: how far its loss is from the others.
type cellOf struct {
	residual, quant string
	shift           float64
	streams         bool
}

// made is a sweep of which all trials are done.
func made(name string, cells []cellOf, seeds, points int) Input {
	in := Input{
		Dir: "runs/" + name, Program: "tern v1.2.3",
		Plan: sweep.Plan{
			Version: sweep.Version, Name: name, Created: created, CreatedBy: "tern v1.2.3", Axes: []string{"residual", "quant"},
			Command: "tern sweep plan " + name + ".yaml --out runs/" + name,
		},
	}
	for i, c := range cells {
		for s := range seeds {
			t := sweep.Trial{
				ID: fmt.Sprintf("%08x%08x", i, s+1), Cell: "residual=" + c.residual + " quant=" + c.quant, Seed: uint64(s + 1),
				Axes:       map[string]string{"residual": c.residual, "quant": c.quant},
				Parameters: 4_200_000 + 1000*i, StepFLOPs: 1.25e11 * (1 + float64(i)/50), Memory: 1 << 28,
			}
			in.Plan.Trials = append(in.Plan.Trials, t)
			in.Outcomes = append(in.Outcomes, doneAs(t, c, i, points))
		}
	}
	return in
}

func doneAs(t sweep.Trial, c cellOf, i, points int) Outcome {
	noise := rand.New(rand.NewPCG(t.Seed, 1)).NormFloat64() * 0.02 // of the seed: in all cells
	own := rand.New(rand.NewPCG(t.Seed, uint64(i)+2)).NormFloat64() * 0.004
	loss := round(1.8 + noise + own + c.shift)
	r := &sweep.Result{
		Trial: t.ID, Steps: 1000, Tokens: 1000 * 4096, Loss: loss, BitsPerByte: round(loss * 0.36), TrainedLoss: round(loss - 0.001), ValidTokens: 50_000,
		Seconds: 120 + float64(10*i) + float64(t.Seed), PerSecond: 34_000 - float64(500*i) - float64(t.Seed), PeakMemory: 300<<20 + int64(i)<<20,
		Bytes: 1_400_000 + int64(1000*i), ModelSHA256: t.ID + t.ID + t.ID + t.ID, Attempts: 1, Backend: "avx2: 2 processors", Threads: 1, Host: "box",
		Program: "tern v1.2.3", Finished: created.Add(time.Hour),
	}
	o := Outcome{Trial: t.ID, State: sweep.Done, Result: r}
	training, evaluation := thinner{limit: MaxPoints}, thinner{limit: MaxPoints}
	jitter := rand.New(rand.NewPCG(t.Seed, 99))
	for p := 1; p <= points; p++ {
		step := p * 1000 / points
		v := loss + 7*math.Exp(-6*float64(p)/float64(points)) - 7*math.Exp(-6)
		at := point{step, int64(step) * 4096, float64(step) * (0.11 + 0.01*float64(i)), map[string]float64{trainLoss: v + 0.05*jitter.NormFloat64()}}
		training.add(at)
		if p%4 == 0 {
			d := diagnosisOf(c, float64(p)/float64(points), noise)
			at.values = d.flat()
			at.values[validLoss] = v
			evaluation.add(at)
			r.Diagnosis = rawDiagnosis(c, float64(p)/float64(points), noise)
		}
	}
	o.Training, o.Evaluation = training.done(), evaluation.done()
	return o
}

func diagnosisOf(c cellOf, progress, noise float64) *Diagnosis {
	var d Diagnosis
	if err := json.Unmarshal(rawDiagnosis(c, progress, noise), &d); err != nil {
		panic(err)
	}
	return &d
}

// rawDiagnosis is what train writes, for eight sub-layers.
func rawDiagnosis(c cellOf, progress, noise float64) json.RawMessage {
	type ranged struct{ Mean, Min, Max float64 }
	type matrix struct {
		Gain  map[string]float64 `json:"gain"`
		Error map[string]float64 `json:"ds_error"`
	}
	d := map[string]any{"violations": 0}
	var rms, divergence, gradient []float64
	var cosine []ranged
	var mixing, composite []matrix
	for l := range 8 {
		rms = append(rms, round(0.5+0.3*float64(l)*progress))
		divergence = append(divergence, round(0.1*float64(l)*progress+math.Abs(noise)))
		gradient = append(gradient, round(0.02+0.001*float64(8-l)))
		cosine = append(cosine, ranged{Mean: round(1 - 0.02*float64(l)*progress)})
		off := 1e-7 * float64(l+1)
		mixing = append(mixing, matrix{map[string]float64{"max": 1 + off}, map[string]float64{"max": off}})
		composite = append(composite, matrix{map[string]float64{"max": round(1 + 0.1*progress*float64(l))}, map[string]float64{"max": off}})
	}
	d["rms"], d["gradient_rms"] = rms, gradient
	if c.quant == "ternary" {
		d["zeros"] = round(0.3 + noise)
	}
	if c.streams {
		d["composite_gain"] = round(1 + 0.05*progress + noise)
		d["divergence"], d["cosine"], d["mixing"], d["composite"] = divergence, cosine, mixing, composite
	}
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return raw
}

func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

// usual is an ablation of residuals and quantizers.
var usual = []cellOf{
	{"standard", "none", 0, false},
	{"mhclite", "none", -0.03, true},
	{"mhclite:streams=2", "none", -0.004, true},
	{"standard", "ternary", 0.12, false},
	{"mhclite", "ternary", 0.085, true},
	{"mhclite:streams=2", "ternary", 0.11, true},
}

// hostile is a value that means something in HTML, scripts, Markdown, SVG and
// spreadsheets.
const hostile = "=</script><img src=http://evil.example/x onerror=alert(1)>|`*a*_b_`[c](http://evil.example)&amp;\"'{{.}}\u202e"

// troubled is the usual with trials that failed, are missing or go on, and a
// cell whose name is hostile.
func troubled() Input {
	in := made("usual", append(usual, cellOf{hostile, "none", 0.01, false}), 4, 40)
	set := func(i int, s sweep.State, f *sweep.Failure) {
		o := &in.Outcomes[i]
		o.State, o.Result, o.Failure = s, nil, f
		o.Log = "runs/usual/trials/" + o.Trial + "/log"
	}
	set(5, sweep.Failed, &sweep.Failure{
		State: sweep.Failed, Exit: 1, Attempts: 1,
		Error: "step 10\nerror: step 341: loss NaN, gradient norm NaN: training diverged\nhint: lower learning rates | <b>",
	})
	set(10, sweep.Interrupted, &sweep.Failure{State: sweep.Interrupted, Exit: -1, Signal: "killed", Attempts: 3})
	set(15, sweep.Running, nil)
	for i := 20; i < 23; i++ {
		set(i, sweep.Pending, nil)
		in.Outcomes[i].Training, in.Outcomes[i].Evaluation, in.Outcomes[i].Log = Curve{}, Curve{}, ""
	}
	set(3, sweep.Failed, &sweep.Failure{State: sweep.Failed, Exit: 2, Attempts: 1, Error: hostile})
	return in
}
