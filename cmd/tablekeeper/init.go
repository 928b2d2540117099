package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

func newInit(p *program) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented configuration file",
		Long: `init writes tablekeeper.yaml (or what --config names) with every setting, its default and what it is for.
--tables and --bucket are entered if given. To find the SQLite files of a machine, see tablekeeper discover.`,
		Example: "  tablekeeper init --tables ./data --bucket ./backups",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path := p.flags.Config
			if path == "" {
				path = "tablekeeper.yaml"
			}
			var sources []configured
			for _, t := range p.flags.Tables {
				sources = append(sources, configured{Path: t})
			}
			if len(sources) == 0 {
				sources = []configured{{Path: "./data"}}
			}
			if err := p.writeConfig(path, configText(sources, p.flags.Bucket), force); err != nil {
				return err
			}
			if p.json {
				return p.screen.Document(map[string]string{"path": path})
			}
			p.screen.Line("wrote %s", path)
			p.screen.Note("Next: edit it, then `tablekeeper check` and `tablekeeper serve`.")
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	return cmd
}

// configured is a source of tables as it is written to a configuration file.
type configured struct {
	Path string `yaml:"path"`
	Name string `yaml:"name,omitempty"`
}

// configText is a whole configuration file. bucket "" leaves a place to fill in.
func configText(sources []configured, bucket string) string {
	if bucket == "" {
		bucket = "./backups"
	}
	escaped := make([]configured, len(sources))
	for i, s := range sources {
		escaped[i] = configured{Path: escapeReferences(s.Path), Name: s.Name}
	}
	tables := yamlText(map[string]any{"tables": escaped})
	return strings.NewReplacer("@TABLES@", tables, "@BUCKET@", yamlText(map[string]string{"bucket": escapeReferences(bucket)})).Replace(configTemplate)
}

// escapeReferences keeps text from being read as a reference to a variable.
func escapeReferences(s string) string { return strings.ReplaceAll(s, "${", "$${") }

func yamlText(v any) string {
	text, err := yaml.MarshalWithOptions(v, yaml.IndentSequence(true))
	if err != nil {
		// Maps, slices and strings always marshal.
		return ""
	}
	return strings.TrimSpace(string(text))
}

// writeConfig creates path, which must not exist unless force is set; "-" is standard output.
func (p *program) writeConfig(path, text string, force bool) error {
	if path == "-" {
		_, err := io.WriteString(p.stdout, text)
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o640)
	if errors.Is(err, fs.ErrExist) {
		return fail(exitFailed, "--force, or --config another.yaml", "%s exists already", path)
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

const configTemplate = `# tablekeeper.yaml. Every setting is explained in docs/configuration.md.
# A flag (--bucket) comes before an environment variable (TABLEKEEPER_BUCKET), that before this file.
# ${NAME} in a value is replaced by the variable NAME, which must be set. Relative paths start at this file.
version: 1

# Where tables are: a folder, a glob (/srv/*/data/*.sqlite3) or a file, each with settings of its own if wanted:
#   - path: /srv/shop/orders.db
#     name: orders                      # default: the file's name without its ending
#     threshold: 10%                    # compact when more of the file than this is free
#     max_pause: 1s                     # never hold up the table's users for longer
#     rpo: 12h                          # overdue when the last backup is older
#     windows: ["02:00-05:00 Europe/Berlin"]   # compact only then
#     schedules: {backup: rate(1 hour)}
@TABLES@

# Where backups go: a folder, s3://bucket/prefix?endpoint=https://host or aws://bucket/prefix?region=eu-central-1.
# A folder on the same disk as the tables does not survive that disk.
@BUCKET@

# A second bucket that restore falls back to.
# second_bucket: aws://bucket/prefix?region=eu-central-1

# Where the history of runs is kept. Default: .tablekeeper in the first folder of tables.
# state: /var/lib/tablekeeper

# Encrypt backups for age recipients. The identity is needed to prove and to restore them.
# encryption:
#   recipients: [age1...]
#   identity_file: /etc/tablekeeper/identity.txt

# Keys of the bucket, if the standard AWS sources (environment, profile, role) do not have them.
# credentials:
#   access_key_id_file: /etc/tablekeeper/access_key
#   secret_access_key_file: /etc/tablekeeper/secret_key

# Parameters of the template: schedules, retention, thresholds. tablekeeper jobs shows what they come to.
# parameters:
#   BackupSchedule: rate(6 hours)

# log: {format: text, level: info}
`
