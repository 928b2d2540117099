package history

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// child is the body of a process that begins a run and is killed in the middle of it.
func child(path string) {
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	r := newRun("compact", time.Now(), "a", "b")
	r, _, err = s.Begin(context.Background(), r)
	if err == nil {
		r.Status, r.Started = Running, time.Now()
		list := entries("compacted", "a", "b")
		list[1].Status, list[1].Report = EntryPending, nil
		err = s.Save(context.Background(), Change{Run: r, Entries: list})
	}
	fmt.Println(r.ID, err)
	select {}
}

func TestRunOfAKilledProcessIsLost(t *testing.T) {
	path := temp(t)
	s := open(t, path, Options{})
	mine := begin(t, s, newRun("backup", epoch))
	other := open(t, path, Options{}) // stands for another live process: its lock is its own
	theirs := begin(t, other, newRun("backup", epoch))

	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HISTORY_TEST_CHILD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id, note string
	if _, err := fmt.Fscan(out, &id, &note); err != nil || note != "<nil>" {
		t.Fatal(id, note, err)
	}
	if lost, err := s.Reap(t.Context()); err != nil || len(lost) != 0 {
		t.Fatalf("while the child lives: %+v, %v", lost, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	lost, err := s.Reap(t.Context())
	if err != nil || len(lost) != 1 || lost[0].ID != id || lost[0].Status != Lost {
		t.Fatalf("lost %+v, %v", lost, err)
	}
	r, err := s.Get(t.Context(), id)
	if err != nil || r.Status != Lost || r.Error == "" || r.Hint == "" || r.Ended.IsZero() || r.Counts.Failed != 1 || r.Counts.Done != 1 || lost[0].Counts != r.Counts || r.Entries[0].Status != "compacted" || r.Entries[1].Status != EntryLost {
		t.Errorf("run %+v, %v", r, err)
	}
	if again, err := other.Reap(t.Context()); err != nil || len(again) != 0 {
		t.Errorf("reaped twice: %+v, %v", again, err)
	}
	for _, live := range []Run{mine, theirs} {
		if r, err := s.Get(t.Context(), live.ID); err != nil || r.Status != Queued {
			t.Errorf("run of a live process is %s, %v", r.Status, err)
		}
	}
	// Runs that a process leaves open when it closes its history are lost too.
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if lost, err := s.Reap(t.Context()); err != nil || len(lost) != 1 || lost[0].ID != theirs.ID {
		t.Errorf("after close: %+v, %v", lost, err)
	}
}
