package table

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/childtest"
)

func init() { children["write"] = writeAlways }

// writeAlways commits without end, and says each commit's number after SQLite has acknowledged it, with how long it took. It rests now and
// then: SQLite's locks are not fair, and who waits for one looks only ten times a second.
func writeAlways(words []string) error {
	db, err := sql.Open("sqlite", words[0])
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(), "PRAGMA busy_timeout=60000; "+words[1]); err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.ReadAll(os.Stdin)
		close(stop)
	}()
	fmt.Println("ready")
	for n := 1; ; n++ {
		select {
		case <-stop:
			return db.Close()
		default:
		}
		start := time.Now()
		if _, err := db.ExecContext(context.Background(), "INSERT INTO log VALUES (?, randomblob(abs(random() % 3000)))", n); err != nil {
			return fmt.Errorf("commit %d: %w", n, err)
		}
		fmt.Println(n, time.Since(start).Microseconds())
		if n%20 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// writer is another process that writes all the time.
type writer struct {
	path    string
	end     func()
	mu      sync.Mutex
	acked   int
	slowest time.Duration
	done    chan struct{}
}

// startWriter has another process write to log(n INTEGER PRIMARY KEY, filler BLOB).
func startWriter(t *testing.T, path, pragmas string) *writer {
	t.Helper()
	return watch(t, path, childtest.Command(t, "write", path, pragmas))
}

func watch(t *testing.T, path string, cmd *exec.Cmd) *writer {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	w := &writer{path: path, done: make(chan struct{})}
	started := make(chan struct{})
	go func() {
		defer close(w.done)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			w.line(lines.Text(), started)
		}
	}()
	var once sync.Once
	w.end = func() {
		once.Do(func() {
			_ = stdin.Close()
			<-w.done
			if err := cmd.Wait(); err != nil {
				t.Errorf("the writer: %v", err)
			}
		})
	}
	t.Cleanup(w.end)
	select {
	case <-started:
	case <-w.done:
		t.Fatal("the writer never wrote")
	}
	return w
}

func (w *writer) line(text string, started chan struct{}) {
	n, took, _ := strings.Cut(text, " ")
	number, err := strconv.Atoi(n)
	if err != nil {
		return
	}
	micro, _ := strconv.Atoi(took)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.acked = number; number == 1 {
		close(started)
	}
	w.slowest = max(w.slowest, time.Duration(micro)*time.Microsecond)
}

// count is how many commits are acknowledged, and how long the slowest took.
func (w *writer) count() (int, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked, w.slowest
}

// verify stops the writer, and demands every acknowledged commit.
func (w *writer) verify(t *testing.T) {
	t.Helper()
	w.end()
	n, _ := w.count()
	want := fmt.Sprintf("%d|%d", n, n)
	if got := shell(t, w.path, "SELECT count(*), max(n) FROM log;"); got != want {
		t.Errorf("%s of %d acknowledged commits are there", got, n)
	}
	if got := shell(t, w.path, "PRAGMA integrity_check;"); got != "ok" {
		t.Errorf("damaged: %s", got)
	}
}
