//go:build unix

package plugins

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/plugins/internal/process"
	"github.com/ternlm/tern/plugins/internal/wire"
)

var evilMeta = Meta{Name: "evil", Version: "6.6.6", Help: "Does what it should not."}

// evil is a quantizer whose option says what it does wrong.
type evil struct{ how string }

func (q evil) Spec() string { return "evil:how=" + q.how }

func (evil) Format() framework.Format {
	return framework.Format{Bits: 2, Levels: []int8{-1, 0, 1}, Group: framework.GroupTensor, ActBits: 8}
}

func (q evil) Pack(b *graph.Builder, w graph.Value) (codes, scales graph.Value) {
	switch q.how {
	case "killed":
		killSelf()
	case "exits":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(7)
	case "panics":
		panic("pack panics")
	case "refuses":
		graph.Fail("weights of %v are not to my taste", w.Type())
	case "hangs":
		select {}
	case "freezes":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		select {}
	}
	codes = b.Encode(w, tensor.U2, []int8{-1, 0, 1})
	scales = b.Const(1, tensor.T(tensor.F32, 1, 1))
	if q.how == "nan" {
		scales = noNumber(b, scales)
	}
	return codes, scales
}

// noNumber is 0/0 in the shape of x.
func noNumber(b *graph.Builder, x graph.Value) graph.Value { return b.Div(b.Like(x, 0), b.Like(x, 0)) }

// rawQuantizer answers with any text, which no Builder would make.
type rawQuantizer struct {
	wire.UnimplementedQuantizerServer
}

func (rawQuantizer) Open(_ context.Context, r *wire.OpenRequest) (*wire.OpenQuantizerReply, error) {
	f := &wire.Format{Bits: 2, Levels: []byte{0xff, 0, 1}, Group: framework.GroupTensor, ActBits: 8}
	switch r.GetOptions() {
	case "how=bits":
		f.Bits = 3
	case "how=density":
		f.Density = math.NaN()
	case "how=levels":
		f.Levels = []byte{1, 1}
	case "how=spec":
		return &wire.OpenQuantizerReply{Options: "a b\x1b[31m", Format: f}, nil
	}
	return &wire.OpenQuantizerReply{Options: r.GetOptions(), Format: f}, nil
}

const (
	rawInput  = "%0 = input() {\"Name\":\"w\",\"Type\":\"f32[4,8]\"} : f32[4,8]\n"
	rawCodes  = "%1 = encode(%0) {\"To\":\"u2\",\"Levels\":[-1,0,1]} : u2[4,8]\n"
	rawScales = "%2 = const() {\"Value\":1,\"Type\":\"f32[1,1]\"} : f32[1,1]\n"
	rawEnd    = "output codes %1\noutput scales %2\n"
)

func (rawQuantizer) Pack(_ context.Context, r *wire.PackRequest) (*wire.Fragment, error) {
	text := rawInput + rawCodes + rawScales + rawEnd
	switch r.GetOptions() {
	case "how=malformed":
		text = strings.Replace(text, "encode(%0)", "encode(%7)", 1)
	case "how=shape":
		text = strings.ReplaceAll(text, "[1,1]", "[2,1]")
	case "how=lie":
		text = strings.Replace(text, ": f32[1,1]", ": f32[2,1]", 1)
	case "how=nan":
		text = strings.Replace(text, `"Value":1`, `"Value":NaN`, 1)
	case "how=inf":
		text = strings.Replace(text, `"Value":1`, `"Value":1e999`, 1)
	case "how=endless":
		text = rawInput + strings.Repeat("%1 = abs(%0) : f32[4,8]\n", 100_000)
	case "how=long":
		text = rawInput + strings.Repeat("x", 5<<20)
	case "how=state":
		text = rawInput + rawCodes + "%2 = param() {\"Name\":\"weight\",\"Type\":\"f32[1,1]\",\"Init\":{}} : f32[1,1]\n" + rawEnd
	case "how=memory":
		text = rawInput + rawCodes + rawScales + "%3 = const() {\"Value\":1,\"Type\":\"f32[100000,1000]\"} : f32[100000,1000]\n" + rawEnd
	}
	return &wire.Fragment{Text: text}, nil
}

// grabber is a residual that names parameters of others.
type grabber struct{ how string }

func (r grabber) Spec() string { return "grabber:how=" + r.how }

func (r grabber) Expand(b *graph.Builder, x graph.Value) graph.Value {
	if r.how == "embedding" {
		return b.Add(x, b.SumAll(b.Param("tok_embed.weight", graph.ConstInit(0), 512, 64)))
	}
	return x
}

func (r grabber) Read(b *graph.Builder, _ int, s graph.Value) graph.Value {
	switch r.how {
	case "later": // declared before the model declares it
		return b.Add(s, b.SumAll(b.Param("wq.weight", graph.ConstInit(0), 64, 64)))
	case "global":
		return b.Add(s, b.SumAll(b.Param("norm.weight", graph.ConstInit(0), 64)))
	case "large": // only where there are many rows
		if s.Dim(0) > 1 {
			return b.Add(s, b.SumAll(b.Param("wq.weight", graph.ConstInit(0), 64, 64)))
		}
	}
	return s
}

func (r grabber) Write(b *graph.Builder, _ int, s, y graph.Value) graph.Value {
	switch r.how {
	case "optimizer":
		return b.Add(b.Add(s, y), b.Param("adam.m", graph.ConstInit(0), 1))
	case "nan":
		return b.Add(s, noNumber(b, y))
	}
	return b.Add(s, y)
}

func (r grabber) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	if r.how == "grad" {
		return b.Mul(s, b.Param("grad.mine", graph.ConstInit(1), 1))
	}
	return s
}

// threeStreams expands to more streams than it says.
type threeStreams struct{ framework.Residual }

func (threeStreams) Spec() string           { return "three" }
func (threeStreams) Width() int             { return 2 }
func (threeStreams) DoublyStochastic() bool { return true }
func (threeStreams) Mixing(b *graph.Builder, _ int, _ graph.Value) graph.Value {
	return b.Const(0.5, tensor.T(tensor.F32, 2, 2))
}

func (threeStreams) Expand(b *graph.Builder, x graph.Value) graph.Value {
	x = b.Reshape(x, x.Dim(0), 1, x.Dim(1))
	return b.Concat(1, x, x, x)
}

// huge makes a reply of nearly 2 GiB, which the codec of gRPC carries at most.
type huge struct{ encoding.CodecV2 }

func (h huge) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*wire.Fragment); ok && f.GetText() == "huge" {
		return mem.BufferSlice{mem.SliceBuffer(make([]byte, math.MaxInt32-1024))}, nil
	}
	return h.CodecV2.Marshal(v)
}

type hugeQuantizer struct{ rawQuantizer }

func (hugeQuantizer) Pack(context.Context, *wire.PackRequest) (*wire.Fragment, error) {
	return &wire.Fragment{Text: "huge"}, nil
}

// raw serves without the checks of serve.
func raw(h plugin.HandshakeConfig, server func([]grpc.ServerOption) *grpc.Server, register func(*grpc.Server)) {
	plugin.Serve(&plugin.ServeConfig{HandshakeConfig: h, GRPCServer: server, Plugins: plugin.PluginSet{"tern": &service{register: register}}})
}

func lenient(o []grpc.ServerOption) *grpc.Server { return newServer(func() {}, o) }

func init() {
	asPlugin["evil"] = func() {
		ServeQuantizer(Quantizer{Meta: evilMeta, Open: func(o framework.Options) (framework.Quantizer, error) { return evil{o.String("how", "not")}, nil }})
	}
	asPlugin["raw"] = func() {
		serve(KindQuantizer, evilMeta, func(s *grpc.Server) { wire.RegisterQuantizerServer(s, rawQuantizer{}) })
	}
	asPlugin["huge"] = func() {
		raw(process.Handshake, func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxSendMsgSize(math.MaxInt32), grpc.ForceServerCodecV2(huge{encoding.GetCodecV2(proto.Name)}))...)
		}, func(s *grpc.Server) {
			wire.RegisterPluginServer(s, describer{info: Info{Kind: KindQuantizer, Meta: evilMeta}})
			wire.RegisterQuantizerServer(s, hugeQuantizer{})
		})
	}
	asPlugin["grabber"] = func() {
		ServeResidual(Residual{Meta: Meta{Name: "grabber", Version: "1.0.0"}, Open: func(o framework.Options) (framework.Residual, error) {
			return grabber{o.String("how", "")}, nil
		}})
	}
	asPlugin["three"] = func() {
		ServeResidual(Residual{Meta: Meta{Name: "three", Version: "1.0.0"}, Open: func(framework.Options) (framework.Residual, error) {
			return threeStreams{must(framework.Residuals.Open("mhclite"))}, nil
		}})
	}
	asPlugin["exits"] = func() { fmt.Fprintln(os.Stderr, "no such device\x1b[31m"); os.Exit(3) }
	asPlugin["sleeps"] = func() { time.Sleep(time.Hour) }
	asPlugin["prints"] = func() {
		fmt.Println("Welcome to my plugin!")
		ServeQuantizer(builtin("ternary"))
	}
	asPlugin["newer"] = func() {
		h := process.Handshake
		h.ProtocolVersion = Protocol + 1
		raw(h, lenient, func(*grpc.Server) {})
	}
	asPlugin["environment"] = func() {
		var names []string
		for _, kv := range os.Environ() {
			name, _, _ := strings.Cut(kv, "=")
			names = append(names, name)
		}
		ServeQuantizer(Quantizer{Meta: Meta{Name: "environment", Version: "1.0.0", Help: strings.Join(names, " ")}})
	}
	asPlugin["badly-described"] = func() {
		raw(process.Handshake, lenient, func(s *grpc.Server) {
			wire.RegisterPluginServer(s, describer{info: Info{Kind: KindQuantizer, Meta: Meta{Name: "../../etc", Version: "1.0.0"}}})
		})
	}
	asPlugin["parent"] = func() { // leaves a child behind that holds its pipes
		cmd := exec.Command("sleep", "3600")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		ServeQuantizer(Quantizer{Meta: Meta{Name: "parent", Version: "1.0.0", Help: fmt.Sprint(cmd.Process.Pid)}})
	}
	asPlugin["host"] = func() { // a host that is killed
		c := must(Dial(context.Background(), DialOptions{Path: os.Args[1]}))
		fmt.Println(c.proc.ID())
		select {}
	}
}

// fails dials the named program and returns the error.
func fails(t *testing.T, name string, change ...func(*DialOptions)) error {
	t.Helper()
	o := DialOptions{Path: program(t, name), Start: 20 * time.Second}
	for _, f := range change {
		f(&o)
	}
	c, err := Dial(context.Background(), o)
	if err == nil {
		_ = c.Close()
		t.Fatal("it starts")
	}
	return err
}

func TestAPluginThatDoesNotStartIsExplained(t *testing.T) {
	plugin := []error{ErrPlugin}
	says(t, fails(t, "exits"), plugin, "tern-plugin-exits", "ended before the handshake", "exit status 3", "no such device?[31m")
	says(t, fails(t, "prints"), plugin, `"Welcome to my plugin!" on standard output`)
	says(t, fails(t, "sleeps", func(o *DialOptions) { o.Start = 200 * time.Millisecond }), plugin, "no handshake within 200ms")
	says(t, fails(t, "newer"), []error{ErrPlugin, ErrProtocol}, "plugin has version 2, this program has version 1")
	says(t, fails(t, "badly-described"), plugin, "describe", "name")
	says(t, fails(t, "ternary", func(o *DialOptions) { o.SHA256 = strings.Repeat("0", 64) }), []error{ErrPlugin, ErrPin}, "pinned is 0000")
	says(t, fails(t, "ternary", func(o *DialOptions) { o.Path += "-missing" }), plugin, "no such file")
	says(t, fails(t, "ternary", func(o *DialOptions) { o.Path = t.TempDir() }), plugin, "is no file")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	says(t, fails(t, "ternary", func(o *DialOptions) { o.Path = text }), plugin, text)
}

func TestTheHashIsThatOfTheProgram(t *testing.T) {
	sum := dial(t, "ternary").Info().SHA256
	if got := dial(t, "int4", func(o *DialOptions) { o.SHA256 = strings.ToUpper(sum) }).Info().SHA256; got != sum {
		t.Errorf("hash %s, then %s", sum, got)
	}
}

func pack(c *Client, how string) error {
	q, err := c.Quantizer("how=" + how)
	if err != nil {
		return err
	}
	_, err = graph.Trace(func(b *graph.Builder) { q.Pack(b, b.Input("w", tensor.F32, 4, 8)) })
	return err
}

func TestADeathInACallNamesPluginCallAndCause(t *testing.T) {
	for how, cause := range map[string]string{"killed": "signal: killed", "exits": "exit status 7; its standard error ends\nlast words"} {
		c := dial(t, "evil")
		says(t, pack(c, how), []error{ErrPlugin, ErrDied}, "evil 6.6.6", "tern-plugin-evil", "Pack of a weight f32[4,8]", cause)
		says(t, pack(c, how), []error{ErrPlugin, ErrDied}, "open")
	}
}

func TestAHangIsEndedAtItsDeadline(t *testing.T) {
	for _, how := range []string{"hangs", "freezes"} {
		c := dial(t, "evil", func(o *DialOptions) { o.Call = time.Second })
		pid, before := c.proc.ID(), time.Now()
		says(t, pack(c, how), []error{ErrPlugin, ErrTimeout}, "Pack of a weight f32[4,8]", "killed after 1s")
		if d := time.Since(before); d > 8*time.Second {
			t.Errorf("%s: took %v", how, d)
		}
		gone(t, pid)
	}
}

func TestAPluginsOwnErrorsAndPanicsLeaveItRunning(t *testing.T) {
	c := dial(t, "evil")
	says(t, pack(c, "refuses"), nil, "weights of f32[4,8] are not to my taste")
	says(t, pack(c, "panics"), []error{ErrPlugin}, "panic: pack panics", "Pack of a weight")
	if err := pack(c, "not"); err != nil {
		t.Errorf("then: %v", err)
	}
}

func TestBadAnswersAreRefused(t *testing.T) {
	c := dial(t, "raw")
	if err := pack(c, "good"); err != nil {
		t.Fatal(err)
	}
	for how, word := range map[string]string{
		"malformed": `bad reference "%7"`, "shape": "output scales is f32[2,1], asked for was f32[1,1]", "lie": "the text says f32[2,1]",
		"nan": "attribute", "inf": "attribute", "endless": "100001 lines", "long": "5242", "state": "parameter", "memory": "times what goes in and out",
	} {
		says(t, pack(c, how), []error{ErrPlugin, ErrFragment}, "Pack of a weight f32[4,8]", word)
	}
	for how, word := range map[string]string{"bits": "3 bits", "density": "density NaN", "levels": "levels [1 1]", "spec": "canonical options"} {
		says(t, pack(c, how), []error{ErrPlugin}, "open", word)
	}
}

func TestAReplyOfTwoGigabytesIsNotTaken(t *testing.T) {
	says(t, pack(dial(t, "huge"), "x"), []error{ErrPlugin}, "larger than max")
}

func TestAResidualMayNotTakeTheParametersOfOthers(t *testing.T) {
	dial(t, "grabber")
	for how, word := range map[string]string{
		"later": "wq.weight", "global": "norm.weight", "embedding": "tok_embed.weight", "grad": "grad.mine",
	} {
		c := config("none", "plugin:grabber:how="+how)
		_, err := model.New(c)
		says(t, err, nil, word)
	}
	m, err := model.New(config("none", "plugin:grabber:how=large"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Loss(1, 8, false)
	says(t, err, nil, "wq.weight", "another part of the model")
}

func TestAResidualMustExpandToTheStreamsItHas(t *testing.T) {
	dial(t, "three")
	_, err := model.New(config("none", "plugin:three"))
	says(t, err, []error{ErrPlugin, ErrFragment}, "output s is f32[1,3,64], asked for was f32[1,2,64]")
}

// gone waits until a process is no more.
func gone(t *testing.T, pid string) {
	t.Helper()
	for range 100 {
		st, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(st), ") Z ") { // ended, perhaps not reaped by who inherited it
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("process %s is still there", pid)
}

func needProc(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
}

// hostIn starts a host with a plugin, whose number it returns with a function that
// kills the host.
func hostIn(t *testing.T, tmp string) (pid string, kill func()) {
	t.Helper()
	cmd := exec.Command(program(t, "host"), program(t, "ternary"))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out := must(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(kill)
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	return pid, kill
}

func TestAKilledHostLeavesNoPlugin(t *testing.T) {
	needProc(t)
	tmp := must(os.MkdirTemp("", "t"))
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	pid, kill := hostIn(t, tmp)
	kill()
	gone(t, pid)

	// And what it leaves in the temporary directory the next one removes.
	left := must(os.ReadDir(tmp))
	if len(left) != 1 {
		t.Fatalf("a killed host leaves %v", left)
	}
	hostIn(t, tmp)
	for range 100 {
		if _, err := os.Stat(filepath.Join(tmp, left[0].Name())); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%s is still there", left[0].Name())
}

func TestCloseEndsThePluginAndWhatItStarted(t *testing.T) {
	needProc(t)
	tmp := must(os.MkdirTemp("", "t"))
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	c := dial(t, "parent", func(*DialOptions) { t.Setenv("TMPDIR", tmp) })
	child, pid := c.Info().Help, c.proc.ID()
	if left := must(os.ReadDir(tmp)); len(left) != 1 || must(left[0].Info()).Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v", left)
	}
	before := time.Now()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(before); d > 4*time.Second {
		t.Errorf("Close took %v", d)
	}
	gone(t, child)
	gone(t, pid)
	if left := must(os.ReadDir(tmp)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheEnvironmentIsScrubbed(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	t.Setenv("LD_PRELOAD_NOT", "x")
	names := strings.Fields(dial(t, "environment").Info().Help)
	for _, n := range names {
		if !strings.HasPrefix(n, "PLUGIN_") && !slices.Contains(process.Allowed(), n) && n != process.Handshake.MagicCookieKey {
			t.Errorf("the plugin sees %s", n)
		}
	}
	if !slices.Contains(names, "PLUGIN_CLIENT_CERT") {
		t.Error("no certificate: the connection is not encrypted")
	}
}

// Whoever reaches the socket talks to the plugin only with the certificate that
// its host made for the process.
func TestOnlyItsHostCanTalkToAPlugin(t *testing.T) {
	tmp := must(os.MkdirTemp("", "t")) // the path of a socket is short
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	dial(t, "ternary", func(*DialOptions) { t.Setenv("TMPDIR", tmp) })
	var socket string
	_ = filepath.WalkDir(tmp, func(path string, e os.DirEntry, _ error) error {
		if e.Type()&os.ModeSocket != 0 {
			socket = path
		}
		return nil
	})
	if socket == "" {
		t.Fatal("no socket")
	}
	for name, how := range map[string]credentials.TransportCredentials{
		"in the clear": insecure.NewCredentials(), "without a certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
	} {
		conn := must(grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(how)))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		r, err := wire.NewPluginClient(conn).Describe(ctx, &wire.DescribeRequest{})
		if status.Code(err) != codes.Unavailable { // the connection is refused, not the call
			t.Errorf("%s: answer %v, error %v", name, r, err)
		}
		cancel()
		_ = conn.Close()
	}
}

func TestACanceledStartEndsThePlugin(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err := Dial(ctx, DialOptions{Path: program(t, "sleeps")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestByHand(t *testing.T) {
	out, err := exec.Command(program(t, "ternary"), "describe").Output()
	if err != nil || !strings.Contains(string(out), `"kind": "quantizer"`) || !strings.Contains(string(out), `"name": "ternary"`) {
		t.Errorf("describe: %v\n%s", err, out)
	}
	help, err := exec.Command(program(t, "ternary")).CombinedOutput()
	if e := (*exec.ExitError)(nil); !errors.As(err, &e) || e.ExitCode() != 2 || !strings.Contains(string(help), "--quant plugin:ternary") {
		t.Errorf("by hand: %v\n%s", err, help)
	}
}
