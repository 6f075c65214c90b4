package main

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ternlm/tern/formats/gguf"
)

// shortLength is how many characters of a value are shown.
const shortLength = 100

// printMetadata writes keys and values, a line each.
func (a *app) printMetadata(m gguf.Metadata) error {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, kv := range m {
		fmt.Fprintf(tw, "  %s\t%s\n", printable(kv.Key), short(kv.Value, shortLength))
	}
	return tw.Flush()
}

// printable is s, quoted if it holds what a terminal would obey.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// short is a value in at most limit characters; of an array its length, the type
// of its elements and the first of them.
func short(v any, limit int) string {
	list := reflect.ValueOf(v)
	if list.Kind() != reflect.Slice || isText(v) {
		return cut(one(v), limit)
	}
	s := fmt.Sprintf("%s x %s", thousands(list.Len()), kindName(list.Type().Elem()))
	return cut(s+elements(list, 0, limit), limit)
}

// elements lists those from the one at on, as many as limit characters show.
func elements(list reflect.Value, at, limit int) string {
	var b strings.Builder
	for i := at; i < list.Len() && b.Len() < limit; i++ {
		b.WriteString(map[bool]string{true: ": ", false: ", "}[i == at])
		b.WriteString(short(list.Index(i).Interface(), limit))
	}
	return b.String()
}

// isText reports whether v is text in the form of bytes.
func isText(v any) bool {
	_, ok := v.(json.RawMessage)
	return ok
}

// one writes a value that is no array.
func one(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(cut(v, 4*shortLength))
	case json.RawMessage:
		return printable(string(v))
	}
	return fmt.Sprint(v)
}

// cut shortens s to limit characters.
func cut(s string, limit int) string {
	if r := []rune(s[:min(len(s), 8*limit)]); len(r) > limit {
		return string(r[:limit-3]) + "..."
	}
	return s
}

// kindName is what GGUF calls a type of values.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice, reflect.Interface:
		return "array"
	case reflect.Bool, reflect.String:
		return t.Kind().String()
	}
	return t.Kind().String()[:1] + strconv.Itoa(8*int(t.Size())) // such as u32
}

// jsonMetadata is m with values that JSON has: numbers that are not finite become
// texts, and bytes lists of numbers.
func jsonMetadata(m gguf.Metadata) gguf.Metadata {
	out := make(gguf.Metadata, len(m))
	for i, kv := range m {
		out[i] = gguf.KV{Key: kv.Key, Value: jsonValue(kv.Value)}
	}
	return out
}

func jsonValue(v any) any {
	switch v := v.(type) {
	case float32:
		return jsonFloat(float64(v), v)
	case float64:
		return jsonFloat(v, v)
	case []uint8, []float32, []float64, []any:
		list := reflect.ValueOf(v)
		out := make([]any, list.Len())
		for i := range out {
			if b, ok := list.Index(i).Interface().(uint8); ok {
				out[i] = int(b)
				continue
			}
			out[i] = jsonValue(list.Index(i).Interface())
		}
		return out
	}
	return v
}

func jsonFloat(f float64, v any) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprint(f)
	}
	return v
}

// besides shows two values side by side: of long ones the part where they begin
// to differ.
func besides(a, b any) (string, string) {
	if a == nil || b == nil {
		return absent(a), absent(b)
	}
	la, lb := reflect.ValueOf(a), reflect.ValueOf(b)
	if la.Type() != lb.Type() {
		return typed(a), typed(b)
	}
	switch la.Kind() {
	case reflect.Slice:
		at := 0
		for at < min(la.Len(), lb.Len()) && reflect.DeepEqual(la.Index(at).Interface(), lb.Index(at).Interface()) {
			at++
		}
		return from(la, at), from(lb, at)
	case reflect.String:
		return tails(la.String(), lb.String())
	}
	return short(a, diffShort), short(b, diffShort)
}

func absent(v any) string {
	if v == nil {
		return "-"
	}
	return short(v, diffShort)
}

// typed is a value with its type.
func typed(v any) string {
	if t := reflect.TypeOf(v); t.Kind() != reflect.Slice {
		return fmt.Sprintf("%s (%s)", short(v, diffShort), kindName(t))
	}
	return short(v, diffShort)
}

// from shows the elements of an array from the one at on.
func from(list reflect.Value, at int) string {
	s := fmt.Sprintf("%s x %s", thousands(list.Len()), kindName(list.Type().Elem()))
	switch {
	case at == list.Len():
		return s
	case at > 0:
		s += fmt.Sprintf(", [%d]", at)
	}
	return cut(s+elements(list, at, diffShort), diffShort)
}

// tails shows two texts, without a long beginning that they share.
func tails(a, b string) (string, string) {
	ra, rb := []rune(a), []rune(b)
	at := 0
	for at < min(len(ra), len(rb)) && ra[at] == rb[at] {
		at++
	}
	const before = 8 // characters of what is shared
	if at <= diffShort/2 {
		return short(a, diffShort), short(b, diffShort)
	}
	at -= before
	return "..." + short(string(ra[at:]), diffShort-3), "..." + short(string(rb[at:]), diffShort-3)
}
