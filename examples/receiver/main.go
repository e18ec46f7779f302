// Command receiver is the other end of a webhook in its shortest form: it checks the
// signature (Standard Webhooks), drops repeats by their ID and prints what came.
package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address to listen on")
	secret := flag.String("secret", "", "the webhook's signing secret, \"whsec_…\"; without it nothing is checked")
	flag.Parse()
	r := &receiver{seen: map[string]bool{}}
	if *secret != "" {
		var err error
		if r.verifier, err = standardwebhooks.NewWebhook(*secret); err != nil {
			slog.Error("the secret is not one", "err", err)
			os.Exit(2)
		}
	}
	server := &http.Server{Addr: *listen, Handler: r, ReadHeaderTimeout: 5 * time.Second}
	slog.Info("waiting for events", "at", "http://"+*listen)
	if err := server.ListenAndServe(); err != nil {
		slog.Error("listen", "err", err)
		os.Exit(1)
	}
}

type receiver struct {
	verifier *standardwebhooks.Webhook
	mu       sync.Mutex
	seen     map[string]bool // a real receiver keeps this where it keeps its data
}

// ServeHTTP answers 2xx only for what it has dealt with; anything else comes again.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, 4<<20))
	if err != nil {
		return
	}
	if r.verifier != nil {
		if err := r.verifier.Verify(body, q.Header); err != nil {
			http.Error(w, "the signature is wrong", http.StatusUnauthorized)
			return
		}
	}
	if id := q.Header.Get("webhook-id"); id != "" {
		r.mu.Lock()
		again := r.seen[id]
		r.seen[id] = true
		r.mu.Unlock()
		if again { // delivery is at least once: a repeat is thanked for and forgotten
			w.WriteHeader(http.StatusOK)
			return
		}
	}
	fmt.Printf("%s %s\n%s\n", q.Method, q.URL.Path, body)
	w.WriteHeader(http.StatusOK)
}
