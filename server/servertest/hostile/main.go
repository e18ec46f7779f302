// Command hostile is a third party's connector that is written against the wire and tries what
// it must not do. Tests of a whole hub install it.
//
// With its first delivery to an endpoint, as it is set at the time, it makes the attempts that
// the endpoint's settings name, answers for deliveries that it was not given, and says as an
// error what it got. With the next one it floods standard error, and then the stream.
//
//	hostile try    makes the attempts of standard input, as anybody could
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/hookyard/hookyard/plugins"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "try" {
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stdout, attempts(string(b), nil, nil))
		return
	}
	goplugin.Serve(&goplugin.ServeConfig{HandshakeConfig: plugins.Handshake(), GRPCServer: goplugin.DefaultGRPCServer,
		VersionedPlugins: map[int]goplugin.PluginSet{1: {plugins.ServiceName: &service{}}}})
}

type service struct {
	goplugin.NetRPCUnsupportedPlugin
	wirev1.UnimplementedPluginServer
}

func (s *service) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	wirev1.RegisterPluginServer(g, s)
	return nil
}

func (*service) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this is no host")
}

// Describe implements wirev1.PluginServer.
func (*service) Describe(context.Context, *wirev1.DescribeRequest) (*wirev1.DescribeResponse, error) {
	return &wirev1.DescribeResponse{Name: "hostile", Title: "Hostile", Description: "Tries what it must not.", Version: "1.0.0", Abilities: []string{"DELIVER"},
		Settings: []byte(`{"type": "object", "properties": {"plan": {"type": "string", "title": "Plan", "description": "What to try."}}, "additionalProperties": false}`)}, nil
}

// Session implements wirev1.PluginServer.
func (*service) Session(s wirev1.Plugin_SessionServer) error {
	var way *gate
	if fd, err := strconv.Atoi(os.Getenv(plugins.DialFDEnv)); err == nil {
		f := os.NewFile(uintptr(fd), "way out")
		way = &gate{conn: f, lines: bufio.NewReader(f)}
	}
	var plan struct{ Plan string }
	ref, seen := "", map[string]bool{}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		switch of := m.GetMessage().(type) {
		case *wirev1.SessionRequest_Endpoint:
			ref = of.Endpoint.GetRef()
			if err := json.Unmarshal(of.Endpoint.GetSettings(), &plan); err != nil {
				return err
			}
		case *wirev1.SessionRequest_Ping:
			err = s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Pong{Pong: &wirev1.Pong{Number: of.Ping.GetNumber()}}})
		case *wirev1.SessionRequest_Deliver:
			for _, item := range of.Deliver.GetItems() {
				if seen[ref] {
					return flood(s)
				}
				seen[ref] = true
				if way != nil {
					way.ref = ref
				}
				err = errors.Join(forge(s, item.GetToken()), s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Results{Results: &wirev1.Results{Results: []*wirev1.Result{
					{Token: item.GetToken(), Outcome: wirev1.Outcome_OUTCOME_PERMANENT, Error: attempts(plan.Plan, way, &memory{s, ref})}}}}}))
			}
		}
		if err != nil {
			return err
		}
	}
}

// forge answers for what others were given.
func forge(s wirev1.Plugin_SessionServer, own uint64) error {
	var all []*wirev1.Result
	for token := range uint64(1000) {
		if token != own {
			all = append(all, &wirev1.Result{Token: token, Outcome: wirev1.Outcome_OUTCOME_DONE})
		}
	}
	return s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Results{Results: &wirev1.Results{Results: all}}})
}

func flood(s wirev1.Plugin_SessionServer) error {
	noise := strings.Repeat("noise", 200)
	for range 1000 {
		fmt.Fprintln(os.Stderr, noise)
	}
	for {
		if err := s.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Log{Log: &wirev1.Log{Level: 8, Message: noise}}}); err != nil {
			return err
		}
	}
}

// gate is the way out that the hub offers.
type gate struct {
	conn  io.Writer
	lines *bufio.Reader
	ref   string
}

func (g *gate) ask(ref, address string) error {
	if g == nil {
		return errors.New("there is none")
	}
	if _, err := fmt.Fprintf(g.conn, `{"id": 1, "endpoint": %q, "address": %q}`+"\n", ref, address); err != nil {
		return err
	}
	line, err := g.lines.ReadString('\n')
	var answer struct {
		Connected bool
		Error     string
	}
	if err == nil {
		err = json.Unmarshal([]byte(line), &answer)
	}
	if err == nil && !answer.Connected {
		err = errors.New(answer.Error)
	}
	return err
}

// memory is what the hub keeps for an endpoint.
type memory struct {
	session wirev1.Plugin_SessionServer
	ref     string
}

// link has the hub keep one more link.
func (m *memory) link(id string) error {
	if m == nil {
		return errors.New("there is none")
	}
	l := &wirev1.Link{Kind: "issue", Ours: id, Theirs: id}
	if err := m.session.Send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Ask{Ask: &wirev1.Ask{Number: 1, Endpoint: m.ref, Of: &wirev1.Ask_SetLink{SetLink: l}}}}); err != nil {
		return err
	}
	for {
		answer, err := m.session.Recv()
		switch told := answer.GetTold(); {
		case err != nil:
			return err
		case told == nil: // something else, which can wait
		case told.GetKept() == nil:
			return errors.New(told.String())
		default:
			return nil
		}
	}
}

// attempts makes them, each a kind and a target, and says as JSON which of them succeeded.
func attempts(plan string, way *gate, kept *memory) string {
	var list [][2]string
	out := struct {
		Tried int
		Got   [][2]string
	}{Got: [][2]string{}}
	if err := json.Unmarshal([]byte(plan), &list); err != nil {
		return err.Error()
	}
	for _, a := range list {
		out.Tried++
		if try(a[0], a[1], way, kept) == nil {
			out.Got = append(out.Got, a)
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func try(what, target string, way *gate, kept *memory) error {
	switch what {
	case "link":
		return kept.link(target)
	case "read":
		_, err := os.ReadFile(target)
		return err
	case "write":
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err == nil {
			err = f.Close()
		}
		return err
	case "list":
		_, err := os.ReadDir(target)
		return err
	case "make":
		return os.Mkdir(target, 0o700)
	case "environment":
		if _, there := os.LookupEnv(target); !there {
			return errors.New("it is not there")
		}
		return nil
	case "tcp", "unix":
		c, err := net.DialTimeout(what, target, 5*time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	case "ask":
		if way == nil {
			return errors.New("there is no way out")
		}
		return way.ask(way.ref, target)
	case "egress": // beside the endpoint, as the manifest may have it
		return way.ask("", target)
	case "run":
		return exec.Command(target).Run()
	case "memory":
		n, err := strconv.Atoi(target)
		if err == nil {
			err = fill(n)
		}
		return err
	case "disk":
		n, err := strconv.Atoi(target)
		for i := 0; i < n && err == nil; i++ {
			err = os.WriteFile(filepath.Join(os.TempDir(), "filler"+strconv.Itoa(i)), bytes.Repeat([]byte("x"), 1<<20), 0o600)
		}
		return err
	}
	return errors.New("it does not know how")
}

// fill asks for memory, which is refused before it is used.
func fill(mib int) error {
	b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	return unix.Munmap(b)
}
