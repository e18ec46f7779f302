package presence

import (
	"bytes"
	"testing"
)

// What is sealed opens for one agent and one endpoint only.
func TestSecretsAreSealedForOneAgent(t *testing.T) {
	mine, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal(mine.Public, "end_1@7", map[string]string{"token": "very secret"})
	if err != nil || bytes.Contains(sealed, []byte("very secret")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	b, err := mine.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open("end_1@7", sealed); err != nil || got["token"] != "very secret" {
		t.Errorf("opened: %v, %v", got, err)
	}
	if got, err := mine.Open("end_1@8", sealed); err == nil {
		t.Errorf("opened for another endpoint: %v", got)
	}
	if got, err := other.Open("end_1@7", sealed); err == nil {
		t.Errorf("opened by another agent: %v", got)
	}
	if AgentID(mine.Public) == AgentID(other.Public) || AgentID(mine.Public) != AgentID(again.Public) {
		t.Error("agents are not told apart by their keys")
	}
	if _, err := Seal([]byte("short"), "", nil); err == nil {
		t.Error("sealed for what is no key")
	}
}
