package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestForwardedForIsBelievedOfTrustedProxies(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for what, test := range map[string]struct {
		from string
		said []string
		want string
	}{
		"nobody said":                {"10.0.0.1:5", nil, "10.0.0.1:5"},
		"a stranger said":            {"203.0.113.9:5", []string{"198.51.100.1"}, "203.0.113.9:5"},
		"a proxy said":               {"10.0.0.1:5", []string{"198.51.100.1"}, "198.51.100.1:0"},
		"a proxy said of two":        {"10.0.0.1:5", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1:0"},
		"a sender lied to the proxy": {"10.0.0.1:5", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1:0"},
		"in two headers":             {"10.0.0.1:5", []string{"127.0.0.1", "198.51.100.1, 10.0.0.2"}, "198.51.100.1:0"},
		"only proxies":               {"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0"},
		"no address":                 {"10.0.0.1:5", []string{"unknown"}, "10.0.0.1:5"},
		"no address behind one":      {"10.0.0.1:5", []string{"198.51.100.1, unknown, 10.0.0.2"}, "10.0.0.2:0"},
		"IPv6":                       {"[fd00::1]:5", []string{"2001:db8::1"}, "[2001:db8::1]:0"},
		"IPv4 in IPv6 clothes":       {"[::ffff:10.0.0.1]:5", []string{"198.51.100.1"}, "198.51.100.1:0"},
	} {
		var got string
		h := behind(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = test.from
		for _, s := range test.said {
			r.Header.Add("X-Forwarded-For", s)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != test.want {
			t.Errorf("%s: taken for %s, want %s", what, got, test.want)
		}
	}
}
