package parts

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/ent/viewer"
)

// AccessRule gives rights to whom an outside party says something of. It fits when the
// claim that is looked at has Value, or always when Value is Anyone.
type AccessRule struct {
	Value      string      `json:"value"`
	Role       viewer.Role `json:"role"`
	CustomRole string      `json:"customRole,omitempty"` // ID, when Role is "CUSTOM"
	AllGroups  bool        `json:"allGroups,omitempty"`
	Groups     []string    `json:"groups,omitempty"` // asset group IDs
}

// Anyone is the Value that fits everyone.
const Anyone = "*"

// Fit returns what the rules give to somebody whose claim has these values: the role of
// the first that fits, with the asset groups of all that fit and give the same role.
// ok is false when none fits.
func Fit(rules []AccessRule, values []string) (given AccessRule, ok bool) {
	for _, r := range rules {
		switch {
		case r.Value != Anyone && !slices.Contains(values, r.Value):
		case !ok:
			given, ok = r, true
			given.Groups = slices.Clone(r.Groups)
		case r.Role == given.Role && r.CustomRole == given.CustomRole:
			given.AllGroups = given.AllGroups || r.AllGroups
			given.Groups = append(given.Groups, r.Groups...)
		}
	}
	slices.Sort(given.Groups)
	given.Groups = slices.Compact(given.Groups)
	return given, ok
}

// CheckAccessRules says what is wrong with a mapping.
func CheckAccessRules(rules []AccessRule) error {
	if len(rules) > 200 {
		return errors.New("200 rules are the most")
	}
	for i, r := range rules {
		switch {
		case r.Value == "" || len(r.Value) > 1000:
			return fmt.Errorf("rule %d: the value is empty or longer than 1000 bytes", i+1)
		case !slices.Contains(viewer.Role("").Values(), string(r.Role)):
			return fmt.Errorf("rule %d: %q is not a role", i+1, r.Role)
		case (r.Role == viewer.Custom) != (r.CustomRole != ""):
			return fmt.Errorf("rule %d: the role CUSTOM and a role of the organization belong together", i+1)
		}
	}
	return nil
}

// CheckIssuer says what is wrong with an issuer's name, which is an address.
func CheckIssuer(issuer string) error {
	u, err := address(issuer)
	if err == nil && (u.RawQuery != "" || u.ForceQuery) {
		err = errors.New("it has a query")
	}
	return err
}

// CheckKeysURL says what is wrong with the address of a JWKS; there may be none.
func CheckKeysURL(s string) error {
	if s == "" {
		return nil
	}
	_, err := address(s)
	return err
}

// address reads an address that the hub may send secrets to: https, or http on the
// machine itself.
func address(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("it is not an address such as https://login.example.com")
	case u.User != nil || strings.Contains(s, "#"):
		return nil, errors.New("it has a user or a fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())):
		return nil, errors.New("it does not begin with https://")
	}
	return u, nil
}

// Loopback says whether a host is the machine itself, whose network nobody listens to.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// algorithms are those by public key: with them nobody who checks a token can make one.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// DefaultAlgorithms are those that nearly all issuers use.
func DefaultAlgorithms() []string { return []string{"RS256", "ES256", "EdDSA"} }

// CheckAlgorithms says what is wrong with a list of signature algorithms.
func CheckAlgorithms(list []string) error {
	if len(list) == 0 {
		return errors.New("name at least one")
	}
	for _, a := range list {
		if !slices.Contains(algorithms(), a) {
			return fmt.Errorf("%q is not one of %s", a, strings.Join(algorithms(), ", "))
		}
	}
	return nil
}
