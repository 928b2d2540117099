package admin

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
)

// page serves the dashboard. Its files are few and small: they are kept in memory, compressed.
type page struct{ files map[string]asset }

type asset struct {
	kind          string
	tag           string
	plain, packed []byte
}

// kinds that the tables of some systems do not have.
var kinds = map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".webmanifest": "application/manifest+json",
	".html": "text/html; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json", ".map": "application/json", ".woff2": "font/woff2"}

func newPage(assets fs.FS) (*page, error) {
	p := &page{files: map[string]asset{}}
	if assets == nil {
		return p, nil
	}
	err := fs.WalkDir(assets, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(assets, name)
		if err != nil {
			return err
		}
		p.files[name] = newAsset(name, data)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the dashboard's files: %w", err)
	}
	return p, nil
}

// build is a name for what the page is made of.
func (p *page) build() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		fmt.Fprintln(sum, name, p.files[name].tag)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func newAsset(name string, data []byte) asset {
	sum := sha256.Sum256(data)
	a := asset{kind: cmp.Or(kinds[path.Ext(name)], mime.TypeByExtension(path.Ext(name))), tag: hex.EncodeToString(sum[:8]), plain: data}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(data)
	}
	if err == nil && z.Close() == nil && b.Len() < len(data) {
		a.packed = b.Bytes()
	}
	return a
}

const index = "index.html"

// ServeHTTP answers a path without a dot with the page itself, which knows its own addresses.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem(http.StatusMethodNotAllowed, "the dashboard is only looked at", "the API is under "+Prefix).write(w)
		return
	}
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	a, ok := p.files[name]
	if !ok && (name == "" || !strings.Contains(path.Base(name), ".")) {
		a, ok = p.files[index]
	}
	if !ok {
		detail, hint := "no such page", "the dashboard is at /"
		if len(p.files) == 0 {
			detail, hint = "this build of tablekeeper has no dashboard", "the API is there: /openapi.json"
		}
		problem(http.StatusNotFound, detail, hint).write(w)
		return
	}
	a.serve(w, r)
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	tag, body := `"`+a.tag+`"`, a.plain
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache") // ask again, and be told that it has not changed
	if a.packed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		tag, body = `"`+a.tag+`-gzip"`, a.packed
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body) // a HEAD has none; whoever asked may have gone
}
