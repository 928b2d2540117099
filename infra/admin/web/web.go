// Package web is the dashboard: what the browser gets, as files in the program.
//
// The sources are in src (TypeScript, Preact, uPlot); `go generate` bundles them into dist with esbuild, and both are kept, so
// that `go install` needs no JavaScript tools. What the page shows comes from the admin API (infra/admin), which also serves it.
package web

import (
	"embed"
	"io/fs"
)

//go:generate go run ./build

//go:embed dist
var files embed.FS

// Assets are the files of the dashboard; index.html is the page.
func Assets() fs.FS {
	assets, err := fs.Sub(files, "dist")
	if err != nil {
		panic(err) // dist is embedded above: the compiler has seen it
	}
	return assets
}
