package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// selfSigned makes a certificate for 127.0.0.1 with a serial number.
func selfSigned(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "hub"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestTLS replaces the files of a running hub, with good ones and with broken ones.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	put := func(cert, key []byte) {
		t.Helper()
		for file, b := range map[string][]byte{certFile: cert, keyFile: key} {
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(selfSigned(t, 1))
	log := &lockedBuffer{}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	insecure := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test looks at the certificate itself
	h, err := program.Start(t.Context(), program.Config{Binary: path, Dir: filepath.Join(dir, "data"), Log: log,
		Args:  []string{"--tls-cert", certFile, "--tls-key", keyFile},
		HTTPS: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: insecure, ForceAttemptHTTP2: true}}})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	serial := func() int64 {
		c, err := tls.Dial("tcp", h.URL[len("https://"):], insecure)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("serves certificate %d", n)
	}
	if c := code(t, h); c != "" {
		t.Errorf("over TLS: %s", c)
	}
	put(selfSigned(t, 2))
	until(t, 5*time.Second, "the new certificate is served", func() bool { return serial() == 2 })
	_, otherKey := selfSigned(t, 3)
	cert, _ := selfSigned(t, 3)
	put(cert, otherKey)
	until(t, 5*time.Second, "the hub finds the pair broken", func() bool {
		if n := serial(); n != 2 {
			t.Fatalf("serves certificate %d", n)
		}
		return bytes.Contains([]byte(log.String()), []byte("the old certificate stays"))
	})
	put(selfSigned(t, 4))
	until(t, 5*time.Second, "the mended pair is served", func() bool { return serial() == 4 })
}
