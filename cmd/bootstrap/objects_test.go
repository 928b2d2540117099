package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/disktest"
)

// sparse is a table of which three quarters are free.
func (w *world) sparse(name string, rows int) (content string) {
	w.T.Helper()
	w.Make(name, rows)
	w.Exec(name, "DELETE FROM items WHERE id % 4 > 0")
	w.upload(name)
	return w.Rows(w.Path(name))
}

// TestTwoWorkersOnOneTable: whoever stores first wins, the other begins anew with what it finds, and a write that came between is not
// lost.
func TestTwoWorkersOnOneTable(t *testing.T) {
	stores(t, func(t *testing.T, w *world, g *gate) {
		w.sparse("app", 300)
		var once sync.Once
		g.hook(func(r *http.Request) int {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/app.db") {
				once.Do(func() { // a user of the table is faster
					w.Exec("app", "INSERT INTO items (label, body) VALUES ('between', x'00')")
					w.upload("app")
				})
			}
			return 0
		})
		comp := w.function("compact")
		if e := entryOf(t, comp.must("1", `{"tables":["app"],"force":true}`), 0); e.Status != functions.Compacted {
			t.Errorf("%+v", e)
		}
		want := w.Rows(w.Path("app"))
		if got := w.Rows(w.download("app")); got != want {
			t.Error("the write that came between is lost")
		}
		if n := g.requests("PUT", "/tables/app.db"); n < 2 {
			t.Errorf("%d attempts to store", n)
		}
		// Both at once, each held until the other wants to store too.
		g.hook(rendezvous(2, "/app.db"))
		other := w.function("compact")
		answers := make(chan answer, 2)
		for i, h := range []*lambdaHost{comp, other} {
			go func() {
				a, _ := h.invoke("both "+string(rune('a'+i)), `{"tables":["app"],"force":true}`, patience)
				answers <- a
			}()
		}
		for range 2 {
			if a := <-answers; a.Type != "" {
				t.Errorf("%+v", a)
			}
		}
		if got := w.Rows(w.download("app")); got != want {
			t.Error("two workers changed the content")
		}
	})
}

// TestKilledBetweenGetAndPut: the table is as it was, and the next delivery does the work.
func TestKilledBetweenGetAndPut(t *testing.T) {
	stores(t, func(t *testing.T, w *world, g *gate) {
		want := w.sparse("app", 300)
		before := w.etag("app.db")
		comp := w.function("compact")
		g.hook(func(r *http.Request) int {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/app.db") {
				_ = comp.cmd.Process.Kill()
				return http.StatusServiceUnavailable
			}
			return 0
		})
		if a, alive := comp.invoke("1", `{"tables":["app"],"force":true}`, patience); alive {
			t.Fatalf("%+v", a)
		}
		g.hook(nil)
		if got := w.etag("app.db"); got != before {
			t.Error("the object changed")
		}
		again := w.function("compact")
		again.fail("1", `{"tables":["app"],"force":true}`, "InProgress", "until") // the dead one may be alive, as far as is known
		if e := entryOf(t, again.must("2", `{"tables":["app"],"force":true}`), 0); e.Status != functions.Compacted {
			t.Errorf("%+v", e)
		}
		if got := w.Rows(w.download("app")); got != want {
			t.Error("the content changed")
		}
	})
}

// withWAL stores a table whose last commits are in its -wal only.
func (w *world) withWAL(name string) (content string) {
	w.T.Helper()
	w.sparse(name, 300)
	// The files are copied while a connection has them open: closing it would move the log into the table.
	w.during(name, "INSERT INTO items (label, body) VALUES ('only in the log', x'01')", func() {
		w.upload(name)
	})
	if info, err := w.tables.Head(context.Background(), name+".db-wal"); err != nil || info.Size == 0 {
		w.T.Fatalf("no log: %+v, %v", info, err)
	}
	return w.Rows(w.Path(name))
}

func TestWALIsCheckpointedIn(t *testing.T) {
	stores(t, func(t *testing.T, w *world, g *gate) {
		want := w.withWAL("app")
		if r := w.function("backup").must("1", `{"tables":["app"]}`); entryOf(t, r, 0).Status != functions.BackedUp {
			t.Errorf("%+v", r)
		}
		comp := w.function("compact")
		g.hook(func(r *http.Request) int { // after the object, and before its log: the order of a checkpoint
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/app.db-wal") {
				_ = comp.cmd.Process.Kill()
				return http.StatusServiceUnavailable
			}
			return 0
		})
		comp.invoke("2", `{"tables":["app"],"force":true}`, patience)
		g.hook(nil)
		if got := w.Rows(w.download("app")); got != want {
			t.Error("with the log that was left, the table is another one")
		}
		if e := entryOf(t, w.function("compact").must("3", `{"tables":["app"],"force":true}`), 0); e.Status != functions.Compacted {
			t.Errorf("%+v", e)
		}
		if info, err := w.tables.Head(t.Context(), "app.db-wal"); err != nil || info.Size != 0 {
			t.Errorf("the log is still there: %+v, %v", info, err)
		}
		path := w.download("app")
		if mode, err := modeOf(path); err != nil || !bytes.Equal(mode, []byte{2, 2}) {
			t.Errorf("the table is no longer in WAL mode: %v, %v", mode, err)
		}
		if got := w.Rows(path); got != want {
			t.Error("the commits of the log are lost")
		}
		if r := w.function("restore").must("4", `{"table":"app"}`); entryOf(t, r, 0).Status != functions.Restored {
			t.Errorf("%+v", r)
		}
		if got := w.Rows(w.download("app")); got != want {
			t.Error("the backup did not have the commits of the log")
		}
	})
}

// TestLargerThanScratch has a disk of 24 MB.
func TestLargerThanScratch(t *testing.T) {
	stores(t, func(t *testing.T, w *world, g *gate) {
		disk := disktest.Mount(t, "-t", "tmpfs", "-o", "size=24m", "tmpfs")
		w.Make("app", 12000)
		w.upload("app")
		w.Make("small", 10)
		w.upload("small")
		comp := w.function("compact", "TABLEKEEPER_SCRATCH", filepath.Join(disk, "scratch"))
		a, _ := comp.invoke("1", `{"tables":["app"]}`, patience)
		if a.Type != "TooLarge" || !strings.Contains(a.Message, "bytes, for which") || !strings.Contains(a.Message, "EphemeralStorage") {
			t.Errorf("%+v", a)
		}
		t.Log(a.Message)
		if n := g.requests("GET", "/tables/app.db"); n != 0 {
			t.Errorf("it was fetched %d times: %q", n, g.seen)
		}
		comp.must("2", `{"tables":["small"],"force":true}`)
		if left, err := os.ReadDir(filepath.Join(disk, "scratch")); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// TestUnchangedIsNotFetched: an object that is still the one that was worked on is not fetched again, neither to back it up nor to compact it. What may
// have changed is.
func TestUnchangedIsNotFetched(t *testing.T) {
	stores(t, func(t *testing.T, w *world, g *gate) {
		w.Make("app", 100)
		w.upload("app")
		gets := func() int { return g.requests("GET", "/tables/app.db") }
		back, comp := w.function("backup"), w.function("compact", "TABLEKEEPER_COMPACT_THRESHOLD", "0.1")
		back.must("1", `{"tables":["app"]}`)
		comp.must("2", `{"tables":["app"]}`)
		if n := gets(); n != 2 {
			t.Fatalf("%d fetched", n)
		}
		for i, h := range []*lambdaHost{back, comp, back, comp, w.function("backup"), w.function("compact", "TABLEKEEPER_COMPACT_THRESHOLD", "0.1")} {
			e := entryOf(t, h.must(fmt.Sprint("again ", i), `{"tables":["app"]}`), 0)
			if e.Status != functions.Skipped || !strings.Contains(e.Detail, "not fetched") || gets() != 2 {
				t.Errorf("%d: %+v; %d fetched", i, e, gets())
			}
		}
		if n := len(w.stored("app")); n != 1 {
			t.Errorf("%d backups", n)
		}
		expect := func(h *lambdaHost, id, event string, status functions.Status) {
			t.Helper()
			before := gets()
			if e := entryOf(t, h.must(id, event), 0); e.Status != status || gets() != before+1 {
				t.Errorf("%s: %+v; %d fetched", id, e, gets()-before)
			}
		}
		expect(back, "forced", `{"tables":["app"],"force":true}`, functions.BackedUp)
		expect(comp, "another threshold", `{"tables":["app"],"threshold":0.05}`, functions.Skipped)
		w.Exec("app", "DELETE FROM items WHERE id % 4 > 0")
		w.upload("app")
		expect(back, "written", `{"tables":["app"]}`, functions.BackedUp)
		expect(comp, "sparse", `{"tables":["app"]}`, functions.Compacted)
		expect(back, "compacted", `{"tables":["app"]}`, functions.BackedUp)
		// A backup that is gone from the bucket is made again.
		for _, b := range w.stored("app") {
			w.Must(w.backups.Delete(t.Context(), b.Key.String()))
		}
		expect(back, "backup gone", `{"tables":["app"]}`, functions.BackedUp)
		w.during("app", "INSERT INTO items (label, body) VALUES ('in the log', x'01')", func() { w.upload("app") })
		expect(back, "a log", `{"tables":["app"]}`, functions.BackedUp)
	})
}

// TestTheDeadline: one table hangs. What there is no time for goes back into the queue, and is done from there.
func TestTheDeadline(t *testing.T) {
	w, g := onStore(t, buckettest.StartVersityGW(t), "aws")
	for _, name := range []string{"a", "b", "c", "d"} {
		w.Make(name, 10)
		w.upload(name)
	}
	release := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	g.hook(func(r *http.Request) int {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/b.db") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return 0
	})
	back := w.function("backup", "TABLEKEEPER_CONCURRENCY", "1")
	event := `{"tables":["a","b","c","d"]}`
	var a answer
	var sent []message
	var left []string
	var id string
	given := 6 * time.Second
	for attempt := 1; ; attempt++ {
		id = fmt.Sprintf("1, attempt %d", attempt)
		a, _ = back.invoke(id, event, given)
		sent, left = w.messages(ownQueue), nil
		for _, m := range sent {
			left = append(left, m.Group)
		}
		got := strings.Join(left, " ")
		if got == "c d" || got == "b c d" {
			break
		}
		if attempt == 4 {
			t.Fatalf("put back: %q; %+v", got, a)
		}
		given *= 3 // on a busy machine not even the first was done
	}
	if len(left) == 2 && (a.Type != "Timeout" || !strings.Contains(a.Message, "b:")) {
		t.Errorf("%+v", a)
	}
	if len(w.stored("a")) != 1 || len(w.stored("c")) != 0 {
		t.Errorf("a has %d backups, c %d", len(w.stored("a")), len(w.stored("c")))
	}
	g.hook(nil)
	done, _ := back.invoke("2", records(sent, 1), patience)
	if done.Body != `{"batchItemFailures":[]}` {
		t.Errorf("%+v", done)
	}
	// Delivered once more, the event does what is left of it, and nothing twice.
	back.must(id, event)
	for _, name := range []string{"a", "b", "c", "d"} {
		if n := len(w.stored(name)); n != 1 {
			t.Errorf("%s has %d backups", name, n)
		}
	}
	// Without a queue the failure says what is left.
	g.hook(func(r *http.Request) int {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/a.db") {
			<-r.Context().Done()
		}
		return 0
	})
	alone := w.function("backup", "TABLEKEEPER_CONCURRENCY", "1", "TABLEKEEPER_QUEUE", "")
	a, _ = alone.invoke("3", `{"tables":["a","c"],"force":true}`, 4*time.Second)
	if a.Type == "" || !strings.Contains(a.Message, `"c"`) {
		t.Errorf("%+v", a)
	}
}

func TestRecoverOnLambda(t *testing.T) {
	stores(t, func(t *testing.T, w *world, _ *gate) {
		w.Make("app", 300)
		w.upload("app")
		want := w.Rows(w.Path("app"))
		back := w.function("backup")
		back.must("1", `{"tables":["app"]}`)
		path := w.download("app")
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		w.Must(err)
		_, err = f.WriteAt([]byte(strings.Repeat("garbage ", 512)), 4096)
		w.Must(err)
		_, err = f.Seek(0, io.SeekStart)
		w.Must(err)
		_, err = bucket.Put(t.Context(), w.tables, "app.db", f, bucket.PutOptions{})
		w.Must(err)
		w.Must(f.Close())
		back.fail("2", `{"tables":["app"]}`, "Corrupt", "Try: ")
		sent := w.messages(recoverQueue)
		a, _ := w.function("recover").invoke("3", records(sent, 1), patience)
		if a.Body != `{"batchItemFailures":[]}` {
			t.Errorf("%+v", a)
		}
		if got := w.Rows(w.download("app")); got != want {
			t.Error("the table is not what it was")
		}
		if w.count(quarantinePrefix) == 0 {
			t.Error("the damaged table is not kept")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.published) < 1 || !strings.Contains(strings.Join(w.published, ""), "recover") {
			t.Errorf("nobody was told: %q", w.published)
		}
		var line map[string]any
		w.Must(json.Unmarshal([]byte(strings.SplitN(back.stdout.String(), "\n", 2)[0]), &line))
	})
}
