package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// behind believes X-Forwarded-For of trusted proxies only: the request's RemoteAddr
// becomes the last address in the chain that no trusted proxy has.
func behind(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	known := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && known(from.Addr()) {
			chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
			for i := len(chain) - 1; i >= 0; i-- {
				a, err := netip.ParseAddr(strings.TrimSpace(chain[i]))
				if err != nil {
					break
				}
				r.RemoteAddr = net.JoinHostPort(a.String(), "0")
				if !known(a) {
					break
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}
