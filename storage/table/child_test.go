package table

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"tablekeeper/storage/childtest"
)

// TestChild is not a test of its own: it is the other process.
func TestChild(t *testing.T) {
	runtime.LockOSThread() // calls are counted by thread
	childtest.Run(t, children)
}

var children = map[string]func(words []string) error{
	"hold": hold,
	"open": func(words []string) error {
		f, err := os.Open(words[0])
		if err != nil {
			return err
		}
		defer f.Close()
		return ready()
	},
	"write until told": writeUntilTold,
	"lock": func(words []string) error {
		if _, err := Lock(context.Background(), words[0], Owner{Function: "backup", Run: "r1"}); err != nil {
			return err
		}
		return ready()
	},
	"swap": func(words []string) error {
		_, err := Swap(context.Background(), words[0], words[1], SwapOptions{Now: swapTime})
		return err
	},
	"overwrite": func(words []string) error {
		_, err := Overwrite(context.Background(), words[0], words[1], OverwriteOptions{Now: swapTime})
		return err
	},
	"resume": func(words []string) error {
		_, err := Resume(context.Background(), words[0])
		return err
	},
}

// ready says so, and waits for the parent to go on.
func ready() error {
	fmt.Println("ready")
	_, err := io.ReadAll(os.Stdin)
	return err
}

// hold opens a table, runs statements on it, and keeps it open.
func hold(words []string) error {
	db, err := sql.Open("sqlite", words[0])
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	for _, statement := range words[1:] {
		if _, err := db.ExecContext(context.Background(), statement); err != nil {
			return err
		}
	}
	if err := ready(); err != nil {
		return err
	}
	return db.Close()
}

// writeUntilTold inserts 1, 2, 3, ... and prints each that is committed, until its input ends.
func writeUntilTold(words []string) error {
	db, err := sql.Open("sqlite", "file:"+words[0]+"?_busy_timeout=60000")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	told := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(os.Stdin)
		told <- err
	}()
	fmt.Println("ready")
	for n := 1; ; n++ {
		if _, err := db.ExecContext(context.Background(), "INSERT INTO written VALUES (?)", n); err != nil {
			return err
		}
		fmt.Println(n)
		select {
		case err := <-told:
			return errors.Join(err, db.Close())
		case <-time.After(time.Millisecond): // SQLite's locks have no queue: if it never rested, others would have to be lucky
		}
	}
}

// startChild returns when the child is ready. end lets it go on and waits for its end.
func startChild(t testing.TB, words ...string) (pid int, end func()) {
	t.Helper()
	return start(t, childtest.Command(t, words...), "")
}

// start runs a program until it says ready.
func start(t testing.TB, cmd *exec.Cmd, input string) (pid int, end func()) {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = stdin.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	_, err = io.WriteString(stdin, input)
	must(t, err)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return cmd.Process.Pid, end
		}
	}
	t.Fatal("the other process never got ready")
	return 0, nil
}
