package plugins

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"code.dny.dev/ssrf"

	"github.com/hookyard/hookyard/connectors"
)

// OpenSetting is the setting that a refusal names when an address is closed that only
// the operator can open.
const OpenSetting = "--allow-private-targets"

// policy is a DialPolicy made ready: which addresses may be dialled. It is immutable.
type policy struct {
	guard *ssrf.Guardian
	rules []rule
	lists string // the settings that hold the rules, for refusals
}

// rule is an AllowRule: either a name or a prefix.
type rule struct {
	name   string // lower case, no dot at the end; "*.example.com" fits everything below
	prefix netip.Prefix
	port   uint16
}

func newPolicy(p connectors.DialPolicy) (*policy, error) {
	var v4, v6 []netip.Prefix
	for _, s := range p.Open {
		prefix, err := parsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("read the opened addresses: %w", err)
		}
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	c := &policy{guard: ssrf.New(ssrf.WithAnyNetwork(), ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
	var lists []string
	for _, a := range p.Allow {
		if a.Port < 0 || a.Port > 65535 {
			return nil, fmt.Errorf("read the list %q: %d is not a port", a.List, a.Port)
		}
		r := rule{port: uint16(a.Port)}
		if prefix, err := parsePrefix(a.Host); err == nil {
			r.prefix = prefix
		} else {
			r.name = canonicalName(a.Host)
		}
		c.rules = append(c.rules, r)
		if a.List != "" && !slices.Contains(lists, a.List) {
			lists = append(lists, a.List)
		}
	}
	c.lists = strings.Join(lists, ", ")
	return c, nil
}

// parsePrefix reads a CIDR or a single address. IPv4 in IPv6 clothes is IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR", s)
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func canonicalName(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }

func (r *rule) fitsName(name string) bool {
	if suffix, ok := strings.CutPrefix(r.name, "*"); ok && strings.HasPrefix(suffix, ".") {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	return r.name != "" && r.name == name
}

// before looks at "host:port" before its name is resolved. named is true when a
// rule fits the name, so that the address needs no rule of its own.
func (p *policy) before(target string) (named bool, err error) {
	host, portText, err := net.SplitHostPort(target)
	if err != nil {
		return false, fmt.Errorf("read the address %q: %w", target, err)
	}
	if len(p.rules) == 0 {
		return true, nil
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return false, fmt.Errorf("read the address %q: %q is not a port", target, portText)
	}
	name, addressRules := canonicalName(host), false
	for i := range p.rules {
		r := &p.rules[i]
		if r.port != 0 && r.port != uint16(port) {
			continue
		}
		if r.fitsName(name) {
			return true, nil
		}
		addressRules = addressRules || r.prefix.IsValid()
	}
	if !addressRules {
		return false, p.unlisted(target)
	}
	return false, nil
}

// at looks at the address that is about to be dialled on behalf of target.
func (p *policy) at(target, address string, named bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address %q: %w", address, err)
	}
	// A zone (fe80::1%eth0) belongs to the link, not to the question.
	ip := ap.Addr().Unmap().WithZone("")
	if target != address {
		target += " (" + ip.String() + ")"
	}
	if err := p.open(ip); err != nil {
		return &connectors.PolicyError{Target: target, Reason: err.Error(), Setting: OpenSetting}
	}
	if named {
		return nil
	}
	for i := range p.rules {
		if r := &p.rules[i]; (r.port == 0 || r.port == ap.Port()) && r.prefix.IsValid() && r.prefix.Contains(ip) {
			return nil
		}
	}
	return p.unlisted(target)
}

func (p *policy) open(ip netip.Addr) error {
	err := p.guard.SafeAddr(ip)
	if inner, ok := embedded(ip); err == nil && ok {
		err = p.guard.SafeAddr(inner) // an opened gateway prefix opens no private address behind it
	}
	if errors.Is(err, ssrf.ErrProhibitedIP) {
		return errors.New("it is not a public address")
	}
	return err
}

func (p *policy) unlisted(target string) error {
	return &connectors.PolicyError{Target: target, Reason: "no rule of the allow list fits it", Setting: p.lists}
}

// embedded is the IPv4 address that a gateway would make of a NAT64 or 6to4 address.
func embedded(ip netip.Addr) (netip.Addr, bool) {
	b := ip.As16()
	switch {
	case !ip.Is6():
	case ssrf.IPv6NAT64Prefix.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
