package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

// Parts of the benchmark that a peer can take part in.
var benchParts = []string{"kernels", "gemm", "decode", "prefill", "train", "tokenizer", "start"}

// peer is a program of somebody else that is measured beside ours.
type peer struct {
	name, command string
	part          string // of benchParts; "" is the main part of the command
	timeout       time.Duration
}

// parsePeer reads [PART/]NAME=COMMAND.
func parsePeer(s string, timeout time.Duration) (peer, error) {
	name, command, ok := strings.Cut(s, "=")
	p := peer{name: name, command: command, timeout: timeout}
	if part, rest, found := strings.Cut(name, "/"); found {
		p.part, p.name = part, rest
		if !slices.Contains(benchParts, part) {
			return p, usagef("the parts are "+strings.Join(benchParts, ", "), "--peer %q: no part %q", s, part)
		}
	}
	if !ok || p.name == "" || strings.TrimSpace(command) == "" {
		return p, usagef("for example --peer 'llama=./their-bench {rows} {cols} {tokens} {threads}'", "--peer %q is not NAME=COMMAND", s)
	}
	return p, nil
}

// placeholder is a name in braces.
var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// plain is a value that means itself to a shell.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=,+-]+$`)

// quoted is a value as a shell takes it for one word.
func quoted(v string) string {
	if plain.MatchString(v) {
		return v
	}
	return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
}

// fill puts the values into the command, quoted. A name that has none stays:
// the shell has braces of its own.
func (p peer) fill(values map[string]string) string {
	return placeholder.ReplaceAllStringFunc(p.command, func(s string) string {
		if v, ok := values[s[1:len(s)-1]]; ok {
			return quoted(v)
		}
		return s
	})
}

// unknown are the names in braces for which no row of its part has a value, and
// the shell's own ${name} apart.
func (p peer) unknown(values map[string]string) (names []string) {
	for _, at := range placeholder.FindAllStringIndex(p.command, -1) {
		name := p.command[at[0]:at[1]]
		_, known := values[name[1:len(name)-1]]
		if !known && (at[0] == 0 || p.command[at[0]-1] != '$') && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// notePeers says which peers are measured in no row, and what of their commands
// no row fills in.
func (l *lab) notePeers(all []benchCase) {
	for _, p := range l.peers {
		values := map[string]string{"threads": ""}
		rows := 0
		for _, c := range all {
			if c.part == p.part {
				maps.Copy(values, c.values)
				rows++
			}
		}
		unknown := p.unknown(values)
		switch {
		case rows == 0:
			l.a.note("note: --peer %s/%s: no row of %s is measured, and the peer is not", p.part, p.name, p.part)
		case len(unknown) > 0:
			known := slices.Sorted(maps.Keys(values))
			l.a.note("note: --peer %s: no row of %s has a value for %s; there are {%s}", p.name, p.part, strings.Join(unknown, " "), strings.Join(known, "} {"))
		}
	}
}

// rate runs the command and returns the number in the last line that it
// writes.
func (p peer) rate(ctx context.Context, values map[string]string) (float64, error) {
	line := p.fill(values)
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, "sh", "-c", line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	wholeGroup(cmd)
	err := cmd.Run()
	fail := func(hint, format string, args ...any) error {
		if said := lastLine(stderr.String()); said != "" {
			hint = "it said: " + said
		}
		return errors.WithHint(errors.Newf("%s (%s)", fmt.Sprintf(format, args...), line), hint)
	}
	switch {
	case ctx.Err() != nil:
		return 0, errors.Wrap(ctx.Err(), "peer")
	case limited.Err() != nil:
		return 0, fail("allow it more with --peer-timeout", "peer took more than %v", p.timeout)
	case err != nil:
		return 0, fail("run it by hand", "peer failed: %v", err)
	}
	last := lastLine(stdout.String())
	rate, err := strconv.ParseFloat(last, 64)
	if err != nil || !(rate > 0) || math.IsInf(rate, 0) {
		return 0, fail("a peer writes its rate alone on the last line", "peer's last line is no rate: %q", last)
	}
	return rate, nil
}

// lastLine is the last line of s that is not blank.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
