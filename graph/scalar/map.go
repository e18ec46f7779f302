package scalar

import (
	"github.com/99designs/gqlgen/graphql"
)

// MarshalMap writes a JSON object.
func MarshalMap(m map[string]any) graphql.Marshaler { return graphql.MarshalMap(m) }

// UnmarshalMap reads a JSON object. An empty list in the text of a query comes as nil,
// which would be written as null.
func UnmarshalMap(v any) (map[string]any, error) {
	m, err := graphql.UnmarshalMap(v)
	if err != nil {
		return nil, err
	}
	for k, v := range m {
		m[k] = withLists(v)
	}
	return m, nil
}

func withLists(v any) any {
	switch v := v.(type) {
	case []any:
		if v == nil {
			return []any{}
		}
		for i := range v {
			v[i] = withLists(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withLists(v[k])
		}
	}
	return v
}
