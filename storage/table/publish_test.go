package table

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func publishScene(t *testing.T) (path, fresh string) {
	dir := t.TempDir()
	fresh = filepath.Join(dir, ".restored.tmp")
	makeContent(t, fresh, "new")
	return filepath.Join(dir, "restored.db"), fresh
}

func TestPublish(t *testing.T) {
	path, fresh := publishScene(t)
	must(t, Publish(t.Context(), path, fresh))
	if got := tree(t, filepath.Dir(path)); !slices.Equal(got, []string{"restored.db"}) {
		t.Error(got)
	}
	if got := contentOf(t, path); got != "new" {
		t.Error(got)
	}
}

func TestPublishReplacesNothing(t *testing.T) {
	for _, ending := range []string{"", "-wal", "-journal"} {
		path, fresh := publishScene(t)
		must(t, os.WriteFile(path+ending, []byte("mine"), 0o644))
		if err := Publish(t.Context(), path, fresh); !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		if got, err := os.ReadFile(path + ending); err != nil || string(got) != "mine" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestPublishWhenCallFails(t *testing.T) {
	for _, links := range []bool{true, false} {
		for n := 0; ; n++ {
			path, fresh := publishScene(t)
			r := recorder{fail: func(i int, c call) error {
				switch {
				case i == n:
					return errFault
				case c.op == "link" && !links:
					return syscall.EPERM
				}
				return nil
			}}
			err := publish(r.disk(), path, fresh)
			if len(r.calls) <= n {
				must(t, err)
				break
			}
			if !errors.Is(err, errFault) {
				t.Fatalf("call %d: %v", n, err)
			}
			word, err := readContent(path)
			if isGone(err) {
				word, err = readContent(fresh)
			}
			if err != nil || word != "new" {
				t.Fatalf("call %d: %q, %v", n, word, err)
			}
		}
	}
}
