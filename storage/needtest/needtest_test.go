package needtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// observer is a test that is watched: its end is a panic.
type observer struct{ testing.TB }

func (observer) Helper()           {}
func (observer) Fatal(args ...any) { panic("failed: " + fmt.Sprint(args...)) }
func (observer) Skip(args ...any)  { panic("skipped: " + fmt.Sprint(args...)) }

// look tells how a test ends that needs a program, or where the program is.
func look(name string) (outcome string) {
	defer func() {
		if end := recover(); end != nil {
			outcome = end.(string)
		}
	}()
	return Program(observer{}, name)
}

func TestProgram(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	shim := filepath.Join(home, ".pyenv", "shims", "only-in-pyenv.exe")
	if err := os.MkdirAll(filepath.Dir(shim), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(shim, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ci, name, want string }{
		{"", "go", "go"}, {"true", "go", "go"},
		{"true", "only-in-pyenv.exe", shim},
		{"", "no-such-program", "skipped: "}, {"true", "no-such-program", "failed: "},
	} {
		t.Setenv("CI", c.ci)
		if got := look(c.name); !strings.Contains(got, c.want) || c.want == "go" && !filepath.IsAbs(got) {
			t.Errorf("CI=%q, %s: %s", c.ci, c.name, got)
		}
	}
}

func TestPort(t *testing.T) {
	port, err := Port()
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
