// Package parts holds the values that rows store as JSON.
//
// Place: a leaf of the storage; its JSON is a format on disk, so a field is only
// ever added. The mapping is also that of server/flow, word for word.
package parts

// Mapping finds the application of an event: the first rule that fits, else the
// receiver's default field by name, else Default, else a new application when Create.
type Mapping struct {
	Rules   []MappingRule `json:"rules,omitempty"`
	Default string        `json:"default,omitempty"` // application ID
	Create  bool          `json:"create,omitempty"`
}

// MappingRule fits when the field's value equals Equals or matches the pattern
// Matches (a shell pattern, "*" and "?").
type MappingRule struct {
	Field       string `json:"field"`
	Equals      string `json:"equals,omitempty"`
	Matches     string `json:"matches,omitempty"`
	Application string `json:"application"` // application ID
}

// EndpointHeader is one extra request header of an endpoint. A secret one has no
// Value here: it is sealed in the endpoint's secrets under the name "header:<Name>".
type EndpointHeader struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Secret bool   `json:"secret,omitempty"`
}
