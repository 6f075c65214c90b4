package framework

import (
	"context"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Errors of backends, stores and executables. They keep their identity when
// they cross a process.
var (
	ErrUnsupported = errors.New("operation is not supported by the backend")
	ErrNoState     = errors.New("state is not in the store")
	ErrMismatch    = errors.New("tensor does not have the declared type")
	ErrClosed      = errors.New("use after close")
	ErrInput       = errors.New("input is out of range")
)

// Backend compiles whole graphs for one kind of device.
type Backend interface {
	// Name is the registered name, such as "avx2".
	Name() string
	// NewStore returns an empty store in the backend's memory.
	NewStore() (Store, error)
	// Compile lowers g and binds it to the device. It returns ErrUnsupported,
	// wrapped, when g holds a primitive that the backend lacks.
	Compile(ctx context.Context, g *graph.Graph) (Executable, error)
	// Close frees the device. Stores and executables are closed first.
	Close() error
}

// Store holds named tensors in a backend's memory: parameters, optimizer
// moments, caches. A store is used by one goroutine at a time; forks of one
// parent may run side by side while the parent is only read.
type Store interface {
	// Put copies t in, under name.
	Put(ctx context.Context, name string, t *tensor.Tensor) error
	// Get copies a tensor out. It returns ErrNoState when there is none.
	Get(ctx context.Context, name string) (*tensor.Tensor, error)
	// Names returns the names held, sorted, those of the parent included.
	Names() []string
	// Fork returns a store whose reads fall through to this one and whose
	// writes stay in it: the state of a decode session, say.
	Fork() (Store, error)
	Close() error
}

// Borrower is an optional interface of a Store.
type Borrower interface {
	// Borrow has name mean the memory of t itself where the store can compute
	// from it, and a copy elsewhere: weights that were just read need not stand
	// in memory twice. The caller leaves t as it is from then on; the store
	// never writes it.
	Borrow(ctx context.Context, name string, t *tensor.Tensor) error
}

// Deferrer is an optional interface of a Store.
type Deferrer interface {
	// Defer has name mean what fill writes into the memory of a tensor of type t,
	// which the store asks for when it needs it. Where it computes from a layout of
	// its own, it lets go of the tensor once that is made: weights in a file need
	// not stand in memory as the file has them. fill writes every byte, the same
	// each time, and may be called from several goroutines as long as the store is
	// open. Its error is that of the run that needed it.
	Defer(ctx context.Context, name string, t tensor.Type, fill func(dst *tensor.Tensor) error) error
}

// Reader is an optional interface of a Store.
type Reader interface {
	// ReadInto is Get into the memory of dst, which has the type of the tensor:
	// whoever saves a whole store needs memory for one tensor at a time.
	ReadInto(ctx context.Context, name string, dst *tensor.Tensor) error
}

// Executable is a compiled graph.
type Executable interface {
	// Run executes the graph once on the states of s. The tensors of in and
	// out follow the graph's Inputs and Outputs; out is written. Updates are
	// visible in s when Run returns nil. A canceled ctx stops a run only
	// before it has changed a state; after any other error the states that the
	// graph updates are unspecified.
	Run(ctx context.Context, s Store, in, out []*tensor.Tensor) error
	Close() error
}

// Describer is an optional interface of a Backend.
type Describer interface {
	Describe() Info
}

// Info is what a backend says of itself.
type Info struct {
	Name    string   `json:"name"`
	Device  string   `json:"device"`  // such as the processor's brand string
	Threads int      `json:"threads"` // workers, 0 where the notion does not apply
	Native  []string `json:"native"`  // ops with kernels of the backend's own, sorted
	Notes   []string `json:"notes,omitempty"`
}

// Estimator is an optional interface of a Backend.
type Estimator interface {
	// Estimate returns the bytes that running g takes beside its states.
	Estimate(g *graph.Graph) (int64, error)
}

// OwnMemory is an optional interface of a Backend that computes in memory
// other than the host's.
type OwnMemory interface {
	// Memory returns the bytes of the device's memory that are free now, whoever
	// takes the others, and all of them.
	Memory() (free, total int64, err error)
}

// Foreign is an optional interface of a Backend, a Quantizer or a Residual that
// another program provides.
type Foreign interface {
	// Program names that program in errors: its name, version and path.
	Program() string
}
