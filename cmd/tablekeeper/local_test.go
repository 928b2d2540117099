package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tablekeeper/storage/bucket/buckettest"
	"tablekeeper/storage/needtest"
)

// TestLocal runs what `make local` does, on ports of its own.
func TestLocal(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("SKIPPED: a local stack needs bash and a real S3 server")
	}
	buckettest.Tool(t, "minio") // built, or skipped
	source, err := filepath.Abs(filepath.Join("..", "..", "localstack", "local"))
	if err != nil {
		t.Fatal(err)
	}
	// The script finds the tool where this test does, although its home is another.
	tools := os.Getenv("TABLEKEEPER_TOOLS")
	if tools == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		tools = filepath.Join(cache, "tablekeeper-tools")
	}
	params := scriptParams("testdata/local")
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		run := filepath.Join(env.WorkDir, "run")
		// The script's output goes to a file, so that it can be looked at while it runs.
		wrapper := fmt.Sprintf("mkdir -p '%s'; export RUN='%s'; exec '%s' >>'%s/log' 2>&1\n", run, run, source, run)
		if err := os.WriteFile(filepath.Join(env.WorkDir, "start"), []byte(wrapper), 0o600); err != nil {
			return err
		}
		env.Setenv("LOCAL", filepath.Join(env.WorkDir, "start"))
		env.Setenv("TABLEKEEPER", "tablekeeper")
		env.Setenv("TABLEKEEPER_TOOLS", tools)
		if home, err := os.UserHomeDir(); err == nil { // where moto_server may be
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+filepath.Join(home, ".pyenv", "shims"))
		}
		for _, name := range []string{"MINIO_PORT", "MOTO_PORT", "LISTEN"} {
			port, err := needtest.Port()
			if err != nil {
				return err
			}
			at := strconv.Itoa(port)
			if name == "LISTEN" {
				at = net.JoinHostPort("127.0.0.1", at)
			}
			env.Setenv(name, at)
		}
		for _, name := range []string{"GOPATH", "GOMODCACHE", "GOCACHE", "PYENV_ROOT", "AWS_CA_BUNDLE"} {
			env.Setenv(name, os.Getenv(name))
		}
		return setup(env)
	}
	allowInterrupt(t)
	testscript.Run(t, params)
}

// allowInterrupt: a shell script cannot trap what was ignored when it began, as it is where the tests run in the background of a shell.
func allowInterrupt(t *testing.T) {
	t.Helper()
	if !signal.Ignored(os.Interrupt) {
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	t.Cleanup(func() { signal.Stop(signals) })
}
