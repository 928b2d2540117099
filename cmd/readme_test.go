package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The README's commands run as they are written: the first block where the sources are (but for `make test`, which runs
// this), the others one after another in a folder with a table.
func TestREADME(t *testing.T) {
	need(t, "bash", "sqlite3")
	blocks := shellBlocks(t, "../README.md")
	if len(blocks) < 3 {
		t.Fatalf("%d blocks of commands, want at least 3", len(blocks))
	}
	program, err := binary()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, program)
	}
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	shell("PRAGMA journal_mode=WAL", rows)(t, filepath.Join(home, "data", "app.db"))
	for i, block := range blocks {
		folder := home
		if i == 0 {
			folder = ".."
			block = strings.ReplaceAll(block, "make test ", ": ")
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", block)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, block, out)
		}
	}
	if got := query(t, filepath.Join(home, "app-restored.db"), "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("the restored table: %s", got)
	}
}

// shellBlocks are the contents of the fenced blocks marked sh.
func shellBlocks(t *testing.T, path string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "```sh\n")[1:] {
		block, _, closed := strings.Cut(part, "```")
		if !closed {
			t.Fatalf("%s: a block is not closed", path)
		}
		blocks = append(blocks, block)
	}
	return blocks
}
