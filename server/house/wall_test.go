package house_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// doors are the files in which code may act as somebody else than who is asking, each with
// its reason: as the hub itself, which sees and changes everything, or as a viewer that it
// makes. Whoever adds a line opens a door in the wall.
var doors = []struct{ file, why string }{
	{"ent/viewer/viewer.go", "it is where the hub's own context is made"},
	{"graph/socket.go", "it passes on the viewer that a credential belongs to"},
	{"graph/transport.go", "it passes on the viewer that a credential belongs to"},
	{"ent/store/auditkeep.go", "retention of the audit log, in the background"},
	{"ent/store/auditlog.go", "what is written down of a change is all of it, not what its maker sees"},
	{"ent/store/auditread.go", "the numbers of an organization's log have no gaps, whoever reads it"},
	{"ent/store/hooks.go", "disabling a user ends his sessions, which nobody else sees; what belongs to an application moves with it"},
	{"ent/store/level.go", "a webhook has to fit also with what its maker does not see"},
	{"ent/store/access.go", "an organization keeps an Administrator, whoever is asking"},
	{"ent/store/granted.go", "what an identity provider gives is held against the roles as they are"},
	{"server/accounts.go", "signing in: there is no viewer yet"},
	{"server/api.go", "a receipt is read again by the hub, payload included; what the viewer gets is the events' IDs"},
	{"server/directory.go", "it makes viewers out of credentials"},
	{"server/door.go", "signing in: there is no viewer yet"},
	{"server/handshake.go", "what an address answered is the hub's own finding, whoever had it asked"},
	{"server/hub.go", "the first start makes the first organization: there is nobody yet"},
	{"server/secrets.go", "sealing all secrets with another key is the operator's"},
	{"server/sessions.go", "renewing a session: there is no viewer yet"},
	{"server/signing.go", "the keys that tokens are signed with are the hub's own"},
	{"server/sso.go", "single sign-on: there is no viewer yet"},
	{"server/trigger/http.go", "who has a trigger's address may have its project scanned, and no more"},
	{"server/trigger/start.go", "carrying a scan out is the hub's, once a viewer or a trigger has started it"},
	{"server/worlds.go", "events are routed by the configuration of the whole organization"},
}

// TestHouseDoors finds every place that acts as the hub itself or makes a viewer, and
// everything that would let a policy be skipped.
func TestHouseDoors(t *testing.T) {
	allowed, used := map[string]bool{}, map[string]bool{}
	for _, d := range doors {
		allowed[d.file] = true
	}
	for _, f := range parse(t, 0) {
		if f.test || strings.HasPrefix(f.dir, "server/servertest") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			what := ""
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					switch name := x.Name + "." + n.Sel.Name; name {
					case "viewer.SystemContext":
						what = "acts as the hub itself (" + name + ")"
					case "viewer.NewContext":
						what = "says who is asking (" + name + ")"
					case "privacy.DecisionContext":
						t.Errorf("%s skips the policies (%s); nothing may", f.at(n.Pos()), name)
					}
				}
			case *ast.CompositeLit:
				if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Viewer" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "viewer" {
						what = "makes a viewer"
					}
				}
			}
			if what != "" {
				used[f.path] = true
			}
			if what != "" && !allowed[f.path] {
				t.Errorf("%s %s: pass on the context of who is asking, or, if there is a reason, add\n\t{%q, \"the reason\"},\nto doors in server/house/wall_test.go", f.at(n.Pos()), what, f.path)
			}
			return true
		})
	}
	for _, d := range doors {
		if !used[d.file] && d.file != "ent/viewer/viewer.go" {
			t.Errorf("%s is in doors of server/house/wall_test.go and is none any more", d.file)
		}
	}
}

// TestHouseScopes sees that scopes come from two functions of ent/rule, one for the ledger and one for the audit log: their
// fields can be set in that package only, and there nothing else gives one away.
func TestHouseScopes(t *testing.T) {
	for _, f := range parse(t, 0) {
		if f.test || f.dir != "ent/rule" {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Type.Results == nil || slices.Contains([]string{"LedgerScope", "AuditScope"}, fn.Name.Name) {
				continue
			}
			for _, r := range fn.Type.Results.List {
				typ := r.Type
				if star, ok := typ.(*ast.StarExpr); ok {
					typ = star.X
				}
				if id, ok := typ.(*ast.Ident); ok && id.Name == "Scope" {
					t.Errorf("%s: %s gives a Scope; only LedgerScope and AuditScope may, which make it from a viewer", f.at(fn.Pos()), fn.Name.Name)
				}
			}
		}
	}
}

// TestHouseNamedTests sees that the tests which docs/security.md names are there.
func TestHouseNamedTests(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range parse(t, 0) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test {
				there[fn.Name.Name] = true
			}
		}
	}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z]+)").FindAllSubmatch(b, -1) {
		if name := string(m[1]); !there[name] {
			t.Errorf("docs/security.md names %s, and there is no such test", name)
		}
	}
}
