package main

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	_ "modernc.org/sqlite" // the version shown is that of the library linked in
)

// version is set by the linker (-X main.version=...).
var version = ""

type versionReport struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	SQLite   string `json:"sqlite"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of tablekeeper, SQLite and Go",
		Example: "  tablekeeper version --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := readVersion(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				return p.screen.Document(report)
			}
			commit := report.Commit
			if report.Modified {
				commit += ", modified"
			}
			if commit != "" {
				commit = " (" + commit + ")"
			}
			p.screen.Line("tablekeeper %s%s", report.Version, commit)
			p.screen.Line("SQLite %s, %s, %s", report.SQLite, report.Go, report.Platform)
			return nil
		},
	}
}

func readVersion(ctx context.Context) (versionReport, error) {
	report := versionReport{
		Version: toolVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				report.Commit = s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				report.Modified = s.Value == "true"
			}
		}
	}
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return report, fmt.Errorf("ask SQLite for its version: %w", err)
	}
	defer db.Close()
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&report.SQLite); err != nil {
		return report, fmt.Errorf("ask SQLite for its version: %w", err)
	}
	return report, nil
}

// toolVersion is the version in words: the linker's, the module's, or "dev".
func toolVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
