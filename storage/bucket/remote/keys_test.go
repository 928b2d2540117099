package remote_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/storage/bucket/remote"
)

func TestKeysDoNotPrint(t *testing.T) {
	keys := remote.Keys{ID: "AKIAIDENTITY", Secret: "TOPSECRET", Token: "TOKEN"}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "keys", keys, "pointer", &keys, "in", struct{ K remote.Keys }{keys})
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "keys", keys, "pointer", &keys)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, format, keys)
		fmt.Fprintf(&out, format, &keys)
		fmt.Fprintf(&out, format, remote.Options{Keys: &keys}.Keys)
	}
	encoded, err := json.Marshal(map[string]any{"a": keys, "b": &keys})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, secret := range []string{"TOPSECRET", "TOKEN", "IDENTITY"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s is printed: %s", secret, out.String())
		}
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyFiles(t *testing.T) {
	id, secret := write(t, "id", "AKIA1\n"), write(t, "secret", "  s3cr3t\r\n")
	shared := write(t, "credentials", "# comment\n[default]\naws_access_key_id = D1\naws_secret_access_key=D2\n\n[ work ]\n; note\nAWS_ACCESS_KEY_ID=W1\naws_secret_access_key = W2=\naws_session_token = W3\nregion = x\n[half]\naws_access_key_id = H1\n")
	for _, test := range []struct {
		files  remote.KeyFiles
		getenv func(string) string
		want   remote.Keys
		err    string
	}{
		{remote.KeyFiles{ID: id, Secret: secret}, noenv, remote.Keys{ID: "AKIA1", Secret: "s3cr3t"}, ""},
		{remote.KeyFiles{ID: id, Secret: secret, Token: id}, noenv, remote.Keys{ID: "AKIA1", Secret: "s3cr3t", Token: "AKIA1"}, ""},
		{remote.KeyFiles{Shared: shared}, noenv, remote.Keys{ID: "D1", Secret: "D2"}, ""},
		{remote.KeyFiles{Shared: shared, Profile: "work"}, env("AWS_PROFILE", "half"), remote.Keys{ID: "W1", Secret: "W2=", Token: "W3"}, ""},
		{remote.KeyFiles{Shared: shared}, env("AWS_PROFILE", "work"), remote.Keys{ID: "W1", Secret: "W2=", Token: "W3"}, ""},
		{remote.KeyFiles{Shared: shared, Profile: "half"}, noenv, remote.Keys{}, "needs aws_access_key_id and aws_secret_access_key"},
		{remote.KeyFiles{Shared: shared, Profile: "none"}, noenv, remote.Keys{}, "has no profile none"},
		{remote.KeyFiles{ID: id, Secret: write(t, "empty", " \n")}, noenv, remote.Keys{}, "one value"},
		{remote.KeyFiles{ID: id, Secret: write(t, "two", "TOPSECRET TOPSECRET")}, noenv, remote.Keys{}, "one value"},
		{remote.KeyFiles{ID: id, Secret: "/does/not/exist"}, noenv, remote.Keys{}, "/does/not/exist"},
		{remote.KeyFiles{Shared: "/does/not/exist"}, noenv, remote.Keys{}, "/does/not/exist"},
	} {
		got, err := test.files.Read(test.getenv)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "TOPSECRET")) {
			t.Errorf("Read of %+v: %v, want error %q", test.files, err, test.err)
		}
	}
}
