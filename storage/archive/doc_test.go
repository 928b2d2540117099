package archive

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The worked example in docs/format.md is the golden file.
func TestTheDocumentedExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "format.md"))
	if err != nil {
		t.Fatal(err)
	}
	golden := readTestdata(t, "users.db.zst")
	_, dump, ok := strings.Cut(string(text), "```hexdump\n")
	dump, _, closed := strings.Cut(dump, "```")
	if !ok || !closed {
		t.Fatal("no hexdump in docs/format.md")
	}
	seen := 0
	for lines := bufio.NewScanner(strings.NewReader(dump)); lines.Scan(); {
		offset, rest, _ := strings.Cut(lines.Text(), ": ")
		digits, _, _ := strings.Cut(rest, "  ")
		at, err := strconv.ParseInt(offset, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if int(at)+len(want) > len(golden) || !bytes.Equal(golden[at:][:len(want)], want) {
			t.Errorf("docs/format.md differs from the golden file: %s", lines.Text())
		}
		seen += len(want)
	}
	if seen < 100 {
		t.Errorf("only %d bytes shown", seen)
	}
}
