package server

import (
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestBrokenCertificateIsToldOnce looks at the files as handshakes do, second after second.
func TestBrokenCertificateIsToldOnce(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	s.Close()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	at := time.Now()
	write := func(file string, b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(certFile, cert)
	write(keyFile, key)
	told := 0
	c, err := newCertificate(certFile, keyFile, func(error) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what   string
		change func()
		told   int
	}{
		{"as it was", func() {}, 0},
		{"a broken key", func() { write(keyFile, []byte("nonsense")) }, 1},
		{"no certificate", func() { _ = os.Remove(certFile) }, 2},
		{"mended", func() { write(certFile, cert); write(keyFile, key) }, 2},
		{"broken as before", func() { write(keyFile, []byte("nonsense")) }, 3},
	} {
		step.change()
		for range 3 {
			c.checked = time.Time{}
			if pair, err := c.get(nil); err != nil || pair == nil {
				t.Fatalf("%s: serves %v, %v", step.what, pair, err)
			}
		}
		if told != step.told {
			t.Errorf("%s: told of %d times, not %d", step.what, told, step.told)
		}
	}
}
