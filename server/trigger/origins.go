package trigger

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/parts"
)

// origins are where a project's scans may go: its target's own origin and those that were
// approved besides.
func origins(p *gen.Project) []string {
	list := make([]string, 0, 1+len(p.Origins))
	for _, s := range append([]string{p.TargetURL}, p.Origins...) {
		if o, ok := parts.Origin(s); ok && !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	return list
}

// approved refuses places that are not among the project's origins.
func approved(p *gen.Project, named []connectors.NamedHost) error {
	own := origins(p)
	for _, n := range named {
		if !among(own, n.Host) {
			return connectors.Refuse(http.StatusUnprocessableEntity, n.Field, "%q is not among the origins that are approved for this project: %s", n.Host, strings.Join(own, ", "))
		}
	}
	return nil
}

// forms are the places of login forms, whether or not who has read the call names them.
func forms(s connectors.ScanSetup) (named []connectors.NamedHost) {
	for _, l := range s.Logins {
		if u, err := url.Parse(l.URL); err == nil && u.Host != "" {
			named = append(named, connectors.NamedHost{Host: u.Scheme + "://" + u.Host, Field: "url of a login form"})
		}
	}
	return named
}

// among says whether a named place is one of the origins. A host alone is, when it is that
// of an origin and has the same port.
func among(origins []string, named string) bool {
	return slices.ContainsFunc(origins, func(o string) bool {
		place := named
		if !strings.Contains(named, "://") {
			scheme, _, _ := strings.Cut(o, "://")
			place = scheme + "://" + named
		}
		is, ok := parts.Origin(place)
		return ok && is == o
	})
}
