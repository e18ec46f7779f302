package plugins

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/hookyard/hookyard/connectors"
)

// Serve is all that a plugin's main needs: it talks to the host until the host wants
// the process to end or ends itself, which ends the process at once. Signals that
// people and service managers send to whole groups are ignored: the host decides,
// because it may still be handing over what is in flight.
func Serve(c connectors.Connector) {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go exitWithHost(os.Stdin)
	hub, err := newAsker()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	PaceHeap(400, 16<<20) // what lives here is small and what passes through is much
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake(),
		VersionedPlugins: versions(&server{connector: c, hub: hub}),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
				grpc.StaticStreamWindowSize(windowSize), grpc.StaticConnWindowSize(windowSize))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
}

// windowSize of the stream: fixed, so that gRPC does not probe for a better one.
const windowSize = 4 << 20

// Main serves the one of the shipped connectors that is called name.
func Main(name string, shipped []connectors.Connector) error {
	for _, c := range shipped {
		if c.Spec().Name == name {
			Serve(c)
			return nil
		}
	}
	return fmt.Errorf("there is no connector called %q in this program", name)
}

// exitWithHost ends the process when the host's end of the pipe is gone: the kernel
// closes it however the host dies. The socket's folder, which the host made for this
// process alone, goes with it.
func exitWithHost(stdin io.Reader) {
	_, _ = io.Copy(io.Discard, stdin)
	if dir := os.Getenv(socketDirEnv); dir != "" {
		_ = os.RemoveAll(dir)
		_ = os.Remove(filepath.Dir(dir)) // the host's own, once it is empty
	}
	os.Exit(0)
}
