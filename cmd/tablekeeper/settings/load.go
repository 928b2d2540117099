package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrInvalid is the root of every error that the user mends by changing a flag, a variable or the file.
var ErrInvalid = errors.New("invalid configuration")

// InvalidError is a configuration error: Text is complete for the reader, Try says what to do.
type InvalidError struct {
	Text string
	Try  string
}

func (e *InvalidError) Error() string        { return e.Text }
func (e *InvalidError) Hint() string         { return e.Try }
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(hint, format string, args ...any) error {
	return &InvalidError{Text: fmt.Sprintf(format, args...), Try: hint}
}

// Flags are the values given on the command line; zero fields were not given.
type Flags struct {
	Config       string
	Tables       []string
	Bucket       string
	SecondBucket string
	State        string
	Template     string
	Listen       string
	LogFormat    string
	LogLevel     string
}

// LoadOptions says where to look. Zero fields are the process's own.
type LoadOptions struct {
	Flags Flags
	// Getenv looks a variable up (os.LookupEnv).
	Getenv func(string) (string, bool)
	// Dir is the working directory, against which flags and variables are resolved (os.Getwd).
	Dir string
}

// Load reads the configuration: flag before variable before file before default. Relative paths in the file are
// relative to the file, others to the working directory. A missing file is an error only if it was named.
func Load(opts LoadOptions) (Config, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.LookupEnv
	}
	if opts.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return Config{}, fmt.Errorf("find the working directory: %w", err)
		}
		opts.Dir = dir
	}
	cfg, err := loadFile(opts)
	if err != nil {
		return Config{}, err
	}
	if cfg.Origins == nil {
		cfg.Origins = map[string]string{}
	}
	cfg.overrideAll(opts)
	cfg.applyDefaults()
	return cfg, cfg.validate()
}

func loadFile(opts LoadOptions) (Config, error) {
	path, named := configPath(opts)
	if path == "" {
		return Config{}, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && named {
		return Config{}, invalid("tablekeeper init --config "+path, "configuration file %s does not exist", path)
	}
	if err != nil {
		return Config{}, invalid("make the file readable for this user", "read configuration: %v", err)
	}
	cfg, err := Parse(path, data, opts.Getenv)
	if err != nil {
		return Config{}, err
	}
	cfg.Path = path
	cfg.resolve(filepath.Dir(path))
	return cfg, nil
}

// configPath is the file to read, and whether the user named it.
func configPath(opts LoadOptions) (path string, named bool) {
	if opts.Flags.Config != "" {
		return absolute(opts.Dir, opts.Flags.Config), true
	}
	if v, ok := opts.Getenv("TABLEKEEPER_CONFIG"); ok && v != "" {
		return absolute(opts.Dir, v), true
	}
	for _, p := range SearchPath(opts) {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p, false
		}
	}
	return "", false
}

// SearchPath lists the files that are looked for when none is named, first match first.
func SearchPath(opts LoadOptions) []string {
	paths := []string{filepath.Join(opts.Dir, "tablekeeper.yaml")}
	base, ok := opts.Getenv("XDG_CONFIG_HOME")
	if home, set := opts.Getenv("HOME"); (!ok || base == "") && set && home != "" {
		base = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(base) {
		paths = append(paths, filepath.Join(base, "tablekeeper", "tablekeeper.yaml"))
	}
	return append(paths, filepath.FromSlash("/etc/tablekeeper/tablekeeper.yaml"))
}

// Variables lists the environment variables that override the file, by the key they stand for.
func Variables() map[string]string {
	return map[string]string{
		"tables": "TABLEKEEPER_TABLES", "bucket": "TABLEKEEPER_BUCKET", "second_bucket": "TABLEKEEPER_SECOND_BUCKET",
		"state": "TABLEKEEPER_STATE", "stores": "TABLEKEEPER_STORES", "template": "TABLEKEEPER_TEMPLATE",
		"listen": "TABLEKEEPER_LISTEN", "metrics_listen": "TABLEKEEPER_METRICS_LISTEN", "public_url": "TABLEKEEPER_PUBLIC_URL",
		"log.format": "TABLEKEEPER_LOG_FORMAT", "log.level": "TABLEKEEPER_LOG_LEVEL",
		"encryption.identity_file":           "TABLEKEEPER_IDENTITY_FILE",
		"encryption.recipients_file":         "TABLEKEEPER_RECIPIENTS_FILE",
		"credentials.access_key_id_file":     "TABLEKEEPER_ACCESS_KEY_ID_FILE",
		"credentials.secret_access_key_file": "TABLEKEEPER_SECRET_ACCESS_KEY_FILE",
		"credentials.session_token_file":     "TABLEKEEPER_SESSION_TOKEN_FILE",
	}
}

func (c *Config) overrideAll(opts LoadOptions) {
	f := opts.Flags
	path := func(s string) string { return absolute(opts.Dir, s) }
	address := func(s string) string { return absoluteAddress(opts.Dir, s) }
	plain := func(s string) string { return s }
	for _, o := range []struct {
		key, flag string
		to        *string
		resolve   func(string) string
	}{
		{"bucket", f.Bucket, &c.Bucket, address},
		{"second_bucket", f.SecondBucket, &c.SecondBucket, address},
		{"state", f.State, &c.State, path},
		{"stores", "", &c.Stores, func(s string) string {
			if s == Off {
				return s
			}
			return path(s)
		}},
		{"template", f.Template, &c.Template, path},
		{"listen", f.Listen, &c.Listen, plain},
		{"metrics_listen", "", &c.MetricsListen, plain},
		{"public_url", "", &c.PublicURL, plain},
		{"log.format", f.LogFormat, &c.Log.Format, plain},
		{"log.level", f.LogLevel, &c.Log.Level, plain},
		{"encryption.identity_file", "", &c.Encryption.IdentityFile, path},
		{"encryption.recipients_file", "", &c.Encryption.RecipientsFile, path},
		{"credentials.access_key_id_file", "", &c.Credentials.AccessKeyIDFile, path},
		{"credentials.secret_access_key_file", "", &c.Credentials.SecretAccessKeyFile, path},
		{"credentials.session_token_file", "", &c.Credentials.SessionTokenFile, path},
	} {
		if v := c.override(opts, o.key, o.flag); v != "" {
			*o.to = o.resolve(v)
		}
	}
	c.overrideTables(opts)
}

func (c *Config) override(opts LoadOptions, key, flag string) string {
	variable := Variables()[key]
	if flag != "" {
		c.Origins[key] = "--" + strings.ReplaceAll(strings.ReplaceAll(key, "_", "-"), ".", "-")
		return flag
	}
	if v, ok := opts.Getenv(variable); ok && v != "" {
		c.Origins[key] = variable
		return v
	}
	return ""
}

func (c *Config) overrideTables(opts LoadOptions) {
	dirs := opts.Flags.Tables
	if len(dirs) > 0 {
		c.Origins["tables"] = "--tables"
	} else if v, ok := opts.Getenv("TABLEKEEPER_TABLES"); ok && v != "" {
		dirs = filepath.SplitList(v)
		c.Origins["tables"] = "TABLEKEEPER_TABLES"
	}
	if len(dirs) == 0 {
		return
	}
	c.Tables = nil
	for _, dir := range dirs {
		c.Tables = append(c.Tables, Source{Path: absolute(opts.Dir, dir)})
	}
}
