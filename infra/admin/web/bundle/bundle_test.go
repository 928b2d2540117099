package bundle

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"
)

// The assets that are kept are those of the sources that are kept.
func TestTheAssetsAreThoseOfTheSources(t *testing.T) {
	if _, err := os.Stat("../node_modules"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no node_modules: run make setup")
		}
		t.Skip("no node_modules: run make setup")
	}
	want, err := Files("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join("../dist", name))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("dist/%s is not what the sources give: run go generate ./infra/admin/web (%v)", name, err)
		}
	}
	entries, err := os.ReadDir("../dist")
	if err != nil || len(entries) != len(want) {
		t.Errorf("dist has %d files, the sources give %d (%v)", len(entries), len(want), err)
	}
}

// The first paint needs the page, its script and its style.
func TestTheFirstPaintIsSmall(t *testing.T) {
	var sent bytes.Buffer
	squeeze := gzip.NewWriter(&sent)
	for _, name := range []string{"index.html", "app.js", "app.css"} {
		content, err := os.ReadFile(filepath.Join("../dist", name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := squeeze.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := squeeze.Close(); err != nil {
		t.Fatal(err)
	}
	if sent.Len() > 100_000 {
		t.Errorf("%d bytes compressed, the limit is 100,000", sent.Len())
	}
	t.Logf("%d bytes compressed", sent.Len())
}
