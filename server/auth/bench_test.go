package auth_test

import (
	"testing"

	"github.com/hookyard/hookyard/server/auth"
)

// BenchmarkPassword is what one look at a password costs.
func BenchmarkPassword(b *testing.B) {
	p := auth.NewPasswords(auth.DefaultEffort())
	phc, err := p.Hash(b.Context(), "correct horse battery staple")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, _, err := p.Verify(b.Context(), "correct horse battery staple", phc); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
