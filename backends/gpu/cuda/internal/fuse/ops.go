package fuse

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// opcode is an instruction of a program. The numbers are those of tape.cu.
type opcode int

const (
	opEnd    opcode = iota // of a block
	opIndex                // x[dst] = map of x[a]
	opInside               // v[dst] = whether a coordinate of x[a] is in bounds
	opLoad                 // v[dst] = element x[a] of operand arg where v[b] holds, and 0 elsewhere
	opStore                // element x[a] of result arg = v[b]
	opReduce               // reduction arg takes v[a]
	opConst                // v[dst] = the bits of arg
	opIota                 // v[dst] = x[a]
	opAnd                  // v[dst] = v[a] and v[b]
	opWhere                // v[dst] = v[a] ? v[b] : v[c]
	opNeg
	opExp
	opLog
	opSqrt
	opRsqrt
	opSin
	opCos
	opAbs
	opSigmoid
	opRound
	opF16
	opBF16
	opFromInt
	opFromBool
	opAdd
	opSub
	opMul
	opDiv
	opMax
	opMin
	opLess
	opEqual
)

// operation is what the graph calls an opcode, and what it is in CUDA C++. Its
// weight is about how many multiply-adds take as long.
type operation struct {
	code    opcode
	call    string
	weight  int
	boolean bool // the result is true or false
}

// operations are the elementwise primitives. Multiplications and additions are
// rounded one by one: were the compiler free to fuse them, what it fuses would
// depend on the chain, and a value on what it is fused with.
var operations = map[string]operation{
	"neg":     {opNeg, "-", 1, false},
	"exp":     {opExp, "expf", 8, false},
	"log":     {opLog, "logf", 8, false},
	"sqrt":    {opSqrt, "sqrtf", 8, false},
	"rsqrt":   {opRsqrt, "rsqrtf", 4, false},
	"sin":     {opSin, "sinf", 24, false},
	"cos":     {opCos, "cosf", 24, false},
	"abs":     {opAbs, "fabsf", 1, false},
	"sigmoid": {opSigmoid, "logistic", 16, false},
	"round":   {opRound, "rintf", 1, false},
	"add":     {opAdd, "__fadd_rn", 1, false},
	"sub":     {opSub, "__fsub_rn", 1, false},
	"mul":     {opMul, "__fmul_rn", 1, false},
	"div":     {opDiv, "quotient", 8, false},
	"max":     {opMax, "larger", 3, false},
	"min":     {opMin, "smaller", 3, false},
	"less":    {opLess, "less", 1, true},
	"equal":   {opEqual, "equal", 1, true},
}

// casts are the casts that change a register.
var casts = map[opcode]operation{
	opF16: {opF16, "through_f16", 4, false}, opBF16: {opBF16, "through_bf16", 4, false},
	opFromInt: {opFromInt, "from_int", 1, false}, opFromBool: {opFromBool, "(float)", 1, false},
}

// byCode finds an operation by its opcode.
var byCode = func() map[opcode]operation {
	m := map[opcode]operation{
		opInside: {opInside, "", 4, true}, opAnd: {opAnd, "", 1, true}, opWhere: {opWhere, "", 1, false},
		opIota: {opIota, "", 1, false}, opReduce: {opReduce, "", 2, false},
	}
	for c, o := range casts {
		m[c] = o
	}
	for _, o := range operations {
		m[o.code] = o
	}
	return m
}()

// others are the primitives that chains hold beside the elementwise ones.
var others = map[string]bool{
	"scale": true, "where": true, "cast": true, "const": true, "iota": true, "broadcast": true, "transpose": true,
	"slice": true, "pad": true, "concat": true, "sum": true, "amax": true,
}

// views are the ops whose result is the bytes of operand 0.
var views = map[string]bool{"reshape": true, "through": true, "cut": true}

// Takes reports whether a chain can hold the node. Views are held where they are
// between nodes of a chain, and stay nodes of the graph elsewhere.
func Takes(n *graph.Node) bool {
	name := n.Op.Name
	if _, ok := operations[name]; !ok && !others[name] && !views[name] {
		return false
	}
	for _, t := range n.Out {
		if _, ok := storage[t.DType]; !ok {
			return views[name]
		}
	}
	return true
}

// layout is how an element lies in memory. Registers hold i32 as its bits, and
// all others as f32.
type layout struct {
	code  int    // in tape.cu
	ctype string // in CUDA C++
	bytes int
}

var storage = map[tensor.DType]layout{
	tensor.F32: {0, "float", 4}, tensor.BF16: {1, "bf16", 2}, tensor.F16: {2, "f16", 2},
	tensor.I32: {3, "int", 4}, tensor.Bool: {4, "u8", 1}, tensor.I8: {5, "s8", 1},
}
