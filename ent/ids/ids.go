// Package ids makes the global IDs of every noun: a prefix that names the noun, an
// underscore, and 26 lower-case characters of Crockford base32.
//
// New IDs are ULIDs: time-ordered to the millisecond and, within this process,
// strictly increasing. Bytewise order (COLLATE "C") is time order, which the
// ledger's keys and partitions rely on. Of derives an ID from a natural key, so that
// the same outside object has the same ID on every node without a look-up.
package ids

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// The prefixes, one per noun.
const (
	Organization     = "org"
	AssetGroup       = "grp"
	Application      = "app"
	User             = "usr"
	APIKey           = "key"
	CustomRole       = "rol"
	SigningKey       = "sgn"
	Source           = "src"
	Endpoint         = "end"
	Webhook          = "whk"
	Scan             = "scn"
	Finding          = "fnd"
	Ticket           = "tkt"
	Report           = "rpt"
	Receipt          = "rct"
	Event            = "evt"
	Delivery         = "dlv"
	Attempt          = "att"
	Node             = "nod"
	AuditEntry       = "aud"
	Session          = "ses"
	OneTimeLink      = "lnk"
	IdentityProvider = "idp"
	Identity         = "idn"
	TrustedIssuer    = "tri"
	EnabledConnector = "con"
	Outsider         = "out"
	Project          = "prj"
	Trigger          = "trg"
	Run              = "run"
	Presence         = "prs"
)

// PrefixOf is the prefix of a noun as ent names its type ("APIKey"), "" for any other.
func PrefixOf(noun string) string {
	switch noun {
	case "Organization":
		return Organization
	case "AssetGroup":
		return AssetGroup
	case "Application":
		return Application
	case "User":
		return User
	case "APIKey":
		return APIKey
	case "CustomRole":
		return CustomRole
	case "SigningKey":
		return SigningKey
	case "IdentityProvider":
		return IdentityProvider
	case "Identity":
		return Identity
	case "TrustedIssuer":
		return TrustedIssuer
	case "EnabledConnector":
		return EnabledConnector
	case "Source":
		return Source
	case "Endpoint":
		return Endpoint
	case "Webhook":
		return Webhook
	case "Scan":
		return Scan
	case "Finding":
		return Finding
	case "Ticket":
		return Ticket
	case "Report":
		return Report
	case "AuditEntry":
		return AuditEntry
	case "Presence":
		return Presence
	case "Session":
		return Session
	case "OneTimeLink":
		return OneTimeLink
	case "Project":
		return Project
	case "Trigger":
		return Trigger
	case "Run":
		return Run
	}
	return ""
}

// Maker makes IDs. The zero value is not usable, see NewMaker.
type Maker struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
	now     func() time.Time
	last    uint64
}

// NewMaker returns a maker that reads the time from now. It never goes backwards:
// when the clock does, it stays at the last millisecond.
func NewMaker(now func() time.Time) *Maker {
	return &Maker{entropy: ulid.Monotonic(rand.Reader, 0), now: now}
}

// New returns "prefix_" and a new ULID.
func (m *Maker) New(prefix string) string {
	m.mu.Lock()
	ms := max(ulid.Timestamp(m.now()), m.last)
	id, err := ulid.New(ms, m.entropy)
	for err != nil { // the entropy of this millisecond is used up
		ms++
		id, err = ulid.New(ms, m.entropy)
	}
	m.last = ms
	m.mu.Unlock()
	return join(prefix, id)
}

func join(prefix string, id ulid.ULID) string {
	var b [26]byte
	_ = id.MarshalTextTo(b[:])
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return prefix + "_" + string(b[:])
}

// Of returns the ID that belongs to a natural key; equal parts give equal IDs.
func Of(prefix string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = io.WriteString(h, p)
		_, _ = h.Write([]byte{0})
	}
	var id ulid.ULID
	copy(id[:], h.Sum(nil))
	id[0] &= 0x7f
	return join(prefix, id)
}

// Prefix returns what stands before the underscore, "" when there is none.
func Prefix(id string) string {
	p, _, ok := strings.Cut(id, "_")
	if !ok {
		return ""
	}
	return p
}

// Floor is the smallest ID that New can have made at or after t.
func Floor(prefix string, t time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(t))
	return join(prefix, id)
}

// Time is when New made the ID, to the millisecond; ok is false for anything that
// is not such an ID. For an ID made by Of it is meaningless.
func Time(id string) (t time.Time, ok bool) {
	_, s, found := strings.Cut(id, "_")
	if !found {
		return time.Time{}, false
	}
	u, err := ulid.Parse(s)
	if err != nil {
		return time.Time{}, false
	}
	return ulid.Time(u.Time()).UTC(), true
}
