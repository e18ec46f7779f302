package plugins

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// The bounds of what crosses the boundary, in bytes unless said otherwise.
const (
	MaxMessage = 16 << 20 // one message of the stream
	MaxItem    = 12 << 20 // one delivery; larger ones are refused before they are sent

	maxBatch   = 64       // items or results in one message
	batchBytes = 24 << 10 // a list is closed when it reaches this: gRPC's next buffer after 32 KiB is 1 MiB
	maxText    = 4 << 10  // an error, a log line or one of its values
	maxHeaders = 64 << 10
	maxAttrs   = 32 // attributes of a log line
)

// socketDirEnv is where go-plugin's server makes its socket.
const socketDirEnv = goplugin.EnvUnixSocketDir

// ServiceName is the one service of the protocol table.
const ServiceName = "connector"

// Handshake is what host and plugin must agree on before they talk. The cookie is no
// secret: it only tells a person who starts a plugin by hand that this is no way to.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{MagicCookieKey: "HOOKYARD_PLUGIN", MagicCookieValue: "e7a1c9d45f0b4b0f9f6a9e0c2d8b7315"}
}

// Versions is the protocol table for the host's side; the highest version that both
// sides know is chosen.
func Versions() map[int]goplugin.PluginSet { return versions(nil) }

func versions(s wirev1.PluginServer) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{1: {ServiceName: &service{server: s}}}
}

// service ties the generated code to go-plugin; server is nil in the host.
type service struct {
	goplugin.NetRPCUnsupportedPlugin
	server wirev1.PluginServer
}

func (s *service) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	if s.server == nil {
		return errors.New("plugins: a host's protocol table cannot serve")
	}
	wirev1.RegisterPluginServer(g, s.server)
	return nil
}

func (s *service) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return wirev1.NewPluginClient(c), nil
}
