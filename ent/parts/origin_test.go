package parts_test

import (
	"testing"

	"github.com/hookyard/hookyard/ent/parts"
)

func TestOrigin(t *testing.T) {
	for address, want := range map[string]string{
		"https://App.example.com/a?b":     "https://app.example.com",
		"HTTPS://app.example.com:443":     "https://app.example.com",
		"https://app.example.com:":        "https://app.example.com",
		"http://app.example.com:443/":     "http://app.example.com:443",
		"http://[::1]:80/":                "http://[::1]",
		"https://app.example.com:8443":    "https://app.example.com:8443",
		"https://app.example.com@evil":    "",
		"https://evil\\@app.example.com":  "",
		"https://{env}.example.com":       "",
		"https://app.example.com/#there":  "",
		"ftp://app.example.com":           "",
		"//app.example.com":               "",
		"app.example.com":                 "",
		"https://":                        "",
		"https://app.example.com:notport": "",
	} {
		if got, ok := parts.Origin(address); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", address, got, ok, want)
		}
	}
}
