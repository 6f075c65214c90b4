package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ternlm/tern/plugins/internal/process"
	"github.com/ternlm/tern/plugins/internal/wire"
)

// serve is the main of a plugin. register adds the services of its kind.
func serve(kind Kind, m Meta, register func(*grpc.Server)) {
	info := Info{Kind: kind, Meta: m, Protocol: Protocol}
	if err := m.Check(); err != nil {
		fmt.Fprintf(os.Stderr, "this plugin describes itself wrongly: %v\n", err)
		os.Exit(2)
	}
	if len(os.Args) > 1 || os.Getenv(process.Handshake.MagicCookieKey) != process.Handshake.MagicCookieValue {
		os.Exit(byHand(info, os.Args[1:], os.Stdout, os.Stderr))
	}
	go endWithHost(os.Getppid())
	// go-plugin sends what a plugin prints through the connection, where the last
	// words of one that dies are lost: the first call, which is Describe, puts
	// them back on standard error.
	direct := os.Stderr
	restore := sync.OnceFunc(func() { os.Stdout, os.Stderr = direct, direct })
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: process.Handshake,
		Plugins: plugin.PluginSet{"tern": &service{register: func(s *grpc.Server) {
			wire.RegisterPluginServer(s, describer{info: info})
			register(s)
		}}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server { return newServer(restore, o) },
		Logger:     hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn}),
	})
}

// endWithHost ends the plugin when its parent is another process than host: it
// was killed. On Linux the kernel is faster.
func endWithHost(host int) {
	for range time.Tick(time.Second) {
		if os.Getppid() != host {
			os.Exit(1)
		}
	}
}

// byHand answers whoever runs a plugin without a host; it returns the exit
// status.
func byHand(info Info, args []string, out, errs io.Writer) int {
	if len(args) == 1 && args[0] == "describe" {
		info.Path, _ = os.Executable()
		js, err := json.MarshalIndent(info, "", "  ")
		if err != nil {
			fmt.Fprintln(errs, err)
			return 1
		}
		fmt.Fprintf(out, "%s\n", js)
		return 0
	}
	fmt.Fprintf(errs, `This is %s %s, a %s plugin of tern (protocol %d): %s
It is run by tern, not by hand:

  tern plugin test PATH       check it
  tern plugin install PATH    install it
  tern train %s

  describe                    as the only argument prints what it is as JSON
`, info.Name, info.Version, info.Kind, info.Protocol, info.Help, usage(info))
	return 2
}

// usage is how the plugin is chosen.
func usage(info Info) string {
	flag := map[Kind]string{KindQuantizer: "--quant", KindResidual: "--residual", KindBackend: "--backend"}[info.Kind]
	return flag + " plugin:" + info.Name
}

// newServer makes the gRPC server of a plugin: a panic of its code fails the
// call, not the process. begin is run before each call.
func newServer(begin func(), opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts,
		grpc.MaxRecvMsgSize(process.MaxToPlugin), grpc.MaxSendMsgSize(process.MaxToPlugin),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (_ any, err error) {
			defer recovered(&err)
			begin()
			r, err := h(ctx, req)
			return r, toStatus(err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
			defer recovered(&err)
			return toStatus(h(srv, s))
		}))...)
}

// recovered turns a panic into an error; the stack goes to standard error,
// which the host shows.
func recovered(err *error) {
	if p := recover(); p != nil {
		fmt.Fprintf(os.Stderr, "panic: %v\n%s", p, debug.Stack())
		*err = status.Errorf(codes.Unknown, "panic: %v", p)
	}
}

// service registers with go-plugin.
type service struct {
	plugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

// GRPCServer adds the services.
func (s *service) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	s.register(g)
	return nil
}

// GRPCClient is not used: the host takes the connection itself.
func (s *service) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, status.Error(codes.Unimplemented, "no client")
}

// describer serves the Plugin service.
type describer struct {
	wire.UnimplementedPluginServer
	info Info
}

// Describe says what the plugin is.
func (d describer) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeReply, error) {
	r := &wire.DescribeReply{Kind: string(d.info.Kind), Name: d.info.Name, Version: d.info.Version, Help: d.info.Help}
	for _, o := range d.info.Options {
		r.Options = append(r.Options, &wire.Option{Name: o.Name, Type: o.Type, Default: o.Default, Choices: o.Choices, Help: o.Help})
	}
	return r, nil
}
