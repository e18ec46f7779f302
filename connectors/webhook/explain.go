package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// phases measures one request. The transport's goroutines write to it, some of them
// even after the request has ended; hence the lock.
type phases struct {
	mu                              sync.Mutex
	start                           time.Time
	dnsStart, connectStart          time.Time
	tlsStart                        time.Time
	dns, connect, secure, firstByte time.Duration
	connected                       bool
}

func (p *phases) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { p.begin(&p.dnsStart) },
		DNSDone:              func(httptrace.DNSDoneInfo) { p.end(&p.dns, &p.dnsStart) },
		ConnectStart:         func(string, string) { p.begin(&p.connectStart) },
		ConnectDone:          func(string, string, error) { p.end(&p.connect, &p.connectStart) },
		TLSHandshakeStart:    func() { p.begin(&p.tlsStart) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { p.end(&p.secure, &p.tlsStart) },
		GotConn:              func(httptrace.GotConnInfo) { p.mu.Lock(); p.connected = true; p.mu.Unlock() },
		GotFirstResponseByte: func() { p.end(&p.firstByte, &p.start) },
	}
}

func (p *phases) begin(at *time.Time) {
	p.mu.Lock()
	if at.IsZero() { // several addresses may be tried, the first begins
		*at = time.Now()
	}
	p.mu.Unlock()
}

func (p *phases) end(d *time.Duration, since *time.Time) {
	p.mu.Lock()
	*d = time.Since(*since)
	p.mu.Unlock()
}

func (p *phases) timing() connectors.Timing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return connectors.Timing{DNS: p.dns, Connect: p.connect, TLS: p.secure, FirstByte: p.firstByte, Total: time.Since(p.start)}
}

// explain puts a failed request into words for people.
func (p *phases) explain(err error, u *url.URL, limit time.Duration, answering bool) (connectors.Outcome, connectors.Fault, string) {
	var policy *connectors.PolicyError
	if errors.As(err, &policy) {
		return connectors.Permanent, connectors.FaultPolicy, "The" + strings.TrimPrefix(policy.Error(), "the") + "."
	}
	return connectors.Retry, connectors.FaultTarget, p.words(err, u, limit, answering)
}

func (p *phases) words(err error, u *url.URL, limit time.Duration, answering bool) string {
	p.mu.Lock()
	connected := p.connected
	p.mu.Unlock()
	at := u.Host
	var (
		dns       *net.DNSError
		op        *net.OpError
		timeout   interface{ Timeout() bool }
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		at = "the forward proxy"
	}
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("The host name %s does not exist.", dns.Name)
	case errors.As(err, &dns):
		return fmt.Sprintf("The host name %s could not be looked up.", dns.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		switch {
		case answering:
			return fmt.Sprintf("The answer of %s did not end within %v.", at, limit)
		case connected:
			return fmt.Sprintf("No answer from %s within %v.", at, limit)
		}
		return fmt.Sprintf("No connection to %s within %v.", at, limit)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s refused the connection.", at)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("There is no route to %s.", at)
	case errors.As(err, &authority):
		return fmt.Sprintf("The certificate of %s is signed by an authority that is not trusted. If it is your own, add it as the endpoint's CA bundle.", at)
	case errors.As(err, &name):
		return fmt.Sprintf("The certificate of %s is not valid for that name.", at)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("The certificate of %s has expired or is not valid yet.", at)
	case errors.As(err, &invalid):
		return fmt.Sprintf("The certificate of %s is not valid.", at)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("%s does not speak TLS; the address may have to begin with http://.", at)
	case errors.As(err, &alert):
		return fmt.Sprintf("%s broke off the TLS handshake: %s.", at, strings.TrimPrefix(alert.Error(), "tls: "))
	case answering:
		return fmt.Sprintf("%s broke off its answer.", at)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(err.Error(), "server closed"):
		return fmt.Sprintf("%s closed the connection without an answer.", at)
	case strings.Contains(err.Error(), "malformed HTTP"):
		return fmt.Sprintf("%s did not answer in HTTP.", at)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Sprintf("The request to %s failed: %v.", at, err)
}

// answered says in words that a status is not a success.
func answered(status int) string {
	s := "The endpoint answered " + strconv.Itoa(status)
	if t := http.StatusText(status); t != "" {
		s += " " + t
	}
	if status/100 == 3 {
		s += "; redirects are not followed, so set the final address"
	}
	return s + "."
}
