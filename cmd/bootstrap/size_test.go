package main

import (
	"archive/zip"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"tablekeeper"
	"tablekeeper/storage/needtest"
)

// maxZip is what the design allows, in bytes. Lambda allows 50 MB; a small one starts sooner.
const maxZip = 14 << 20

// targets are what SAM asks the Makefile for: build- and the id of a function.
func targets(t *testing.T) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^  (\w+):\n    Type: AWS::Serverless::Function\n(?:    Condition: \w+\n)?    Metadata:\n      BuildMethod: makefile$`).
		FindAllSubmatch(tablekeeper.Template, -1) {
		all = append(all, "build-"+string(m[1]))
	}
	if n := bytes.Count(tablekeeper.Template, []byte("    Type: AWS::Serverless::Function\n")); n == 0 || n != len(all) {
		t.Fatalf("%d of %d functions are built by the Makefile", len(all), n)
	}
	return all
}

// TestTheDeployedZip builds as SAM does: make with the Makefile of CodeUri, in CodeUri, with a target for each function and ARTIFACTS_DIR.
func TestTheDeployedZip(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds for another processor")
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "bootstrap")
	for i, target := range targets(t) {
		args := []string{"--makefile", "Makefile", target}
		if i > 0 {
			args = append(args, "--dry-run") // it is the same program
		}
		cmd := exec.CommandContext(t.Context(), needtest.Program(t, "make"), args...)
		cmd.Env = append(os.Environ(), "ARTIFACTS_DIR="+folder, "GOARCH=amd64", "CGO_ENABLED=1") // which it has to overrule
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", target, err, out)
		}
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
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
	if info, err := buildinfo.ReadFile(path); err != nil || !stripped(program) || setting(info, "-trimpath") != "true" || setting(info, "CGO_ENABLED") != "0" {
		t.Errorf("not built as it should be: %v, %v", info, err)
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

func stripped(f *elf.File) bool {
	return f.Section(".symtab") == nil && f.Section(".debug_info") == nil
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
