package plugins

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/hookyard/hookyard/connectors"
)

// DialFDEnv names the open file through which a process without sockets of its own asks
// the hub for connections: see docs/plugin-protocol.md.
const DialFDEnv = "HOOKYARD_DIAL_FD"

const (
	maxAsk       = 4 << 10 // bytes of one question
	dialsAtOnce  = 64      // of one process
	dialRate     = 200     // a second, of one process; …
	dialBurst    = 1000    // … and so many at once
	dialPatience = 30 * time.Second
)

// dialAsk is one question of the process.
type dialAsk struct {
	ID       uint64 `json:"id"`
	Endpoint string `json:"endpoint"` // a Ref; "": beside any endpoint, as the manifest says
	Address  string `json:"address"`  // "host:port"
	// To is a socket in the process's folder that the hub connects to instead of handing the
	// connection over, for languages that cannot be handed one.
	To string `json:"to,omitempty"`
}

// dialAnswer answers it. With Connected comes the connection, unless it was asked for
// elsewhere.
type dialAnswer struct {
	ID        uint64 `json:"id"`
	Connected bool   `json:"connected,omitempty"`
	Local     string `json:"local,omitempty"` // address of the connection that was handed over, at this end
	Error     string `json:"error,omitempty"`
	// Of an address that the policy refuses: what a *connectors.PolicyError says.
	Target  string `json:"target,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Setting string `json:"setting,omitempty"`
}

// Gate is the way out of a process that the sandbox keeps from the network: the process
// asks, the Gate checks and dials as Outbound does, and hands the connection over.
type Gate struct {
	conn   *net.UnixConn
	egress []string
	beside func() connectors.DialPolicy // of egress, as it is now
	dialer net.Dialer
	limit  *rate.Limiter
	relay  func(name string) (net.Conn, error)

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	policies map[string]*policy // by Ref

	made, refused atomic.Int64
}

// NewGate makes a Gate and the process's end of it, which the caller closes once the
// process has it. Beside the addresses of its endpoints the process reaches those of
// egress ("host:port", "*.example.com:443", "*:443"), as far as the address policy beside
// lets it, which is asked at each dial; nil is public addresses. relay connects to a socket
// in the process's folder.
func NewGate(egress []string, beside func() connectors.DialPolicy, resolver *net.Resolver, relay func(name string) (net.Conn, error)) (*Gate, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a way out for the process: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "gate"), os.NewFile(uintptr(fds[1]), "way out")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make a way out for the process: %w", err)
	}
	g := &Gate{conn: conn.(*net.UnixConn), egress: egress, beside: beside, dialer: newDialer(resolver), limit: rate.NewLimiter(dialRate, dialBurst), relay: relay, policies: map[string]*policy{}}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g, theirs, nil
}

// Serve answers questions until the process or Close ends it. known is what the process
// has been given.
func (g *Gate) Serve(known func(ref string) (connectors.Endpoint, bool)) {
	g.wg.Go(func() {
		defer g.stop()
		slots := make(chan struct{}, dialsAtOnce)
		lines := bufio.NewReaderSize(g.conn, maxAsk)
		for {
			line, err := lines.ReadSlice('\n')
			if err != nil { // also a line that is too long: this is no conversation
				return
			}
			var ask dialAsk
			if json.Unmarshal(line, &ask) != nil || g.limit.Wait(g.ctx) != nil {
				return
			}
			select {
			case slots <- struct{}{}:
			case <-g.ctx.Done():
				return
			}
			g.wg.Go(func() {
				defer func() { <-slots }()
				g.answer(ask, known)
			})
		}
	})
}

// Close ends it; connections that were handed over stay.
func (g *Gate) Close() {
	g.stop()
	_ = g.conn.Close()
	g.wg.Wait()
}

// Counts are how many connections were made for the process, and how many were refused
// or failed.
func (g *Gate) Counts() (made, refused int64) { return g.made.Load(), g.refused.Load() }

func (g *Gate) answer(ask dialAsk, known func(ref string) (connectors.Endpoint, bool)) {
	ctx, cancel := context.WithTimeout(g.ctx, dialPatience)
	defer cancel()
	a := dialAnswer{ID: ask.ID}
	var handed *os.File
	conn, err := g.dial(ctx, ask, known)
	if err == nil {
		handed, err = g.hand(conn, ask)
	}
	var refused *connectors.PolicyError
	switch {
	case errors.As(err, &refused):
		a.Target, a.Reason, a.Setting = refused.Target, refused.Reason, refused.Setting
		fallthrough
	case err != nil:
		a.Error = clip(err.Error())
		g.refused.Add(1)
	default:
		a.Connected = true
		if handed != nil {
			a.Local = conn.LocalAddr().String()
		}
		g.made.Add(1)
	}
	line, err := json.Marshal(a)
	if err != nil {
		return
	}
	var rights []byte
	if handed != nil {
		defer func() { _ = handed.Close() }()
		rights = syscall.UnixRights(int(handed.Fd())) // Fd makes it block, which is what most expect
	}
	_ = g.conn.SetWriteDeadline(time.Now().Add(dialPatience)) // of a process that does not read
	_, _, _ = g.conn.WriteMsgUnix(append(line, '\n'), rights, nil)
}

func (g *Gate) dial(ctx context.Context, ask dialAsk, known func(ref string) (connectors.Endpoint, bool)) (net.Conn, error) {
	var e connectors.Endpoint
	if ask.Endpoint != "" {
		var ok bool
		if e, ok = known(ask.Endpoint); !ok {
			return nil, unknownRef(ask.Endpoint)
		}
	}
	if !g.fits(e, ask.Address) {
		return nil, &connectors.PolicyError{Target: ask.Address, Reason: "it is neither the endpoint's or the target's address nor one that the connector's manifest names", Setting: "egress of the manifest"}
	}
	p, err := g.policy(ask.Endpoint, e)
	if err != nil {
		return nil, err
	}
	return dialChecked(ctx, g.dialer, p, "tcp", ask.Address)
}

// policy is an endpoint's, which changes with its Ref only, or that of egress.
func (g *Gate) policy(ref string, e connectors.Endpoint) (*policy, error) {
	if ref == "" {
		var now connectors.DialPolicy
		if g.beside != nil {
			now = g.beside()
		}
		return newPolicy(now)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.policies[ref]; p != nil {
		return p, nil
	}
	p, err := newPolicy(e.Dial)
	if err != nil {
		return nil, err
	}
	if len(g.policies) >= 1000 { // of endpoints that are gone
		clear(g.policies)
	}
	g.policies[ref] = p
	return p, nil
}

// fits says whether the address is the endpoint's, its forward proxy's, a scan's target's, or
// one of egress.
func (g *Gate) fits(e connectors.Endpoint, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	host = canonicalName(host)
	settings, _ := readHTTPSettings(&e) // what cannot be read names no proxy
	for _, own := range append([]string{e.URL, settings.ForwardProxy}, e.Dial.Origins...) {
		u, err := url.Parse(own)
		if err == nil && u.Host != "" && canonicalName(u.Hostname()) == host && portOf(u) == port {
			return true
		}
	}
	for _, allowed := range g.egress {
		name, p, err := net.SplitHostPort(allowed)
		if err != nil {
			name, p = allowed, "*"
		}
		r := rule{name: canonicalName(strings.Trim(name, "[]"))}
		if (p == "*" || p == port) && (name == "*" || r.fitsName(host)) {
			return true
		}
	}
	return false
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	switch u.Scheme {
	case "http", "ws":
		return "80"
	case "socks5", "socks5h":
		return "1080"
	}
	return "443"
}

// hand makes an open file of the connection, or joins it with the socket that it was
// asked for.
func (g *Gate) hand(conn net.Conn, ask dialAsk) (*os.File, error) {
	if ask.To == "" {
		defer conn.Close()
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			return nil, fmt.Errorf("hand the connection over: %w", err)
		}
		return f, nil
	}
	inner, err := g.relay(ask.To)
	if err == nil {
		_, err = fmt.Fprintf(inner, "%d\n", ask.ID)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to the process's socket %q: %w", ask.To, err)
	}
	g.wg.Go(func() { join(g.ctx, conn, inner) })
	return nil, nil
}

// join copies both ways until both are done, or ctx ends.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { _, _ = a.Close(), b.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
	_, _ = a.Close(), b.Close()
}

// pass copies until from ends, and says so to the other end.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_, _ = to.Close(), from.Close()
	}
}
