// Package ent is the storage of what people edit and read: its nouns are declared in
// schema, its walls in rule, and gen is made from them, never edited.
package ent

//go:generate go run entc.go
