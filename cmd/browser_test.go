package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/needtest"
)

// An operator's day at the dashboard, in a real browser against the real service: infra/admin/web/tests/operator.mjs. With
// TABLEKEEPER_SCREENSHOTS=FOLDER it leaves there how the pages look; `make screenshots` makes those of the README again.
func TestOperatorInABrowser(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("the browser and the service are the same with and without the race detector: runs without")
	}
	need(t, "node", "chromium", "sqlite3")
	web := "../infra/admin/web"
	if _, err := os.Stat(filepath.Join(web, "node_modules")); err != nil {
		needtest.Missing(t, fmt.Errorf("%w: run make setup", err))
	}
	s := newStage(t)
	shots := os.Getenv("TABLEKEEPER_SCREENSHOTS")
	if shots != "" {
		var err error
		if shots, err = filepath.Abs(shots); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "node", "tests/operator.mjs", s.service.base, s.service.token, s.URL, shots)
	cmd.Dir = web
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the operator: %v", err)
	}
}

// stage is the world around the browser, which its script changes by HTTP: POST /corrupt, /stop, ...
type stage struct {
	*httptest.Server
	t       *testing.T
	home    string
	service *service
	push    *pushService
	writer  *writer // holds the table orders; nil: nobody does
	viewers int
}

const stageConfig = `tables: [data]
bucket: bucket
alerts:
  push:
    contact: mailto:ops@example.org
`

// newStage starts a service with the nine tables and one that others use, half of it free. Push messages may not go to this machine yet.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, home: t.TempDir(), push: newPushService(t)}
	if err := os.Mkdir(filepath.Join(s.home, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	shell("PRAGMA journal_mode=WAL", rows)(t, s.orders())
	s.configure("")
	s.service = startService(t, s.home)
	s.service.settle()
	mux := http.NewServeMux()
	for name, act := range map[string]func(*http.Request) (string, error){
		"corrupt": s.corrupt, "hold": s.hold, "release": s.release, "stop": s.stop, "start": s.start, "upgrade": s.upgrade, "work": s.work, "fill": s.fill,
		"allow-push": s.allowPush, "viewer": s.viewer, "revoke": s.revoke, "pushed": s.pushed, "end-subscription": s.push.end, "asked": s.push.asked, "vapid-key": s.push.vapidKey,
	} {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			text, err := act(r)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				text = err.Error()
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = io.WriteString(w, text) // the script may have ended
		})
	}
	mux.HandleFunc("GET /subscription", s.push.subscription)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		if s.writer != nil {
			if err := s.writer.end(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *stage) orders() string { return filepath.Join(s.home, "data", "orders.db") }

func (s *stage) configure(more string) {
	if err := os.WriteFile(filepath.Join(s.home, "tablekeeper.yaml"), []byte(stageConfig+more), 0o600); err != nil {
		s.t.Error(err)
	}
}

// corrupt overwrites the unused middle of page 1 of an owned table: SQLite itself would never see it.
func (s *stage) corrupt(*http.Request) (string, error) {
	path, err := findTable(filepath.Join(s.home, "data"), "thread_messages")
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	_, err = file.WriteAt(bytes.Repeat([]byte{0xa5}, 2000), 1500)
	return "", errors.Join(err, file.Close())
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

// fill makes half of the pages of orders free once more.
func (s *stage) fill(*http.Request) (string, error) {
	out, err := exec.CommandContext(s.t.Context(), "sqlite3", "-bail", "-cmd", ".timeout 120000", s.orders(),
		"INSERT INTO t (s, b) SELECT 'more '||value, randomblob(900) FROM generate_series(1,4000); DELETE FROM t WHERE s LIKE 'more %'; PRAGMA wal_checkpoint").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return "", err
}

// hold lets another program begin to write orders, and not end.
func (s *stage) hold(*http.Request) (string, error) {
	w, err := beginWriting(context.WithoutCancel(s.t.Context()), s.orders()) // it may end in a cleanup
	s.writer = w
	return "", err
}

func (s *stage) release(*http.Request) (string, error) {
	err := s.writer.end()
	s.writer = nil
	return "", err
}

func (s *stage) stop(*http.Request) (string, error)  { return "", s.service.stop() }
func (s *stage) start(*http.Request) (string, error) { return "", s.service.start() }

// work lets somebody back up by the command while the service is down.
func (s *stage) work(*http.Request) (string, error) { return s.command("backup", "--all", "--force") }

// upgrade is another version of the program at the same address.
func (s *stage) upgrade(*http.Request) (string, error) {
	program := filepath.Join(s.home, "upgraded")
	if out, err := exec.CommandContext(s.t.Context(), "go", "build", "-ldflags", "-X main.version=v99.0.0", "-o", program, "./tablekeeper").CombinedOutput(); err != nil {
		return string(out), fmt.Errorf("%w: %s", err, out)
	}
	err := s.service.stop()
	s.service.program = program
	return "", errors.Join(err, s.service.start())
}

func (s *stage) allowPush(*http.Request) (string, error) {
	err := s.service.stop()
	s.configure("    allow_private: true\n")
	return "", errors.Join(err, s.service.start())
}

// viewer makes a token that only looks.
func (s *stage) viewer(*http.Request) (string, error) {
	s.viewers++
	out, err := s.command("token", "add", fmt.Sprintf("viewer-%d", s.viewers), "--role", "viewer")
	return tokenPattern.FindString(out), err
}

// revoke takes the operator's token away while nobody can be told of it.
func (s *stage) revoke(*http.Request) (string, error) {
	err := s.service.stop()
	_, revokeErr := s.command("token", "revoke", "operator")
	return "", errors.Join(err, revokeErr, s.service.start())
}

func (s *stage) command(args ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), s.service.program, args...)
	cmd.Dir = s.home
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// pushed waits for a push message whose title has the text of the body in it, and gives what it says.
func (s *stage) pushed(r *http.Request) (string, error) {
	title, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	for {
		select {
		case m := <-s.push.messages:
			if strings.Contains(m.Title, string(title)) {
				return m.text, nil
			}
		case <-r.Context().Done():
			return "", fmt.Errorf("no push message about %q came", title)
		}
	}
}

// writer is another program in the middle of a transaction.
type writer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// beginWriting returns once the transaction has the write lock.
func beginWriting(ctx context.Context, path string) (*writer, error) {
	w := &writer{cmd: exec.CommandContext(ctx, "sqlite3", "-bail", path)}
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w.in, ".timeout 20000\nBEGIN IMMEDIATE;\nSELECT 'h';\n"); err != nil {
		return w, err
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	return w, err
}

func (w *writer) end() error {
	_, err := io.WriteString(w.in, "ROLLBACK;\n")
	return errors.Join(err, w.in.Close(), w.cmd.Wait())
}
