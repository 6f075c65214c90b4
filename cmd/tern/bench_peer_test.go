package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

func TestPeersAreNamesAndCommands(t *testing.T) {
	for s, want := range map[string]peer{
		"a=echo 1":             {name: "a", command: "echo 1"},
		"decode/a b=x=1 run":   {name: "a b", command: "x=1 run", part: "decode"},
		"gemm/blas=./b {form}": {name: "blas", command: "./b {form}", part: "gemm"},
	} {
		if got, err := parsePeer(s, 0); err != nil || got != want {
			t.Errorf("%q: %+v, error %v", s, got, err)
		}
	}
	for _, s := range []string{"", "a", "=x", "a=", "a= ", "decode/=x", "nowhere/a=x"} {
		if p, err := parsePeer(s, 0); !errors.Is(err, errUsage) {
			t.Errorf("%q: %+v, error %v", s, p, err)
		}
	}
}

func TestPlaceholdersOfTheRowAreFilled(t *testing.T) {
	p := peer{command: "run {rows} {cols}x{rows} ${HOME} {unknown} {a,b} {ROWS}"}
	got := p.fill(map[string]string{"rows": "3", "cols": "4"})
	if want := "run 3 4x3 ${HOME} {unknown} {a,b} {ROWS}"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAPeersRateIsItsLastLine(t *testing.T) {
	needShell(t)
	for command, want := range map[string]float64{
		"echo 12.5":                       12.5,
		"echo 1; echo and; echo 3e2":      300,
		"printf '7'":                      7,
		"echo; echo ' 8 '; echo; echo ''": 8,
		"echo {rows}":                     42,
		"echo lots >&2; echo 9":           9,
	} {
		p := peer{name: "p", command: command, timeout: 10 * time.Second}
		if got, err := p.rate(context.Background(), map[string]string{"rows": "42"}); err != nil || got != want {
			t.Errorf("%s: %v, error %v, want %v", command, got, err, want)
		}
	}
}

func TestAPeerThatGivesNoRateIsAnError(t *testing.T) {
	needShell(t)
	for command, want := range map[string]string{
		"true":                 `no rate: ""`,
		"echo 5 GOPS":          `no rate: "5 GOPS"`,
		"echo 5; echo done":    `no rate: "done"`,
		"echo 0":               `no rate: "0"`,
		"echo -3":              `no rate: "-3"`,
		"echo NaN":             `no rate: "NaN"`,
		"echo inf":             `no rate: "inf"`,
		"echo 5; exit 4":       "exit status 4",
		"no-such-program-here": "exit status 127",
	} {
		p := peer{name: "p", command: command, timeout: 10 * time.Second}
		if got, err := p.rate(context.Background(), nil); err == nil || !strings.Contains(err.Error(), want) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, error %v, want %s and a hint", command, got, err, want)
		}
	}
}

func TestAPeerIsEndedWithWhatItStarted(t *testing.T) {
	needShell(t)
	const command = "sleep 60 & sleep 60; echo 1"
	begin := time.Now()
	p := peer{name: "p", command: command, timeout: 50 * time.Millisecond}
	if _, err := p.rate(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "more than 50ms") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	p.timeout = time.Minute
	if _, err := p.rate(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want that of the context", err)
	}
	if spent := time.Since(begin); spent > 20*time.Second {
		t.Errorf("took %v", spent)
	}
}

func needShell(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh")
	}
}

func TestPeerValuesAreOneWordEach(t *testing.T) {
	p := peer{command: "x {model} {rows}"}
	if got, want := p.fill(map[string]string{"model": "my model's; rm", "rows": "3"}), `x 'my model'\''s; rm' 3`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestNamesThatNoRowFillsInAreFound(t *testing.T) {
	p := peer{command: "run {rows} {foo} ${home} {a,b} {bar} {foo}"}
	got := strings.Join(p.unknown(map[string]string{"rows": "3"}), " ")
	if want := "{foo} {bar}"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
