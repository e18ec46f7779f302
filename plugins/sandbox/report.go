package sandbox

// Report is what holds on this system.
type Report struct {
	Parts []Part
}

// Part is one thing that the sandbox does.
type Part struct {
	Name   string // one word, for metrics
	Active bool
	Needed bool   // third parties' connectors are not run without it, unless the operator says so
	How    string // by what; or why it is not there, and what would help
}

// Missing says what is needed and not there.
func (r Report) Missing() (why []string) {
	for _, p := range r.Parts {
		if p.Needed && !p.Active {
			why = append(why, p.How)
		}
	}
	return why
}

// Look says what a hub would find that this user starts on this machine, but for control
// groups: whether there are any is known to the hub alone, which may have to move for them.
func Look() Report { return offered().report() }

// Report says what holds on this system for a third party's process.
func (b *Box) Report() Report { return b.parts.report() }
