package graph

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Limits on what Read accepts: the text of a graph may come from a stranger.
const (
	maxLine  = 1 << 16
	maxNodes = 1 << 20
)

// WriteTo prints g in its text form, one node a line.
func (g *Graph) WriteTo(w io.Writer) (int64, error) {
	var buf bytes.Buffer
	for _, n := range g.Nodes {
		writeNode(&buf, n)
	}
	for _, o := range g.Outputs {
		fmt.Fprintf(&buf, "output %s %s\n", o.Name, o.Value)
	}
	for _, u := range g.Updates {
		fmt.Fprintf(&buf, "update %%%d %s\n", u.State.ID, u.Value)
	}
	return buf.WriteTo(w)
}

func writeNode(buf *bytes.Buffer, n *Node) {
	fmt.Fprintf(buf, "%%%d = %s(", n.ID, n.Op.Name)
	for i, v := range n.In {
		if i > 0 {
			buf.WriteByte(' ')
		}
		buf.WriteString(v.String())
	}
	buf.WriteByte(')')
	if n.Attr != nil {
		buf.WriteByte(' ')
		buf.WriteString(attrText(n.Attr))
	}
	buf.WriteString(" :")
	for _, t := range n.Out {
		buf.WriteByte(' ')
		buf.WriteString(t.String())
	}
	if n.Scope != "" {
		buf.WriteString(" @")
		buf.WriteString(n.Scope)
	}
	buf.WriteByte('\n')
}

// attrText is the JSON of an attribute. Attributes hold no floats that JSON
// cannot carry: builders check them.
func attrText(attr any) string {
	if attr == nil {
		return ""
	}
	js, err := json.Marshal(attr)
	if err != nil {
		failf("attribute %v: %v", attr, err)
	}
	return string(js)
}

// String prints a reference: %12, or %12.1 for the second result.
func (v Value) String() string {
	if v.N == nil {
		return "%?"
	}
	if v.I == 0 {
		return "%" + strconv.Itoa(v.N.ID)
	}
	return fmt.Sprintf("%%%d.%d", v.N.ID, v.I)
}

// String is the text form.
func (g *Graph) String() string {
	var s strings.Builder
	_, _ = g.WriteTo(&s) // a strings.Builder does not fail
	return s.String()
}

// Read parses the text form, checking every reference, attribute and shape
// again. It accepts exactly what WriteTo prints.
func Read(r io.Reader) (*Graph, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4096), maxLine)
	lines := 0
	g, err := Trace(func(b *Builder) {
		for sc.Scan() {
			lines++
			if s := sc.Text(); s != "" {
				b.readLine(s)
			}
			b.scope = ""
		}
	})
	if err == nil {
		err = sc.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", max(lines, 1), err)
	}
	return g, nil
}

func (b *Builder) readLine(s string) {
	f := strings.Fields(s)
	switch {
	case len(f) == 3 && f[0] == "output" && len(b.g.Outputs) < maxNodes:
		b.Output(f[1], b.deref(f[2]))
	case len(f) == 3 && f[0] == "update":
		b.Update(b.deref(f[1]), b.deref(f[2]))
	default:
		b.readNode(s)
	}
}

func (b *Builder) deref(s string) Value {
	ref, ok := strings.CutPrefix(s, "%")
	id, result, many := strings.Cut(ref, ".")
	i, err := strconv.Atoi(id)
	k := 0
	if err == nil && many {
		k, err = strconv.Atoi(result)
	}
	if !ok || err != nil || i < 0 || i >= len(b.g.Nodes) || k < 0 || k >= len(b.g.Nodes[i].Out) {
		failf("bad reference %q", s)
	}
	return Value{b.g.Nodes[i], k}
}

// readNode parses "%ID = OP(REFS) {ATTR} : TYPES @SCOPE".
func (b *Builder) readNode(s string) {
	head, rest, ok1 := strings.Cut(s, " = ")
	name, rest, ok2 := strings.Cut(rest, "(")
	refs, rest, ok3 := strings.Cut(rest, ")")
	colon := strings.LastIndex(rest, " : ")
	op := Lookup(name)
	switch {
	case !ok1 || !ok2 || !ok3 || colon < 0 || head != fmt.Sprintf("%%%d", len(b.g.Nodes)):
		failf("malformed node %.80q", s)
	case op == nil:
		failf("unknown op %.80q", name)
	case len(b.g.Nodes) >= maxNodes:
		failf("more than %d nodes", maxNodes)
	}
	attr := readAttr(op, strings.TrimSpace(rest[:colon]))
	want, scope, _ := strings.Cut(rest[colon+3:], " @")
	if scope != "" {
		checkName(scope)
	}
	var in []Value
	for _, r := range strings.Fields(refs) {
		in = append(in, b.deref(r))
	}
	b.scope = scope
	n := b.readApply(op, attr, in)
	got := make([]string, len(n.Out))
	for i, t := range n.Out {
		got[i] = t.String()
	}
	if t := strings.Join(got, " "); t != want {
		failf("%s gives %s, the text says %s", name, t, want)
	}
}

func (b *Builder) readApply(op *Op, attr any, in []Value) *Node {
	if op != opInput && op != opParam && op != opBuffer {
		return b.apply(op, attr, in...)
	}
	op.check(&Node{Op: op, In: in, Attr: attr})
	if op == opInput {
		a := attr.(LeafAttr)
		t := mustType(a.Type)
		return b.Input(a.Name, t.DType, t.Shape...).N
	}
	before := len(b.g.Nodes)
	n := b.state(op, attr).N
	if n.ID != before {
		failf("state %q is declared twice", n.Name())
	}
	return n
}

func readAttr(op *Op, js string) any {
	if op.Attr == nil {
		if js != "" {
			failf("%s takes no attribute", op.Name)
		}
		return nil
	}
	p := reflect.New(reflect.TypeOf(op.Attr))
	dec := json.NewDecoder(strings.NewReader(js))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p.Interface()); err != nil {
		failf("%s: attribute: %v", op.Name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		failf("%s: text after the attribute", op.Name)
	}
	return p.Elem().Interface()
}
