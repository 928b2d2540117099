package jobs

import (
	"encoding/json"
	"testing"
)

func TestFieldsKeepTheirOrder(t *testing.T) {
	f, err := parseFields(json.RawMessage(`{"z":1,"a":{"b":[1,2]},"z":2}`))
	if err != nil || string(f.encode()) != `{"z":2,"a":{"b":[1,2]}}` {
		t.Errorf("%s, %v", f.encode(), err)
	}
	for _, bad := range []string{`[]`, `{"a"}`, `{"a":1`, `x`} {
		if _, err := parseFields(json.RawMessage(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
