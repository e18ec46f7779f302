package graph

import (
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

func version(v, digest string, nodes ...string) flow.Package {
	return flow.Package{Spec: connectors.Spec{Name: "radar", Version: v}, Digest: digest, Nodes: nodes}
}

// What nobody has asked for by name is a release, if a node has one.
func TestTheNewestReleaseIsChosen(t *testing.T) {
	for what, c := range map[string]struct {
		list            []flow.Package // the newest first
		version, digest string
		want            string // digest; or what the refusal says
	}{
		"a release before newer pre-releases": {[]flow.Package{version("3.0.0-rc.2", "c", "one"), version("3.0.0-rc.1", "b", "one"), version("2.9.0", "a", "one")}, "", "", "a"},
		"a release before its pre-releases":   {[]flow.Package{version("3.0.0", "b", "one"), version("3.0.0-rc.1", "a", "one")}, "", "", "b"},
		"build metadata is no pre-release":    {[]flow.Package{version("3.0.0+build-7", "b", "one"), version("2.0.0", "a", "one")}, "", "", "b"},
		"a release that no node has":          {[]flow.Package{version("3.0.0-rc.1", "b", "one"), version("2.0.0", "a")}, "", "", "b"},
		"there are pre-releases only":         {[]flow.Package{version("3.0.0-rc.2", "b", "one"), version("3.0.0-rc.1", "a", "one")}, "", "", "b"},
		"a pre-release by its name":           {[]flow.Package{version("3.0.0-rc.1", "b", "one"), version("2.0.0", "a", "one")}, "3.0.0-rc.1", "", "b"},
		"a pre-release by its digest":         {[]flow.Package{version("3.0.0-rc.1", "b", "one"), version("2.0.0", "a", "one")}, "", "b", "b"},
		"two of the newest release":           {[]flow.Package{version("3.0.0-rc.1", "c", "one"), version("2.0.0", "b", "one"), version("2.0.0", "a", "two")}, "", "", "version 2.0.0 of radar with different content"},
		"none":                                {[]flow.Package{version("2.0.0", "a")}, "", "", "No running node"},
	} {
		p, err := choose(c.list, "radar", c.version, c.digest)
		switch {
		case err == nil && p.Digest != c.want, err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %+v, %v; want %s", what, p, err, c.want)
		}
	}
}
