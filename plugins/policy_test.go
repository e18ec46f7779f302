package plugins

import (
	"errors"
	"net"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookyard/hookyard/connectors"
)

func TestAddressesThatAreClosedByDefault(t *testing.T) {
	closed := map[string][]string{
		"loopback":     {"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "::127.0.0.1"},
		"this host":    {"0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"},
		"link-local":   {"169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.1.1", "febf::1"},
		"private":      {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1", "::ffff:10.0.0.1", "fec0::1"},
		"CGNAT":        {"100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1"},
		"multicast":    {"224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"},
		"reserved":     {"240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "2001:db8::1", "100::1"},
		"metadata":     {"169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe"},
		"NAT64":        {"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "64:ff9b::808:808"},
		"6to4, Teredo": {"2002:7f00:1::1", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"},
	}
	p := mustPolicy(t, connectors.DialPolicy{})
	for kind, addresses := range closed {
		for _, a := range addresses {
			target := net.JoinHostPort(a, "443")
			var refused *connectors.PolicyError
			if err := p.at(target, target, true); !errors.As(err, &refused) || refused.Setting != OpenSetting || !strings.Contains(refused.Error(), OpenSetting) {
				t.Errorf("%s: %s is open: %v", kind, a, err)
			}
		}
	}
	for _, a := range []string{"8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"} {
		target := net.JoinHostPort(a, "443")
		if err := p.at(target, target, true); err != nil {
			t.Errorf("%s is closed: %v", a, err)
		}
	}
}

func TestAddressesThatTheOperatorOpens(t *testing.T) {
	for _, c := range []struct {
		open, address string
		ok            bool
	}{
		{"10.1.0.0/16", "10.1.2.3", true},
		{"10.1.0.0/16", "10.2.0.1", false},
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.1.2.4", false},
		{"::ffff:10.1.0.0/112", "10.1.2.3", true},
		{"10.1.0.0/16", "::ffff:10.1.2.3", true},
		{"fd00:1::/32", "fd00:1::5", true},
		{"::1", "::1", true},
		{"::1", "127.0.0.1", false},
		{"0.0.0.0/0", "169.254.169.254", true},
		{"0.0.0.0/0", "::1", false},
		{"0.0.0.0/0 ::/0", "::1", true},
		{"0.0.0.0/0 ::/0", "64:ff9b::7f00:1", true},
		{"64:ff9b::/96", "64:ff9b::808:808", true},
		{"64:ff9b::/96", "64:ff9b::7f00:1", false}, // the gateway is open, the loopback behind it is not
		{"2002::/16", "2002:a9fe:a9fe::", false},
	} {
		target := net.JoinHostPort(c.address, "80")
		err := mustPolicy(t, connectors.DialPolicy{Open: strings.Fields(c.open)}).at(target, target, true)
		if (err == nil) != c.ok {
			t.Errorf("%s opened: %s gives %v", c.open, c.address, err)
		}
	}
	if _, err := newPolicy(connectors.DialPolicy{Open: []string{"10.0.0.0/8", "office"}}); err == nil || !strings.Contains(err.Error(), `"office"`) {
		t.Errorf("a wrong CIDR: %v", err)
	}
}

func TestAllowRules(t *testing.T) {
	rules := []connectors.AllowRule{
		{Host: "Hooks.example.com", Port: 443, List: "allow list of the organization"},
		{Host: "*.example.org", List: "allow list of the group Web"},
		{Host: "198.41.0.4", Port: 8443, List: "allow list of the group Web"},
		{Host: "193.0.14.0/24", List: "allow list of the group Web"},
		{Host: "2001:500::/32"},
	}
	p := mustPolicy(t, connectors.DialPolicy{Allow: rules})
	for _, c := range []struct {
		target, address string
		ok              bool
	}{
		{"hooks.example.com:443", "8.8.8.8:443", true},
		{"HOOKS.example.com.:443", "8.8.8.8:443", true},
		{"hooks.example.com:80", "8.8.8.8:80", false},
		{"xhooks.example.com:443", "8.8.8.8:443", false},
		{"hooks.example.com.evil.net:443", "8.8.8.8:443", false},
		{"a.example.org:1", "8.8.8.8:1", true},
		{"a.b.example.org:1", "8.8.8.8:1", true},
		{"example.org:1", "8.8.8.8:1", false},
		{"evilexample.org:1", "8.8.8.8:1", false},
		{"198.41.0.4:8443", "198.41.0.4:8443", true},
		{"198.41.0.4:443", "198.41.0.4:443", false},
		{"elsewhere.net:8443", "198.41.0.4:8443", true},
		{"elsewhere.net:443", "193.0.14.129:443", true},
		{"elsewhere.net:443", "[2001:500::1]:443", true},
		{"elsewhere.net:443", "8.8.8.8:443", false},
		{"hooks.example.com:443", "10.0.0.1:443", false}, // a list opens nothing that the operator closed
	} {
		named, err := p.before(c.target)
		if err == nil {
			err = p.at(c.target, c.address, named)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s at %s: %v", c.target, c.address, err)
		}
	}
	_, err := mustPolicy(t, connectors.DialPolicy{Allow: rules[:2]}).before("elsewhere.net:443")
	var refused *connectors.PolicyError
	if !errors.As(err, &refused) || refused.Setting != "allow list of the organization, allow list of the group Web" {
		t.Errorf("the refusal names no list: %v", err)
	}
}

// Whatever form an IPv4 address takes, it is as closed as in its own.
func TestNoFormOfAnAddressOpensIt(t *testing.T) {
	p := mustPolicy(t, connectors.DialPolicy{})
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")
		plain := net.IP(b).String() + ":443"
		if p.at(plain, plain, true) == nil {
			return
		}
		mapped := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, b...)
		nat64 := append([]byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}, b...)
		sixToFour := append(append([]byte{0x20, 0x02}, b...), make([]byte, 10)...)
		for _, form := range []string{"[::ffff:" + net.IP(mapped).String() + "]:443", "[" + net.IP(nat64).String() + "]:443", "[" + net.IP(sixToFour).String() + "]:443"} {
			if err := p.at(form, form, true); err == nil {
				t.Errorf("%s is closed, %s is open", plain, form)
			}
		}
	})
}

func mustPolicy(t testing.TB, d connectors.DialPolicy) *policy {
	t.Helper()
	p, err := newPolicy(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
