package cmd

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// An operator's day at the dashboard, in a real browser against the real service: infra/admin/web/tests/operator.mjs.
func TestOperatorInABrowser(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("the browser and the service are the same with and without the race detector: runs without")
	}
	need(t, "node", "chromium", "sqlite3")
	web := "../infra/admin/web"
	if _, err := os.Stat(filepath.Join(web, "node_modules")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no node_modules: run make setup")
		}
		t.Skip("no node_modules: run make setup")
	}
	home := t.TempDir()
	data := filepath.Join(home, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	shell("PRAGMA journal_mode=WAL", rows)(t, filepath.Join(data, "orders.db"))
	base, token := startService(t, home, "--tables", data, "--bucket", "file://"+filepath.Join(home, "bucket"))
	signal := filepath.Join(home, "signal")
	go corruptWhenTold(t, signal, data)

	shots := os.Getenv("TABLEKEEPER_SCREENSHOTS")
	cmd := exec.CommandContext(t.Context(), "node", "tests/operator.mjs", base, token, signal, shots)
	cmd.Dir = web
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the operator: %v", err)
	}
}

var linkPattern = regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/#token=(\S+)`)

// startService runs serve on a free port until the test ends, and returns its address and the first token.
func startService(t *testing.T, home string, flags ...string) (base, token string) {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, program)
	}
	cmd := exec.Command(program, append(flags, "serve")...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "TABLEKEEPER_LISTEN=127.0.0.1:0")
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil && cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("serve: %v", err)
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", log.String())
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := linkPattern.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() {
				}
			}()
			return m[1], m[2]
		}
	}
	t.Fatalf("serve ended without a link to the dashboard:\n%s", log.String())
	return "", ""
}

// corruptWhenTold overwrites a page of an owned table once the file signal is there.
func corruptWhenTold(t *testing.T, signal, data string) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		if t.Context().Err() != nil {
			return
		}
		if _, err := os.Stat(signal); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	path, err := findTable(data, "thread_messages")
	if err != nil {
		t.Errorf("find the table to corrupt: %v", err)
		return
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = file.WriteAt(bytes.Repeat([]byte{0xa5}, 2000), 1500) // in the unused middle of page 1: SQLite itself would never see it
	if err := errors.Join(err, file.Close(), os.WriteFile(signal+".done", nil, 0o600)); err != nil {
		t.Error(err)
	}
}

func findTable(root, name string) (found string, err error) {
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if base := filepath.Base(path); err == nil && strings.HasPrefix(base, name+".") && filepath.Ext(base) == ".db" {
			found = path
		}
		return err
	})
	if err == nil && found == "" {
		err = fs.ErrNotExist
	}
	return found, err
}
