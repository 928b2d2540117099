package shelf

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"tablekeeper/storage/table"
)

func TestStateOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.db", database)
	s, _ := refreshed(t, Source{Path: dir})
	if err := s.SetState("a", Suspect, "page 7"); err != nil {
		t.Fatal(err)
	}
	again, _ := refreshed(t, Source{Path: dir})
	got, err := again.Get("a")
	if err != nil || got.State != Suspect || got.Reason != "page 7" || !got.Since.Equal(time.Unix(1e9, 0)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := again.SetState("a", Healthy, "checked"); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir + "/" + table.StateFolder); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	if err := again.SetState("nobody", Suspect, ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}

// Two processes look after one folder. What one of them sets is kept, whatever it remembers of a state that the other has changed since.
func TestAStateIsKeptThoughAnotherProcessChangedIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.db", database)
	one, _ := refreshed(t, Source{Path: dir})
	other, _ := refreshed(t, Source{Path: dir})
	for _, step := range []struct {
		shelf *Shelf
		state State
	}{{one, Degraded}, {other, Healthy}, {one, Degraded}, {other, Suspect}, {other, Healthy}, {one, Healthy}, {other, Degraded}, {one, Healthy}} {
		if err := step.shelf.SetState("a", step.state, "why"); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadCondition(dir + "/a.db"); err != nil || got.State != step.state {
			t.Errorf("%+v, %v, want %s", got, err, step.state)
		}
		if got, err := step.shelf.Get("a"); err != nil || got.State != step.state {
			t.Errorf("%+v, %v, want %s", got, err, step.state)
		}
	}
}

func TestDamagedStateIsSuspect(t *testing.T) {
	for _, content := range []string{"", "{", `{"state":"fine"}`, "\x00\x00\x00"} {
		dir := t.TempDir()
		write(t, dir+"/a.db", database)
		write(t, dir+"/.tablekeeper/a.db.state", []byte(content))
		s, problems := refreshed(t, Source{Path: dir})
		if got, err := s.Get("a"); err != nil || got.State != Suspect {
			t.Errorf("%q: %+v, %v", content, got, err)
		}
		if reasons(problems) != "a.db.state: bad_state" {
			t.Errorf("%q: %v", content, problems)
		}
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/a.db"
	if _, err := ReadRecord(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	want := Record{Format: 1, Table: "a", Token: "t", Bucket: "file:///b", Key: "k", Size: 3, SHA256: "aa", Created: time.Unix(1e9, 0).UTC(), Confirmed: time.Unix(2e9, 0).UTC()}
	if err := WriteRecord(path, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadRecord(path); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, content := range []string{"", "{", `{"format":2}`, "[]"} {
		write(t, dir+"/.tablekeeper/a.db.backup", []byte(content))
		if got, err := ReadRecord(path); err == nil || got != (Record{}) {
			t.Errorf("%q: %+v, %v", content, got, err)
		}
	}
}

func TestAStateSetDuringAScanStays(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.db", database)
	s, _ := refreshed(t, Source{Path: dir})
	done := make(chan error)
	go func() {
		for range 20 {
			if _, err := s.Refresh(t.Context()); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range 21 {
		state := []State{Suspect, Healthy}[i%2]
		if err := s.SetState("a", state, "test"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get("a"); err != nil || got.State != state {
			t.Errorf("%+v, %v, want %s", got, err, state)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get("a"); err != nil || got.State != Suspect {
		t.Errorf("%+v, %v", got, err)
	}
}
