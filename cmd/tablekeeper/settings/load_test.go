package settings

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tablekeeper.yaml"), "tables: [t]\nbucket: fromfile\nlog: {format: json}\n")
	file := "file://" + filepath.Join(dir, "fromfile")
	variable := "file://" + filepath.Join(dir, "fromenv")
	for name, c := range map[string]struct {
		flags          Flags
		env            []string
		bucket, origin string
	}{
		"file":     {Flags{}, nil, file, filepath.Join(dir, "tablekeeper.yaml") + ":2"},
		"variable": {Flags{}, []string{"TABLEKEEPER_BUCKET", "fromenv"}, variable, "TABLEKEEPER_BUCKET"},
		"empty variable is unset": {
			Flags{}, []string{"TABLEKEEPER_BUCKET", ""}, file, filepath.Join(dir, "tablekeeper.yaml") + ":2",
		},
		"flag": {Flags{Bucket: "s3://b"}, []string{"TABLEKEEPER_BUCKET", "fromenv"}, "s3://b", "--bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Load(LoadOptions{Flags: c.flags, Getenv: env(c.env...), Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Bucket != c.bucket || cfg.Origin("bucket") != c.origin {
				t.Errorf("bucket %q from %q, want %q from %q", cfg.Bucket, cfg.Origin("bucket"), c.bucket, c.origin)
			}
			if cfg.Log.Format != "json" || cfg.Log.Level != "info" || cfg.Origin("log.level") != "default" {
				t.Errorf("log is %+v", cfg.Log)
			}
		})
	}
}

func TestLoadFindsTheFile(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	write(t, filepath.Join(home, ".config/tablekeeper/tablekeeper.yaml"), "bucket: data\n")
	cfg, err := Load(LoadOptions{Dir: dir, Getenv: env("HOME", home)})
	if err != nil || cfg.Bucket != "file://"+filepath.Join(home, ".config/tablekeeper/data") {
		t.Errorf("bucket %q from %q, %v", cfg.Bucket, cfg.Path, err)
	}
	write(t, filepath.Join(dir, "tablekeeper.yaml"), "bucket: file:///near\n")
	cfg, err = Load(LoadOptions{Dir: dir, Getenv: env("HOME", home)})
	if err != nil || cfg.Bucket != "file:///near" {
		t.Errorf("bucket %q from %q, %v", cfg.Bucket, cfg.Path, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "newer.yaml"), "version: 9\n")
	write(t, filepath.Join(dir, "half.yaml"), "credentials: {access_key_id_file: a}\n")
	write(t, filepath.Join(dir, "blind.yaml"), "encryption: {recipients: [age1]}\n")
	write(t, filepath.Join(dir, "listen.yaml"), "listen: everywhere\n")
	for name, f := range map[string]Flags{
		"missing file":       {Config: "nope.yaml"},
		"a folder":           {Config: "."},
		"newer version":      {Config: "newer.yaml"},
		"half a credential":  {Config: "half.yaml"},
		"no identity":        {Config: "blind.yaml"},
		"unknown log format": {LogFormat: "xml"},
		"unknown listener":   {Config: "listen.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(LoadOptions{Flags: f, Dir: dir, Getenv: env()})
			var inv *InvalidError
			if !errors.As(err, &inv) || inv.Try == "" {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestStateFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "one.db"), "x")
	for source, want := range map[string]string{
		dir:                              dir,
		filepath.Join(dir, "one.db"):     dir,
		filepath.Join(dir, "*.db"):       dir,
		filepath.Join(dir, "*/data/*"):   dir,
		filepath.Join(dir, "later"):      filepath.Join(dir, "later"),
		filepath.Join(dir, "later.db"):   dir,
		filepath.Join(dir, "x[12]/y.db"): dir,
	} {
		cfg, err := Load(LoadOptions{Flags: Flags{Tables: []string{source}}, Dir: dir, Getenv: env()})
		if err != nil || cfg.State != filepath.Join(want, ".tablekeeper") {
			t.Errorf("%s: state %q, %v", source, cfg.State, err)
		}
	}
}

func TestAbsoluteAddress(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"backups":               "file:///w/backups",
		"./a b":                 "file:///w/a%20b",
		"/abs":                  "file:///abs",
		"file:rel":              "file:///w/rel",
		"file:///abs":           "file:///abs",
		"s3://bucket/p?x=y":     "s3://bucket/p?x=y",
		"aws://bucket":          "aws://bucket",
		"./with:colon/and more": "file:///w/with:colon/and%20more",
	} {
		if got := absoluteAddress("/w", in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
