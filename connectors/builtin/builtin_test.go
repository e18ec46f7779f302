package builtin

import (
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

func TestNamesAreUnique(t *testing.T) {
	set, err := connectors.NewSet(Connectors())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hookyard", "holm", "cloudevents", "raw", "slack", "teams"} {
		if _, ok := set.Format(name); !ok {
			t.Errorf("there is no format %q", name)
		}
	}
	for _, kind := range []string{"holm", "cloudevents"} {
		if _, ok := set.Receiver(kind); !ok {
			t.Errorf("there is no receiver %q", kind)
		}
	}
}
