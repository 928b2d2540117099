// Package bundle makes the dashboard's assets of its sources, the same bytes every time. It is used when the dashboard is
// changed, and by the test that the assets are those of the sources; the program itself does not have it.
package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

// copied are sources that go to the browser as they are.
var copied = []string{"index.html", "icon.svg", "manifest.webmanifest"}

// Files bundles the sources of the web folder (with its node_modules) and returns the assets by name.
func Files(web string) (map[string][]byte, error) {
	absolute, err := filepath.Abs(web)
	if err != nil {
		return nil, err
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:     absolute,
		EntryPoints:       []string{"src/app.tsx", "src/worker.ts", "src/app.css"},
		Outdir:            "dist",
		Bundle:            true,
		Format:            api.FormatIIFE,
		Target:            api.ES2022,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		JSX:               api.JSXAutomatic,
		JSXImportSource:   "preact",
		LegalComments:     api.LegalCommentsEndOfFile,
		LogLevel:          api.LogLevelSilent,
	})
	if len(result.Errors) > 0 {
		return nil, fmt.Errorf("bundle the dashboard: %s (is there a node_modules? try npm ci)", api.FormatMessages(result.Errors, api.FormatMessagesOptions{})[0])
	}
	files := map[string][]byte{}
	for _, f := range result.OutputFiles {
		files[filepath.Base(f.Path)] = f.Contents
	}
	for _, name := range copied {
		content, err := os.ReadFile(filepath.Join(web, "src", name))
		if err != nil {
			return nil, err
		}
		files[name] = content
	}
	return files, nil
}

// Write bundles the sources and writes the assets into a folder, and nothing else is left there.
func Write(web, folder string) error {
	files, err := Files(web)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
