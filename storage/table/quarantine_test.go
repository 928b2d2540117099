package table

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// shelveForTest puts a folder in quarantine.
func shelveForTest(t *testing.T, path, name, content string) string {
	t.Helper()
	entry := filepath.Join(QuarantineDir(path), name)
	must(t, os.MkdirAll(entry, 0o700))
	must(t, os.WriteFile(filepath.Join(entry, filepath.Base(path)), []byte(content), 0o644))
	return entry
}

func namesOf(all []Quarantined) []string {
	var names []string
	for _, q := range all {
		names = append(names, q.Table+"/"+filepath.Base(q.Path))
	}
	return names
}

func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o644))

	shelveForTest(t, b, "20260101T000000.000Z-restore", "1234")
	shelveForTest(t, a, "20260103T000000.000Z-restore", "123")
	oldest := shelveForTest(t, a, "20260101T000000.000Z-compact", "12")
	shelveForTest(t, a, "20260102T000000.000Z-restore", "1")
	// What is not ours stays.
	shelveForTest(t, a, "notes", "1")
	shelveForTest(t, a, "20269901T000000.000Z-restore", "1")
	must(t, os.Symlink(outside, filepath.Join(QuarantineDir(a), "20250101T000000.000Z-link")))
	must(t, os.Symlink(outside, filepath.Join(filepath.Dir(QuarantineDir(a)), "c.db")))
	must(t, os.Symlink(outside, filepath.Join(oldest, "link")))

	all, err := QuarantineList(dir)
	must(t, err)
	want := []string{"a.db/20260101T000000.000Z-compact", "a.db/20260102T000000.000Z-restore", "a.db/20260103T000000.000Z-restore",
		"b.db/20260101T000000.000Z-restore"}
	if got := namesOf(all); !slices.Equal(got, want) {
		t.Fatalf("list %v, want %v", got, want)
	}
	first := Quarantined{Table: "a.db", Path: oldest, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Reason: "compact", Bytes: 2}
	if all[0] != first {
		t.Errorf("%+v, want %+v", all[0], first)
	}

	removed, err := QuarantineExpire(t.Context(), dir, Expiry{Before: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC), Keep: 1})
	must(t, err)
	if got := namesOf(removed); !slices.Equal(got, want[:2]) {
		t.Errorf("removed %v, want %v: the newest of each stays", got, want[:2])
	}
	if removed, err := QuarantineExpire(t.Context(), dir, Expiry{Before: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v", namesOf(removed), err)
	}
	for _, path := range []string{filepath.Join(outside, "precious"), filepath.Join(QuarantineDir(a), "notes"),
		filepath.Join(QuarantineDir(a), "20269901T000000.000Z-restore"), filepath.Join(QuarantineDir(a), "20250101T000000.000Z-link")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestQuarantineOfInterruptedSwapStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shelveForTest(t, path, "20260101T000000.000Z-restore", "1")
	must(t, os.WriteFile(statePath(path, ".intent"), nil, 0o644))
	if removed, err := QuarantineExpire(t.Context(), filepath.Dir(path), Expiry{Before: time.Now()}); err != nil || len(removed) != 0 {
		t.Errorf("removed %v, %v", namesOf(removed), err)
	}
}

func TestQuarantineHoldsWhatIsNeeded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	for _, name := range []string{"20260101T000000.000Z-corrupt", "20260102T000000.000Z-restored", "20260103T000000.000Z-corrupt"} {
		shelveForTest(t, path, name, "1")
	}
	due := Expiry{Before: time.Now(), DryRun: true, Holds: func(q Quarantined) bool { return q.Reason == "corrupt" }}
	for _, dry := range []bool{true, false} {
		due.DryRun = dry
		removed, err := QuarantineExpire(t.Context(), filepath.Dir(path), due)
		if got := namesOf(removed); err != nil || !slices.Equal(got, []string{"a.db/20260102T000000.000Z-restored"}) {
			t.Errorf("dry run %v: removed %v, %v", dry, got, err)
		}
	}
	if all, err := QuarantineList(filepath.Dir(path)); err != nil || len(all) != 2 {
		t.Errorf("left %v, %v", namesOf(all), err)
	}
}

func TestQuarantineBehindSymbolicLink(t *testing.T) {
	real := filepath.Join(t.TempDir(), "a.db")
	shelveForTest(t, real, "20260101T000000.000Z-restore", "1")
	dir := t.TempDir()
	must(t, os.Symlink(StateDir(real), filepath.Join(dir, StateFolder)))
	if _, err := QuarantineExpire(t.Context(), dir, Expiry{Before: time.Now()}); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if _, err := QuarantineList(dir); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if all, err := QuarantineList(filepath.Dir(real)); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestQuarantineWithoutAny(t *testing.T) {
	if all, err := QuarantineList(t.TempDir()); err != nil || all != nil {
		t.Error(all, err)
	}
	if all, err := QuarantineExpire(t.Context(), t.TempDir(), Expiry{Before: time.Now()}); err != nil || all != nil {
		t.Error(all, err)
	}
}

func TestQuarantineExpireFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shelveForTest(t, path, "20260101T000000.000Z-restore", "1")
	shelveForTest(t, path, "20260102T000000.000Z-restore", "1")
	r := recorder{fail: from(1)}
	removed, err := expireQuarantine(t.Context(), r.disk(), filepath.Dir(path), Expiry{Before: time.Now()})
	if !errors.Is(err, errFault) || len(removed) != 1 {
		t.Errorf("removed %v, %v", namesOf(removed), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := QuarantineExpire(ctx, filepath.Dir(path), Expiry{Before: time.Now()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNewQuarantineName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	for reason, want := range map[string]string{
		"restore":               "20260304T050607.008Z-restore",
		"":                      "20260304T050607.008Z-replaced",
		"../../Etc/Passwd\x00":  "20260304T050607.008Z-etc-passwd",
		"äöü":                   "20260304T050607.008Z-replaced",
		strings.Repeat("x", 99): "20260304T050607.008Z-" + strings.Repeat("x", 40),
	} {
		got := newQuarantineName(path, swapTime, reason)
		if got != want {
			t.Errorf("%q: %s, want %s", reason, got, want)
		}
		if _, _, ok := parseQuarantineName(got); !ok {
			t.Errorf("%s is not read back", got)
		}
	}
	shelveForTest(t, path, "20260304T050607.008Z-restore", "")
	if got := newQuarantineName(path, swapTime, "restore"); got != "20260304T050607.009Z-restore" {
		t.Errorf("a clock that stands still: %s", got)
	}
}
