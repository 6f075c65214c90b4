package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// smallConfig describes a model that trains in a second.
const smallConfig = `tokenizer: gpt2:320
dim: 32
layers: 2
heads: 2
kv_heads: 1
ffn: 64
context: 64
quant: ternary:group=32
steps: 8
batch: 2
window: 16
warmup: 2
save_every: 4
eval_every: 4
eval_windows: 4
final_windows: 8
data: train.bin
valid: valid.bin
residual: mhclite:streams=2
head: f16
tied: true
sub_norm: true
accum: 1
stride: 0
align: true
seed: 1
optimizer: muon
matrix_lr: 0.02
other_lr: 0.005
matrix_decay: 0
clip: 1
schedule: wsd
stable: 0.5
`

// smallText is one story with the place of a number left open.
const smallText = "Tom has %d red balls. He gave %d of them to his friend. They played all day and were happy.\n<|endoftext|>\n"

// writeSmall writes small.yaml and the texts that it trains on into dir.
func writeSmall(dir string) error {
	for name, from := range map[string]int{"train.txt": 0, "valid.txt": 1000} {
		var b bytes.Buffer
		for i := range 60 {
			fmt.Fprintf(&b, smallText, from+i, i*i%17)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o666); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"small.yaml": smallConfig,
		"latin1.txt": "caf\xe9 au lait\n",
		"short.bin":  "\x01\x00\x02\x00\x03\x00",
		"beyond.bin": strings.Repeat("\xff\x7f", 100), // id 32767
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// status is the script command "status N tern ARGS...": it runs a program that
// must exit with N, and keeps its output for stdout and stderr.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); err != nil {
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, want %d\n%s", strings.Join(args[1:], " "), got, want, ts.ReadFile("stderr"))
	}
}

// poke is the script command "poke FILE OFFSET BYTES": it overwrites bytes
// (hexadecimal), or cuts the file there when BYTES is "cut". A negative offset
// counts from the end; "end" appends.
func poke(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: poke FILE OFFSET BYTES|cut")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if args[1] == "end" {
		ts.Check(os.WriteFile(path, append(data, unhex(ts, args[2])...), 0o666))
		return
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	if args[2] == "cut" {
		data = data[:at]
	} else {
		copy(data[at:], unhex(ts, args[2]))
	}
	ts.Check(os.WriteFile(path, data, 0o666))
}

func unhex(ts *testscript.TestScript, s string) []byte {
	var b []byte
	_, err := fmt.Sscanf(s, "%x", &b)
	ts.Check(err)
	return b
}

// setKey is the script command "setkey FILE KEY BYTES": it overwrites the value
// of a key of a GGUF file's metadata.
func setKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: setkey FILE KEY BYTES")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at := bytes.Index(data, []byte(args[1]))
	if at < 0 {
		ts.Fatalf("%s has no key %s", args[0], args[1])
	}
	copy(data[at+len(args[1])+4:], unhex(ts, args[2])) // after the type
	ts.Check(os.WriteFile(path, data, 0o666))
}
