package ingest

import (
	"path"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// application finds where an item belongs: the first rule that fits, else the vendor's
// own key or name for it, else the source's default, else a new application. fresh is not
// nil when the application must be made. The zero Application is "unmapped".
//
// What a sender calls an application is never enough to leave the source's asset group:
// only a rule or the default, which people chose who may see it, leads to another one.
func (p *Place) application(src *flow.Source, item *connectors.Incoming) (a flow.Application, fresh *flow.Application) {
	if id, ok := item.Fields[fieldApplication]; ok {
		return p.World.Applications[id], nil
	}
	m := &src.Mapping
	for i := range m.Rules {
		if r := &m.Rules[i]; fits(r, item.Fields) {
			if a, ok := p.World.Applications[r.Application]; ok {
				return a, nil
			}
		}
	}
	name, key := item.Fields[item.DefaultField], ""
	called := [2]string{p.byKey[name]}
	if item.NameField != "" {
		key, name = name, item.Fields[item.NameField]
	}
	called[1] = p.byName[name]
	taken := false
	for _, id := range called {
		a, ok := p.World.Applications[id]
		if ok && (src.Group == "" || a.Group == src.Group) {
			return a, nil
		}
		taken = taken || ok
	}
	if a, ok := p.World.Applications[m.Default]; ok {
		return a, nil
	}
	if name != "" && !taken && m.Create && src.Group != "" && len(name) <= maxName {
		a := flow.Application{ID: ids.Of(ids.Application, p.World.Organization.ID, name), Name: name, Group: src.Group, Key: key}
		return a, &a
	}
	return flow.Application{}, nil
}

// maxName is the longest name, in bytes, that an application may get from a source.
const maxName = 200

func fits(r *flow.MappingRule, fields map[string]string) bool {
	v, ok := fields[r.Field]
	if !ok {
		return false
	}
	if r.Matches != "" {
		match, err := path.Match(r.Matches, v)
		return err == nil && match
	}
	return v == r.Equals
}
