package dir

import (
	"encoding/json"
	"testing"
)

// FuzzRecords: whatever is in a record file, reading it does not fail, and what is read can be written and read again.
func FuzzRecords(f *testing.F) {
	for _, text := range []string{
		`{"format":1,"versions":[{"size":1,"modified":"2026-11-22T19:33:00.123456789Z","sha256":"ab","crc32c":"cd","tags":{"a":"b"}}]}`,
		`{"format":1,"versions":[{"size":-1,"modified":"9999-12-31T23:59:59Z"}]}`, `{"format":2}`, `[]`, ``, `{"format":1,"versions":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		known := parseRecords(content)
		text, err := json.Marshal(records{recordFormat, known.Versions})
		if err != nil {
			t.Skip() // a time that JSON cannot have is none that a file system gave
		}
		if again := parseRecords(text); len(again.Versions) != len(known.Versions) {
			t.Fatalf("%s is read as %d versions, then as %d", content, len(known.Versions), len(again.Versions))
		}
	})
}
