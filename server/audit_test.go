package server_test

import (
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// auditLog is what the hub's audit log says, the oldest first: "ACTOR from ORIGIN: ACTION NOUN NAME".
func auditLog(t *testing.T, h *program.Hub) (lines []string) {
	t.Helper()
	var is struct {
		AuditLog struct {
			Edges []struct {
				Node struct{ ActorKind, ActorName, Origin, Action, Noun, ObjectName string }
			}
		}
	}
	if err := h.Do(t.Context(), `{ auditLog(orderBy: OLDEST_FIRST, first: 200) { edges { node { actorKind actorName origin action noun objectName } } } }`, nil, &is); err != nil {
		t.Fatal(err)
	}
	for _, e := range is.AuditLog.Edges {
		n := e.Node
		lines = append(lines, strings.TrimSpace(n.ActorKind+" "+n.ActorName+" from "+n.Origin+": "+n.Action+" "+n.Noun+" "+n.ObjectName))
	}
	return lines
}

// operator is the account that runs the tests.
func operator(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// TestAuditOfARunningHub sees the first start, a change over the API and one on the
// command line in the log, each with who it was and from where.
func TestAuditOfARunningHub(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		dir := t.TempDir()
		h := startIn(t, dir, url)
		if _, err := h.CreateEndpoint(t.Context(), program.Input{"name": "crm", "connector": "webhook", "url": "https://crm.example.com/"}); err != nil {
			t.Fatal(err)
		}
		if _, err := tool(t, at(dir, url, "org", "create", "Beta", "--administrator", "beta@example.com")...); err != nil {
			t.Fatal(err)
		}
		if _, err := tool(t, at(dir, url, "org", "suspend", "Default")...); err != nil {
			t.Fatal(err)
		}
		if _, err := tool(t, at(dir, url, "org", "suspend", "Default", "--lift")...); err != nil {
			t.Fatal(err)
		}
		said, err := tool(t, at(dir, url, "user", "reset", "admin@localhost")...)
		if err != nil {
			t.Fatal(err)
		}
		h = as(h, lastLine(said))
		cli := "OPERATOR " + operator(t) + " from command line: "
		want := []string{
			"HUB hookyard from : CREATE Organization Default",
			"HUB hookyard from : CREATE User admin@localhost",
			"HUB hookyard from : CREATE APIKey first key of admin@localhost",
			"HUB hookyard from : CREATE OneTimeLink",
			"CREATE Endpoint crm",
			cli + "UPDATE Organization Default",
			cli + "UPDATE Organization Default",
			cli + "DELETE APIKey first key of admin@localhost",
			cli + "DELETE OneTimeLink",
			cli + "CREATE APIKey first key of admin@localhost",
			cli + "CREATE OneTimeLink",
		}
		got := auditLog(t, h)
		if !slices.EqualFunc(got, want, func(got, want string) bool {
			return got == want || want == "CREATE Endpoint crm" && strings.HasPrefix(got, "KEY ") && strings.HasSuffix(got, " from 127.0.0.1: "+want)
		}) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
