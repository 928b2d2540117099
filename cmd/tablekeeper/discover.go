package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tablekeeper/cmd/tablekeeper/screen"
	"tablekeeper/storage/table"
)

type discoverFlags struct {
	write string
	all   bool
	force bool
}

func newDiscover(p *program) *cobra.Command {
	var f discoverFlags
	cmd := &cobra.Command{
		Use:   "discover [ROOT [NAME...]]",
		Short: "Find SQLite files and write the configuration for those chosen",
		Long: `discover looks below ROOT (default: the working directory) for files that begin like an SQLite database, whatever they
are called, and shows their size, free share, journal mode and which processes have them open. It reads 16 bytes of each
file, follows no symbolic links, and leaves /proc, /sys, /dev and /run out.

With --write it writes a configuration for the tables that are named, for --all, or, on a terminal, for those you pick.`,
		Example: `  tablekeeper discover /srv
  tablekeeper discover /srv --write tablekeeper.yaml --all
  tablekeeper discover /srv orders users --write tablekeeper.yaml --bucket /mnt/backups`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := "."
			if len(args) > 0 {
				root, args = args[0], args[1:]
			}
			if f.write == "" && (f.all || len(args) > 0) {
				return usage("tablekeeper discover "+root+" --write tablekeeper.yaml", "tables were chosen, but not where to write them")
			}
			search := search{root: root, note: p.screen.Progress(p.now)}
			found, err := search.run(cmd.Context())
			search.note.Done()
			if err != nil {
				return err
			}
			return p.discovered(found, search, args, f)
		},
	}
	cmd.Flags().StringVarP(&f.write, "write", "w", "", "write a configuration to `FILE`; - is standard output")
	cmd.Flags().BoolVar(&f.all, "all", false, "choose every table found")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace the file if it exists")
	return cmd
}

// discovery is one SQLite file that was found.
type discovery struct {
	Name      string          `json:"name"`
	Path      string          `json:"path"`
	Bytes     int64           `json:"bytes"`
	FreeBytes int64           `json:"free_bytes"`
	FreeRatio float64         `json:"free_ratio"`
	Journal   string          `json:"journal_mode,omitempty"`
	Processes []table.Process `json:"processes"`
	Problem   string          `json:"problem,omitempty"`
}

type discoveries struct {
	Tables     []discovery `json:"tables"`
	Unreadable int         `json:"unreadable_folders"`
	// ProcessesComplete is false where not every process can be looked into.
	ProcessesComplete bool `json:"processes_complete"`
}

func (p *program) discovered(found []discovery, s search, names []string, f discoverFlags) error {
	if p.json && f.write != "-" {
		if err := p.screen.Document(discoveries{found, s.denied, s.complete}); err != nil {
			return err
		}
	} else if f.write != "-" {
		p.showDiscoveries(found, s)
	}
	if f.write == "" {
		if len(found) > 0 {
			p.screen.Note("To keep them: tablekeeper discover %s --write tablekeeper.yaml", s.root)
		}
		return nil
	}
	chosen, err := p.choose(found, names, f)
	if err != nil {
		return err
	}
	sources := make([]configured, len(chosen))
	for i, d := range chosen {
		sources[i] = configured{Path: d.Path, Name: d.Name}
	}
	if err := p.writeConfig(f.write, configText(sources, absolutePath(p.flags.Bucket)), f.force); err != nil {
		return err
	}
	p.screen.Note("Wrote %s with %s. Next: tablekeeper check --config %s", f.write, screen.Count(len(chosen), "table"), f.write)
	return nil
}

// absolutePath makes a plain folder absolute: the configuration may be written elsewhere.
func absolutePath(bucket string) string {
	if bucket == "" || strings.Contains(bucket, ":") {
		return bucket
	}
	if abs, err := filepath.Abs(bucket); err == nil {
		return abs
	}
	return bucket
}

func (p *program) showDiscoveries(found []discovery, s search) {
	rows := make([][]screen.Cell, len(found))
	var bytes, free int64
	for i, d := range found {
		share := screen.Cell{Text: screen.Percent(d.FreeRatio)}
		if d.FreeRatio > defaultThreshold {
			share.Tone = screen.Careful
		}
		last := screen.Text("%s", processList(d.Processes))
		if d.Problem != "" {
			last = screen.Cell{Text: "! " + d.Problem, Tone: screen.Careful}
		}
		rows[i] = []screen.Cell{screen.Text("%d", i+1), {Text: d.Name}, screen.Text("%s", screen.Bytes(d.Bytes)), share, {Text: d.Journal}, last, {Text: d.Path}}
		bytes += d.Bytes
		free += d.FreeBytes
	}
	if len(rows) > 0 {
		p.screen.Table([]string{"#>", "table", "size>", "free>", "journal", "open in", "path"}, rows)
	}
	files := screen.Count(len(found), "SQLite file")
	if len(found) > 0 {
		p.screen.Line("%s, %s, of which %s are free pages.", files, screen.Bytes(bytes), screen.Bytes(free))
	} else {
		p.screen.Line("%s below %s.", files, s.root)
	}
	if s.denied > 0 {
		p.screen.Note("%s could not be read; run as root to see them.", screen.Count(s.denied, "folder"))
	}
	if !s.complete {
		p.screen.Note("Not every process can be looked into from here, so `open in` may lack some.")
	}
}

func processList(processes []table.Process) string {
	const most = 3
	var names []string
	for i, proc := range processes {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(processes)-most))
			break
		}
		names = append(names, proc.String())
	}
	return strings.Join(names, ", ")
}

// choose is the tables to write: those named, all, or those a person picks.
func (p *program) choose(found []discovery, names []string, f discoverFlags) ([]discovery, error) {
	if len(found) == 0 {
		return nil, fail(exitNotFound, "name another ROOT", "no SQLite files were found")
	}
	switch {
	case f.all:
		return found, nil
	case len(names) > 0:
		return pick(found, names)
	case !p.screen.Interactive:
		return nil, usage("--all, or name tables after ROOT", "which of the %d tables?", len(found))
	}
	fmt.Fprint(p.stderr, "Which? Numbers or names with spaces between, or all: ")
	line, err := bufio.NewReader(p.stdin).ReadString('\n')
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\t' || r == '\r' })
	if err != nil && len(words) == 0 {
		return nil, fail(exitUnsure, "--all, or name tables after ROOT", "nothing was chosen")
	}
	if slices.Equal(words, []string{"all"}) {
		return found, nil
	}
	if len(words) == 0 {
		return nil, fail(exitUnsure, "--all, or name tables after ROOT", "nothing was chosen")
	}
	return pick(found, words)
}

func pick(found []discovery, words []string) ([]discovery, error) {
	var chosen []discovery
	for _, word := range words {
		i := slices.IndexFunc(found, func(d discovery) bool { return d.Name == word })
		if n, err := strconv.Atoi(word); i < 0 && err == nil && n >= 1 && n <= len(found) {
			i = n - 1
		}
		if i < 0 {
			return nil, fail(exitNotFound, "use a name or a number of the list", "%q was not found", word)
		}
		chosen = append(chosen, found[i])
	}
	return chosen, nil
}

// describe adds what the file itself tells. A file that cannot be read as a table is still listed, with the problem.
func (d *discovery) describe(stats table.Stats, err error) {
	switch {
	case errors.Is(err, os.ErrPermission):
		d.Problem = "it may not be read by this user"
	case err != nil:
		d.Problem = err.Error()
	default:
		d.Bytes, d.FreeRatio, d.Journal = stats.Bytes, stats.FreeRatio, stats.JournalMode
		d.FreeBytes = stats.FreePages * stats.PageSize
	}
}
