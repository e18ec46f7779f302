package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificate serves a certificate from files and reads them again when they change, so
// that a renewed one needs no restart. A broken pair leaves the old one in use.
type certificate struct {
	certFile, keyFile string
	failed            func(error)

	mu      sync.Mutex
	pair    *tls.Certificate
	stamp   [2]time.Time
	checked time.Time
	broken  string // why the files as they are do not serve; "" they do
}

// newCertificate reads the pair once, so that a wrong one is found at start.
func newCertificate(certFile, keyFile string, failed func(error)) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, failed: failed}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) load() error {
	stamp, err := c.stamps()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read the certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}
	c.pair, c.stamp = &pair, stamp
	return nil
}

func (c *certificate) stamps() (s [2]time.Time, err error) {
	for i, f := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(f)
		if err != nil {
			return s, fmt.Errorf("look at the TLS file: %w", err)
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

// get is for tls.Config.GetCertificate. It looks at the files at most once a second.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= time.Second {
		c.checked = now
		stamp, err := c.stamps()
		if err == nil && stamp != c.stamp {
			err = c.load()
		}
		was := c.broken
		if c.broken = ""; err != nil {
			c.broken = err.Error()
		}
		if err != nil && c.broken != was { // said once, not each second
			c.failed(err)
		}
	}
	return c.pair, nil
}
