package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/builtin"
)

// sendCmd sends what a vendor sends.
type sendCmd struct {
	As     string        `help:"Vendor whose request to send: appscan, apviso, crashtest, holm or veracode-sca." required:"" placeholder:"VENDOR"`
	Event  string        `arg:"" optional:"" help:"What to send, by the vendor's name of it; leave it out for a list."`
	To     string        `help:"Address to send to: that of a source, a trigger or any receiver." placeholder:"URL"`
	Secret string        `help:"Secret to sign with, where the vendor signs." placeholder:"TEXT" env:"HOOKYARD_SEND_SECRET"`
	Data   string        `help:"File to send in place of the sample's body (AppScan: in place of its ID); - is standard input." placeholder:"FILE"`
	Limit  time.Duration `help:"How long to wait for the answer." default:"30s"`
}

// Run sends one request and prints the answer. Any answer but 2xx is an error.
func (c *sendCmd) Run(ctx context.Context) error {
	vendor, err := mimic(c.As)
	if err != nil {
		return err
	}
	if c.Event == "" {
		_, err := fmt.Println(strings.Join(vendor.Samples(), "\n"))
		return err
	}
	if c.To == "" {
		return errors.New("--to is missing: name the address to send to")
	}
	m := connectors.Mimicry{URL: c.To}
	if c.Secret != "" {
		m.Secret = []byte(c.Secret)
	}
	if c.Data != "" {
		if m.Body, err = content(c.Data); err != nil {
			return err
		}
	}
	r, err := vendor.Sample(c.Event, m)
	if err != nil {
		return fmt.Errorf("%w; there are %s", err, strings.Join(vendor.Samples(), ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	return send(ctx, r)
}

// mimic finds the connector that writes a vendor's requests.
func mimic(name string) (connectors.Mimic, error) {
	var names []string
	for _, c := range builtin.Connectors() {
		if m, ok := c.(connectors.Mimic); ok {
			if names = append(names, c.Spec().Name); c.Spec().Name == name {
				return m, nil
			}
		}
	}
	return nil, fmt.Errorf("--as %q is none of %s", name, strings.Join(names, ", "))
}

func content(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(file)
}

// send makes the request, header by header as it is written.
func send(ctx context.Context, r connectors.Request) error {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return err
	}
	req.Header["User-Agent"] = []string{"Hookyard/" + buildVersion()}
	for _, h := range r.Header {
		req.Header[h.Name] = []string{h.Value}
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Println(resp.Status)
	if _, err := io.Copy(os.Stdout, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s was answered %s", r.Method, r.URL, resp.Status)
	}
	return nil
}
