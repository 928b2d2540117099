// Package settings reads what a user configured: flags, TABLEKEEPER_* variables, tablekeeper.yaml and defaults, in
// that order of precedence, and remembers where each value came from so that an error or `check` can say so.
//
// It knows nothing of tables, buckets or schedules: values that other packages parse (windows, schedules, bucket
// addresses, template parameters) are carried as text, with the line they stand on.
package settings

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Version is the version of the configuration format this build reads.
const Version = 1

// Config is everything that can be configured. It is the shape of tablekeeper.yaml, too.
type Config struct {
	Version      int      `yaml:"version"`
	Tables       []Source `yaml:"tables"`
	Bucket       string   `yaml:"bucket"`
	SecondBucket string   `yaml:"second_bucket"`
	State        string   `yaml:"state"`
	// Stores is the folder of the nine tables that the service owns; "off": it owns none. Default: stores in the state folder.
	Stores      string            `yaml:"stores"`
	Template    string            `yaml:"template"`
	Encryption  Encryption        `yaml:"encryption"`
	Credentials Credentials       `yaml:"credentials"`
	Parameters  map[string]Scalar `yaml:"parameters"`
	Listen      string            `yaml:"listen"`
	// PublicURL is the address that people type, where a proxy stands before the service.
	PublicURL     string `yaml:"public_url"`
	MetricsListen string `yaml:"metrics_listen"` // for /metrics without a token; "": /metrics is on Listen, with one
	TLS           TLS    `yaml:"tls"`
	Alerts        Alerts `yaml:"alerts"`
	Log           Log    `yaml:"log"`

	// Path is the file that was read, "" if none was found.
	Path string `yaml:"-"`
	// Origins tells for each key that is set where its value came from: "--bucket", "TABLEKEEPER_BUCKET" or
	// "tablekeeper.yaml:4". A key that is missing here has its default.
	Origins map[string]string `yaml:"-"`
}

// Source is one place that tables come from: a folder, a glob or a file. Zero fields are the defaults.
type Source struct {
	Path      string            `yaml:"path"`
	Name      string            `yaml:"name"`
	Threshold Ratio             `yaml:"threshold"`
	MaxPause  Duration          `yaml:"max_pause"`
	RPO       Duration          `yaml:"rpo"`
	Windows   []string          `yaml:"windows"`
	Schedules map[string]string `yaml:"schedules"`
}

// Encryption says for whom backups are encrypted (age recipients) and with which identity they are read.
type Encryption struct {
	Recipients     []string `yaml:"recipients"`
	RecipientsFile string   `yaml:"recipients_file"`
	IdentityFile   string   `yaml:"identity_file"`
}

// Credentials names the files that hold the keys of the bucket. Without them the standard AWS sources are asked.
type Credentials struct {
	AccessKeyIDFile     string `yaml:"access_key_id_file"`
	SecretAccessKeyFile string `yaml:"secret_access_key_file"`
	SessionTokenFile    string `yaml:"session_token_file"`
}

// Log says how the log on standard error looks. Format is text or json; Level debug, info, warn or error.
type Log struct {
	Format string `yaml:"format"`
	Level  string `yaml:"level"`
}

// Ratio is a share between 0 and 1, written 0.1 or 10%.
type Ratio float64

// UnmarshalText reads 0.1 or 10%.
func (r *Ratio) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	number, percent := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return fmt.Errorf("%q is not a share between 0 and 1, such as 0.1 or 10%%", s)
	}
	*r = Ratio(f)
	return nil
}

// Duration is a length of time, written as Go does (90s, 1h30m) or in whole days (2d).
type Duration time.Duration

// UnmarshalText reads 500ms, 1h30m or 2d; a negative length is refused.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// ParseDuration reads 500ms, 1h30m or 2d; a negative length is refused.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 15); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%q is not a length of time, such as 500ms, 1h30m or 2d", s)
	}
	return v, nil
}

// Scalar is a YAML string, number or boolean, kept as its text: a template parameter is text whatever it looks like.
type Scalar string

// UnmarshalText keeps the text as it stands.
func (s *Scalar) UnmarshalText(text []byte) error {
	*s = Scalar(strings.TrimSpace(string(text)))
	return nil
}
