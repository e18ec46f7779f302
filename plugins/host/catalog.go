package host

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Entry is one connector that can be run.
type Entry struct {
	Name    string // the Spec's name
	Version string // what is expected; "" takes any
	Path    string // the program, absolute
	Args    []string
	SHA256  string // hex digest of the program; needed unless File or Package is set
	// File is the program, already open, instead of Path and SHA256. It belongs to
	// the caller and must stay open as long as the supervisor runs.
	File *os.File
	// OnDemand has the first process started when there is something for it to do.
	OnDemand bool

	// A third party's connector is a package, and each organization has a process of
	// its own for it.
	Package      *Package
	Organization string
	Released     time.Time         // when somebody last let it out of quarantine
	Redact       *strings.Replacer // takes the organization's secrets out of its log; nil: there are none
	// Dial is the address policy of what the manifest asks for as egress, at each dial; nil:
	// public addresses.
	Dial func() connectors.DialPolicy
}

// Key is what the entry's process is called: see Key.
func (e *Entry) Key() string {
	if e.Package == nil {
		return e.Name
	}
	return Key(e.Name, e.Package.Digest, e.Organization)
}

// Key is the name under which deliveries are handed to a connector's process: that of a
// shipped connector is the connector's; a third party's has one for each of its packages
// and organizations.
func Key(name, digest, organization string) string {
	return name + "@" + digest + "/" + organization
}

// Shipped returns the entries of connectors that are this very program, started
// again as "<program> plugin <name>". Close self when the supervisor is closed.
func Shipped(names ...string) (entries []Entry, self *os.File, err error) {
	self, err = os.Open("/proc/self/exe")
	if err != nil {
		return nil, nil, fmt.Errorf("open this program to run its connectors: %w", err)
	}
	for _, n := range names {
		entries = append(entries, Entry{Name: n, Path: os.Args[0], File: self, Args: []string{"plugin", n}})
	}
	return entries, self, nil
}
