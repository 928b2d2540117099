package admin

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeysAreKeptHashedAndForNobodyElse(t *testing.T) {
	folder := t.TempDir()
	k, err := OpenKeys(t.Context(), folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := k.AddToken(t.Context(), "alice", Operator)
	if err != nil || !strings.HasPrefix(secret, tokenPrefix) || len(secret) != len(tokenPrefix)+43 {
		t.Fatalf("%q, %v", secret, err)
	}
	cookie, _, err := k.SignIn(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		data, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v %v", e.Name(), info.Mode(), err, statErr)
		}
		if bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte(secret[3:])) || bytes.Contains(data, []byte(cookie)) {
			t.Errorf("%s has a secret in it", e.Name())
		}
	}
	// Over a restart both still hold.
	if k, err = OpenKeys(t.Context(), folder, nil); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, who, err := k.bearer(t.Context(), secret); err != nil || who.Name != "alice" {
		t.Errorf("%+v, %v", who, err)
	}
	if who, _, err := k.Session(t.Context(), cookie); err != nil || who.Role != Operator {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	k, err := OpenKeys(t.Context(), t.TempDir(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	secret, err := k.AddToken(t.Context(), "bob", Viewer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.AddToken(t.Context(), "bob", Operator); !errors.Is(err, ErrNameTaken) {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"", "Bob", "../bob", "a b", strings.Repeat("a", 65), "bob\n"} {
		if _, err := k.AddToken(t.Context(), name, Viewer); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := k.AddToken(t.Context(), "eve", "root"); err == nil {
		t.Error("any role is taken")
	}
	if _, _, err := k.bearer(t.Context(), secret); err != nil {
		t.Error(err)
	}
	all, err := k.Tokens(t.Context())
	if err != nil || len(all) != 1 || all[0] != (Token{"bob", Viewer, now, now}) {
		t.Errorf("%+v, %v", all, err)
	}
	if err := k.RevokeToken(t.Context(), "bob"); err != nil {
		t.Error(err)
	}
	if err := k.RevokeToken(t.Context(), "bob"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, _, err := k.bearer(t.Context(), secret); !errors.Is(err, ErrUnknownToken) {
		t.Error(err)
	}
}

func TestKeysOfANewerVersionAreLeftAlone(t *testing.T) {
	folder := t.TempDir()
	k, err := OpenKeys(t.Context(), folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.db.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(t.Context(), folder, nil); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Error(err)
	}
	if _, err := OpenKeys(t.Context(), filepath.Join(folder, "not there"), nil); err == nil {
		t.Error("a folder is made by the way")
	}
}
