package parts

import "encoding/json"

// AuditChange is one field as it was before and after a change, or one detail of an
// action, which has only an After.
type AuditChange struct {
	Field  string          `json:"field"`            // as the API has it: "eventTypes"
	Before json.RawMessage `json:"before,omitempty"` // none: it had no value
	After  json.RawMessage `json:"after,omitempty"`  // none: it has no value any more
	Hidden bool            `json:"hidden,omitempty"` // it is secret: that it changed is all that is kept
	Cut    bool            `json:"cut,omitempty"`    // a value was too long and is a text with its beginning
}

// AuditRow is a row as the audit log sees it.
type AuditRow struct {
	ID, Organization string
	Group            string // the asset group that it is in, "" the organization
	Name             string
	Fields           []AuditField
}

// AuditField is one column of a row.
type AuditField struct {
	Name   string // of the column
	Value  any
	Secret bool
}
