package sweep

import (
	"encoding/json"
	"time"
)

// Version is that of the plan directories that this package writes.
const Version = 1

// Plan is a frozen ablation: what each trial computes is resolved, so that
// nothing changes when the spec, a preset or a default does.
type Plan struct {
	Version   int       `json:"version"`
	Name      string    `json:"name"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"` // program and version
	Command   string    `json:"command"`    // that plans it again
	Axes      []string  `json:"axes"`       // settings that differ between cells, in the order of the spec; never "seed"
	Baseline  string    `json:"baseline,omitempty"`
	Trials    []Trial   `json:"trials"`
}

// Trial is one training.
type Trial struct {
	// ID is the first 16 hex digits of the SHA-256 of Config: equal
	// configurations have equal IDs.
	ID string `json:"id"`
	// Cell names the values of the axes, such as "residual=mhclite quant=none":
	// trials of one cell differ in their seed alone.
	Cell string            `json:"cell"`
	Seed uint64            `json:"seed"`
	Axes map[string]string `json:"axes"` // value by axis
	// Settings are the flags of tern train, all of them resolved, by key (with
	// underscores), without out and resume.
	Settings map[string]string `json:"settings"`
	// Config is what decides the bits that the trial computes: model, recipe, the
	// hash of its tokens, the plugins that it is made of.
	Config json.RawMessage `json:"config"`
	// Parameters of the model, the memory in bytes that the training is estimated
	// to take (0 where nobody knows), and the operations of one step, counted from
	// the model.
	Parameters int     `json:"parameters"`
	Memory     int64   `json:"memory"`
	StepFLOPs  float64 `json:"step_flops"`
}

// State is where a trial stands.
type State string

// States of a trial.
const (
	Pending     State = "pending"     // not begun
	Running     State = "running"     // a process holds its lock
	Interrupted State = "interrupted" // begun, ended by no fault of its own: goes on from its last checkpoint
	Failed      State = "failed"      // ended by a fault, which a repetition would meet again
	Done        State = "done"
)

// Result is what a trial that is done reports: result.json in its directory.
type Result struct {
	Trial       string          `json:"trial"` // ID
	Steps       int             `json:"steps"`
	Tokens      int64           `json:"tokens"`        // trained on
	Loss        float64         `json:"loss"`          // nats a token on the validation text, of the exported file read back
	BitsPerByte float64         `json:"bits_per_byte"` // of the same
	TrainedLoss float64         `json:"trained_loss"`  // before export
	ValidTokens int             `json:"valid_tokens"`  // that the losses are over
	Seconds     float64         `json:"seconds"`       // of all its processes together
	PerSecond   float64         `json:"tokens_per_s"`  // median of the metrics' lines
	PeakMemory  int64           `json:"peak_memory"`   // bytes resident, the most of its processes
	Bytes       int64           `json:"bytes"`         // of model.gguf
	ModelSHA256 string          `json:"model_sha256"`  // of model.gguf
	Attempts    int             `json:"attempts"`      // processes that it took
	Backend     string          `json:"backend"`       // name and device
	Threads     int             `json:"threads"`       //
	Host        string          `json:"host"`          // machine of the last process
	Program     string          `json:"program"`       // and version
	Diagnosis   json.RawMessage `json:"diagnosis"`     // the last one
	Finished    time.Time       `json:"finished"`      //
}

// Failure is how the last process of a trial ended, where that was no success:
// failure.json in its directory.
type Failure struct {
	Trial    string    `json:"trial"`
	State    State     `json:"state"` // Failed or Interrupted
	Exit     int       `json:"exit"`  // status of the process; -1 where a signal ended it
	Signal   string    `json:"signal,omitempty"`
	Error    string    `json:"error"` // last lines that it wrote to standard error
	Attempts int       `json:"attempts"`
	Host     string    `json:"host"`
	Time     time.Time `json:"time"`
}
