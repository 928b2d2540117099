package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxZip is what the design allows, in bytes. Lambda allows 50 MB; a small one starts sooner.
const maxZip = 14 << 20

// TestTheDeployedZip builds for Graviton what sam build builds.
func TestTheDeployedZip(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds for another processor")
	}
	path := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", "lambda.norpc", "-o", path, ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if program.Machine != elf.EM_AARCH64 {
		t.Errorf("built for %v", program.Machine)
	}
	if libraries, err := program.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("it needs %v, and provided.al2023 may not have them", libraries)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	w := zip.NewWriter(&zipped)
	file, err := w.Create("bootstrap")
	if err == nil {
		_, err = file.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, zipped %d", len(text), zipped.Len())
	if zipped.Len() > maxZip {
		t.Errorf("the zip has %d bytes, and %d are allowed", zipped.Len(), maxZip)
	}
}
