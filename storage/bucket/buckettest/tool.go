package buckettest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// modules are the tools that localstack/go.mod pins.
var modules = map[string]string{
	"minio":     "github.com/minio/minio",
	"versitygw": "github.com/versity/versitygw/cmd/versitygw",
}

// Tool returns the path of a program that the nested module localstack/ pins: minio or versitygw. The first call for a version builds it,
// which takes minutes, into $TABLEKEEPER_TOOLS, or tablekeeper-tools in the user's cache folder; later ones, of all processes, find it
// there. Where it cannot be built the test is skipped, or fails if CI=true.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := tool(t, name)
	if err != nil {
		need(t, fmt.Sprintf("build %s: %v", name, err))
	}
	return path
}

func need(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip("SKIPPED, not tested here: " + what)
}

func tool(t testing.TB, name string) (string, error) {
	module, known := modules[name]
	if !known {
		return "", fmt.Errorf("not one of the tools of localstack/go.mod")
	}
	source, err := localstack()
	if err != nil {
		return "", err
	}
	folder, err := toolFolder(source)
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, name+exe())
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	lock := flock.New(filepath.Join(folder, name+".lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(path); err == nil {
		return path, nil // another process built it meanwhile
	}
	return path, build(t, source, module, path)
}

func exe() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}

func build(t testing.TB, source, module, path string) error {
	t.Logf("building %s, once; this takes minutes", module)
	started := time.Now()
	temp := path + ".building"
	build := exec.CommandContext(t.Context(), "go", "build", "-o", temp, module)
	build.Dir = source
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly -buildvcs=false")
	if output, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, strings.TrimSpace(string(output))), os.RemoveAll(temp))
	}
	t.Logf("built %s in %s", module, time.Since(started).Round(time.Second))
	return os.Rename(temp, path)
}

// localstack is the folder of the nested module, looked for from the test's folder upwards.
func localstack() (string, error) {
	folder, err := os.Getwd()
	for err == nil {
		candidate := filepath.Join(folder, "localstack")
		if _, missing := os.Stat(filepath.Join(candidate, "go.mod")); missing == nil {
			return candidate, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			err = errors.New("localstack/go.mod is in no folder above the test's")
		}
		folder = parent
	}
	return "", err
}

// toolFolder is the cache of tools of just these versions.
func toolFolder(source string) (string, error) {
	base := os.Getenv("TABLEKEEPER_TOOLS")
	if base == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(cache, "tablekeeper-tools")
	}
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		file, err := os.Open(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return "", err
		}
	}
	folder := filepath.Join(base, fmt.Sprintf("%s-%s-%s", runtime.GOOS, runtime.GOARCH, hex.EncodeToString(sum.Sum(nil)[:8])))
	return folder, os.MkdirAll(folder, 0o755)
}
