package agent

import "testing"

func TestParseAllow(t *testing.T) {
	for s, want := range map[string]struct {
		host string
		port int
	}{
		"Jira.corp": {"jira.corp", 0}, "jira.corp:8443": {"jira.corp", 8443}, "*.corp": {"*.corp", 0}, "*.corp:443": {"*.corp", 443},
		"10.0.0.0/8": {"10.0.0.0/8", 0}, "10.0.0.0/8:443": {"10.0.0.0/8", 443}, "10.1.2.3:80": {"10.1.2.3", 80}, "10.1.2.3": {"10.1.2.3", 0},
		"fd00::1": {"fd00::1", 0}, "[fd00::1]:443": {"fd00::1", 443}, "fd00::/8": {"fd00::/8", 0},
	} {
		if got, err := ParseAllow(s); err != nil || got.Host != want.host || got.Port != want.port || got.List != AllowSetting {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "*", "*.", "http://jira.corp", "jira.corp:0", "jira.corp:http", "jira.corp:70000", "a b", "10.0.0.0/99", "a*b"} {
		if got, err := ParseAllow(s); err == nil {
			t.Errorf("%q is allowed as %+v", s, got)
		}
	}
}
