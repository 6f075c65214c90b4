package fuse

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
)

// generator writes CUDA C++ for a program. Shapes are arguments of the kernel but
// where an index is mapped: divisions by constants are multiplications.
type generator struct {
	p       *program
	t       kinds
	g       geometry
	classes classes
	final   bool // the kernel that adds up parts
	inLoop  bool
	consts  map[int]uint32
	boolean map[int]bool
	b       strings.Builder
	indent  int
}

// generate writes the kernels of a program, whose names follow from their text.
func (p *program) generate(t kinds) (driver.Source, string) {
	const name = "KERNEL"
	code := (&generator{p: p, t: t, g: p.geometry()}).kernel(name)
	if p.geometry().parts > 1 {
		code += (&generator{p: p, t: t, g: p.geometry(), final: true}).kernel(name + "_finish")
	}
	index := "u32"
	if p.wide {
		index = "u64"
	}
	// A part's kernel may define what only the other needs.
	code = fmt.Sprintf("#include \"fuse.cuh\"\n#pragma nv_diag_suppress 177, 550\n\ntypedef %s I;\n%s", index, code)
	sum := sha256.Sum256([]byte(code))
	unique := "fused_" + hex.EncodeToString(sum[:8])
	return withHeader(unique+".cu", strings.ReplaceAll(code, name, unique)), unique
}

// line writes a line.
func (g *generator) line(format string, args ...any) {
	g.b.WriteString(strings.Repeat("  ", g.indent))
	fmt.Fprintf(&g.b, format, args...)
	g.b.WriteByte('\n')
}

func (g *generator) open(format string, args ...any) {
	g.line(strings.TrimLeft(format+" {", " "), args...)
	g.indent++
}

func (g *generator) shut() {
	g.indent--
	g.line("}")
}

func (g *generator) kernel(name string) string {
	p := g.p
	g.classes = p.classify(p.roots(g.final))
	g.consts, g.boolean = map[int]uint32{}, map[int]bool{}
	g.line("")
	g.open(`extern "C" __global__ void __launch_bounds__(BLOCK) %s(%s)`, name, g.parameters())
	g.begin()
	if g.final {
		g.block(p.rows[0], false, true)
		for i, r := range p.reductions {
			g.line("float v%d = finished(partials + ((size_t)%d * rows + x0) * parts, parts, %v);", r.dst, i, r.max)
		}
		g.block(p.rows[1], false, true)
		g.shut()
		return g.b.String()
	}
	g.block(p.rows[0], false, g.g.parts == 1)
	for k := range p.loops {
		g.loop(k)
		if g.g.parts > 1 {
			break
		}
		g.block(p.rows[k+1], false, true)
	}
	g.shut()
	return g.b.String()
}

// parameters are operands, tables, results, the sums of parts, and sizes.
func (g *generator) parameters() string {
	var list []string
	for i, l := range g.t.in {
		list = append(list, fmt.Sprintf("const %s *in%d", l.ctype, i))
	}
	for i := range g.p.tables {
		list = append(list, fmt.Sprintf("const int *table%d", i))
	}
	for i, l := range g.t.out {
		list = append(list, fmt.Sprintf("%s *out%d", l.ctype, i))
	}
	return strings.Join(append(list, "float *partials", "I rows", "I n", "I inner", "I span", "I parts"), ", ")
}

// begin finds the row, or rows, of a thread.
func (g *generator) begin() {
	group := g.g.group
	if g.final {
		group = warpSize
	}
	if group > 0 {
		g.line("const int t = threadIdx.x %% %d;", group)
		g.line("const I x0 = (I)blockIdx.x * (BLOCK / %d) + threadIdx.x / %d;", group, group)
		g.line("if (x0 >= rows) return;")
		if group == blockSize && !g.final {
			g.line("__shared__ float shared[BLOCK / 32];")
		}
		return
	}
	g.line("const I row = QUAD * ((I)blockIdx.x * BLOCK + threadIdx.x);")
	g.line("if (row >= rows) return;")
	if g.classes.x[rowIndex] == contiguous {
		g.line("const I x0 = row;")
		return
	}
	g.line("const int live = rows - row < QUAD ? (int)(rows - row) : QUAD;")
	g.line("I x0[QUAD];")
	g.line("EACH x0[l] = row + l;")
}

// loop writes the loop over a row, or over four, and what its reductions give.
func (g *generator) loop(k int) {
	p := g.p
	var mine []int
	for i, r := range p.reductions {
		if r.loop == k {
			mine = append(mine, i)
			g.line("Reduction r%d;", i)
			g.line("start(r%d, %v);", i, r.max)
		}
	}
	settle := func() {
		for _, i := range mine {
			g.line("settle(r%d, %v);", i, p.reductions[i].max)
		}
	}
	g.open("")
	g.head(short(p.loops[k]))
	g.block(p.loops[k], true, true)
	if len(mine) > 0 {
		g.open("if ((s & 31) == 31)")
		settle()
		g.shut()
	}
	g.shut()
	settle()
	g.shut()
	for _, i := range mine {
		g.reduced(i)
	}
}

// short reports whether a loop is unrolled: where that takes few registers.
func short(code []instr) bool {
	weight := 0
	for _, in := range code {
		weight += max(1, byCode[in.op].weight)
	}
	return weight <= 12
}

// head opens a loop and finds its elements.
func (g *generator) head(short bool) {
	if g.g.parts > 1 {
		g.line("const I lo = blockIdx.y * span, hi = n - lo < span ? n : lo + span;")
	} else {
		g.line("const I lo = 0, hi = n;")
	}
	g.line("u32 s = 0;")
	unroll := func() {
		if short { // several reads are then under way at a time
			g.line("#pragma unroll 4")
		}
	}
	whole := g.classes.x[elementIndex] == contiguous
	if g.g.group > 0 {
		unroll()
		g.open("for (I j = lo + QUAD * t; j < hi; j += QUAD * %d, s++)", g.g.group)
		if whole {
			g.line("const I x1 = x0 * n + j;")
			return
		}
		g.line("const int live = hi - j < QUAD ? (int)(hi - j) : QUAD;")
		g.line("I x1[QUAD];")
		g.line("EACH x1[l] = x0 * n + j + l;")
		return
	}
	if whole {
		g.line("const I from = row / inner * n * inner + row %% inner;")
		unroll()
		g.open("for (I j = lo; j < hi; j++, s++)")
		g.line("const I x1 = from + j * inner;")
		return
	}
	g.line("I from[QUAD];")
	g.line("EACH from[l] = (row + l) / inner * n * inner + (row + l) %% inner;")
	unroll()
	g.open("for (I j = lo; j < hi; j++, s++)")
	g.line("I x1[QUAD];")
	g.line("EACH x1[l] = from[l] + j * inner;")
}

// reduced writes what a reduction comes to; of a part, its sum is stored.
func (g *generator) reduced(i int) {
	r := g.p.reductions[i]
	at := fmt.Sprintf("partials[((size_t)%d * rows + %s) * parts + blockIdx.y]", i, map[bool]string{true: "x0", false: "row + l"}[g.g.group > 0])
	if g.g.group > 0 {
		shared := "nullptr"
		if g.g.group == blockSize {
			shared = "shared"
		}
		g.line("const float v%d = across(lanes(r%d, %v), %v, %d, %s);", r.dst, i, r.max, r.max, g.g.group, shared)
		if g.g.parts > 1 {
			g.line("if (t == 0) %s = v%d;", at, r.dst)
		}
		return
	}
	g.line("const float *v%d = r%d.whole;", r.dst, i)
	if g.g.parts > 1 {
		g.line("%s %s = v%d[l];", g.each(), at, r.dst)
	}
}

// mask is the condition that lane l has an element, "" if all lanes have.
func (g *generator) mask() string {
	lead := g.classes.x[rowIndex]
	if g.inLoop && g.g.group > 0 {
		lead = g.classes.x[elementIndex]
	}
	if lead == scattered {
		return "l < live"
	}
	return ""
}

// each begins a statement for each lane that has an element.
func (g *generator) each() string {
	if m := g.mask(); m != "" {
		return "EACH if (" + m + ")"
	}
	return "EACH"
}

// block writes instructions.
func (g *generator) block(code []instr, inLoop, stores bool) {
	g.inLoop = inLoop
	for _, in := range code {
		if in.op != opStore || stores {
			g.instr(in)
		}
	}
	g.inLoop = false
}

func (g *generator) instr(in instr) {
	switch in.op {
	case opConst:
		g.consts[in.dst] = uint32(in.arg)
	case opIndex:
		g.index(in)
	case opLoad:
		g.load(in)
	case opStore:
		g.store(in)
	case opReduce:
		g.line("%s take(r%d, l, %s, %v);", g.each(), in.arg, g.value(in.a), g.p.reductions[in.arg].max)
	default:
		g.compute(in)
	}
}

// at is an index in lane l.
func (g *generator) at(x int) string {
	switch g.classes.x[x] {
	case uniform:
		return fmt.Sprintf("x%d", x)
	case contiguous:
		return fmt.Sprintf("(x%d + l)", x)
	}
	return fmt.Sprintf("x%d[l]", x)
}

// value is a value in lane l.
func (g *generator) value(v int) string {
	if bits, ok := g.consts[v]; ok {
		return literal(bits)
	}
	if g.classes.v[v] == uniform {
		return fmt.Sprintf("v%d", v)
	}
	return fmt.Sprintf("v%d[l]", v)
}

// holds is a value as a condition.
func (g *generator) holds(v int) string {
	if g.boolean[v] {
		return g.value(v)
	}
	return g.value(v) + " != 0.0f"
}

// literal is a float of CUDA C++.
func literal(bits uint32) string {
	v := math.Float32frombits(bits)
	if e := bits >> 23 & 255; e == 255 || e == 0 && bits<<1 != 0 {
		return fmt.Sprintf("bits_to_float(0x%08xu)", bits)
	}
	return strconv.FormatFloat(float64(v), 'e', -1, 32) + "f"
}

// number is an index constant.
func (g *generator) number(n int) string {
	if g.p.wide {
		return strconv.Itoa(n) + "ull"
	}
	return strconv.Itoa(n) + "u"
}

// define writes the lines that give a register its value, once or for each lane.
func (g *generator) define(kind, reg string, same bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if same {
		g.line("const %s %s = %s;", kind, reg, text)
		return
	}
	g.line("%s %s[QUAD];", kind, reg)
	g.line("EACH %s[l] = %s;", reg, text)
}

func (g *generator) index(in instr) {
	from, same := g.at(in.a), g.classes.x[in.dst] != scattered
	if same { // of the first lane
		from = fmt.Sprintf("x%d", in.a)
	}
	var terms []string
	for _, t := range in.m.terms {
		s := g.digit(from, t.div, t.mod)
		if t.mul != 1 {
			s += " * " + g.number(t.mul)
		}
		terms = append(terms, s)
	}
	text := strings.Join(terms, " + ")
	if text == "" {
		text = g.number(0)
	}
	if in.m.off > 0 {
		text += " + " + g.number(in.m.off)
	} else if in.m.off < 0 {
		text += " - " + g.number(-in.m.off)
	}
	g.define("I", fmt.Sprintf("x%d", in.dst), same, "%s", text)
}

// digit is x / div % mod.
func (g *generator) digit(x string, div, mod int) string {
	if div != 1 {
		x += " / " + g.number(div)
	}
	if mod != 0 {
		x += " % " + g.number(mod)
	}
	return x
}

func (g *generator) load(in instr) {
	from := fmt.Sprintf("in%d", in.arg)
	if in.arg < 0 {
		from = fmt.Sprintf("table%d", -1-in.arg)
	}
	reg, same := fmt.Sprintf("v%d", in.dst), g.classes.v[in.dst] == uniform
	if g.classes.vector(g.t.operand(in.arg), in) {
		g.line("float %s[QUAD] = {};", reg)
		cond := ""
		if in.b != none {
			cond = "if (" + g.holds(in.b) + ") "
		}
		g.line("%sget4(%s, x%d, %s);", cond, from, in.a, reg)
		return
	}
	var conditions []string
	if m := g.mask(); m != "" && !same {
		conditions = append(conditions, m)
	}
	if in.b != none {
		conditions = append(conditions, g.holds(in.b))
	}
	text := fmt.Sprintf("get(%s, %s)", from, g.at(in.a))
	if len(conditions) > 0 {
		text = strings.Join(conditions, " && ") + " ? " + text + " : 0.0f"
	}
	g.define("float", reg, same, "%s", text)
}

func (g *generator) store(in instr) {
	to := fmt.Sprintf("out%d", in.arg)
	switch {
	case g.classes.x[in.a] == uniform:
		g.line("if (t == 0) put(%s, x%d, %s);", to, in.a, g.value(in.b))
	case g.classes.vector(g.t.result(in.arg), in):
		g.open("")
		g.line("float w[QUAD];")
		g.line("EACH w[l] = %s;", g.value(in.b))
		g.line("put4(%s, x%d, w);", to, in.a)
		g.shut()
	default:
		g.line("%s put(%s, %s, %s);", g.each(), to, g.at(in.a), g.value(in.b))
	}
}

func (g *generator) compute(in instr) {
	o := byCode[in.op]
	reg, same := fmt.Sprintf("v%d", in.dst), g.classes.v[in.dst] == uniform
	kind := "float"
	if g.boolean[in.dst] = o.boolean; o.boolean {
		kind = "bool"
	}
	var text string
	switch in.op {
	case opInside:
		from := g.at(in.a)
		if same {
			from = fmt.Sprintf("x%d", in.a)
		}
		text = fmt.Sprintf("%s - %s < %s", g.digit(from, in.in.div, in.in.mod), g.number(in.in.lo), g.number(in.in.hi-in.in.lo))
	case opIota:
		text = "(float)" + g.at(in.a)
	case opAnd:
		text = g.holds(in.a) + " && " + g.holds(in.b)
	case opWhere:
		text = fmt.Sprintf("%s ? %s : %s", g.holds(in.a), g.value(in.b), g.value(in.c))
	case opNeg:
		text = "-" + g.value(in.a)
	default:
		text = o.call + "(" + g.value(in.a)
		if in.b != none {
			text += ", " + g.value(in.b)
		}
		text += ")"
	}
	g.define(kind, reg, same, "%s", text)
}
