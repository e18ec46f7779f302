package viewer

import (
	"context"
	"strings"
)

// CommandLine is the origin of what an operator does on the machine itself.
const CommandLine = "command line"

// ActorKind says what kind of actor somebody is.
type ActorKind string

// The kinds of actors.
const (
	ActorUser     ActorKind = "USER"
	ActorKey      ActorKind = "KEY"
	ActorOutsider ActorKind = "OUTSIDER" // whom a trusted issuer vouches for, and who is no user
	ActorOperator ActorKind = "OPERATOR" // a person with access to the machine
	ActorHub      ActorKind = "HUB"      // the hub by itself
	ActorTrigger  ActorKind = "TRIGGER"  // whoever has a trigger's address
	ActorNobody   ActorKind = "NOBODY"   // somebody who is not signed in
)

// OperatorContext returns a context in which a person with access to the machine is
// asking, for all organizations. name is that of the person's account there, "" not known.
func OperatorContext(ctx context.Context, name string) context.Context {
	return WithOrigin(NewContext(ctx, &Viewer{Name: name, system: true, operator: true}), CommandLine)
}

// Actor is who answers for what v does: for the hub, whoever it asks on behalf of.
func (v *Viewer) Actor() *Viewer {
	if v != nil && v.behalf != nil {
		return v.behalf
	}
	return v
}

// Kind is what kind of actor v is.
func (v *Viewer) Kind() ActorKind {
	switch {
	case v == nil:
		return ActorNobody
	case v.operator:
		return ActorOperator
	case v.system:
		return ActorHub
	case strings.HasPrefix(v.ID, "key_"), v.Agent():
		return ActorKey
	case strings.HasPrefix(v.ID, "out_"):
		return ActorOutsider
	case strings.HasPrefix(v.ID, "trg_"):
		return ActorTrigger
	}
	return ActorUser
}
