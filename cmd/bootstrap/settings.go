package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/archive"
)

// names are the functions that this program can be.
var names = []string{"compact", "backup", "verify", "restore", "recover", "sweep", adminAPI}

// adminAPI is no function of the fleet: it answers requests.
const adminAPI = "admin"

// settings is what the environment says. docs/aws.md has the variables.
type settings struct {
	Function string
	Tables   string // URL of the bucket of the tables, or a folder on EFS
	Bucket   string // URL of the bucket of the backups
	State    string // URL of the bucket for what is kept of tables and events

	Queue   string // URL of our own queue; "": every event is done in the invocation that brings it
	Recover string // URL of the queue of the tables that are to be recovered; "": nobody recovers them
	Topic   string // ARN; "": nobody is told

	TokenSecret string            // ARN of the secret with the token of the admin API
	Queues      map[string]string // URLs, by function, of the queues that the admin API sends work to

	Recipients     []age.Recipient // whom backups are encrypted to; none: they are not encrypted
	IdentitySecret string          // ARN of the secret with the identity that reads them; ""

	Scratch     string // folder for the files of tables
	Concurrency int    // tables at a time in one invocation

	Threshold  float64
	MaxPause   time.Duration
	RPO        time.Duration
	Retention  time.Duration
	Quarantine time.Duration
	ScrubRate  int64 // bytes a second; 0: no limit
}

// reader collects what is wrong with the environment.
type reader struct {
	getenv func(string) string
	errs   []error
}

func (r *reader) text(name string) string { return strings.TrimSpace(r.getenv("TABLEKEEPER_" + name)) }

func (r *reader) required(name string) string {
	value := r.text(name)
	if value == "" {
		r.errs = append(r.errs, fmt.Errorf("TABLEKEEPER_%s is not set", name))
	}
	return value
}

func (r *reader) number(name string, byDefault float64) float64 {
	text := r.text(name)
	if text == "" {
		return byDefault
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 {
		r.errs = append(r.errs, fmt.Errorf("TABLEKEEPER_%s: %q is no number from 0", name, text))
	}
	return n
}

func (r *reader) duration(name string) time.Duration {
	text := r.text(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		r.errs = append(r.errs, fmt.Errorf("TABLEKEEPER_%s: %q is no duration such as 12h", name, text))
	}
	return d
}

func (r *reader) days(name string) time.Duration {
	return time.Duration(r.number(name, 0) * 24 * float64(time.Hour))
}

func readSettings(getenv func(string) string) (settings, error) {
	r := &reader{getenv: getenv}
	s := settings{
		Function: r.required("FUNCTION"), Tables: r.required("TABLES"), Bucket: r.required("BUCKET"), State: r.required("STATE"),
		Queue: r.text("QUEUE"), Recover: r.text("RECOVER_QUEUE"), Topic: r.text("TOPIC"),
		Scratch:     cmp.Or(r.text("SCRATCH"), filepath.Join(os.TempDir(), "tablekeeper")),
		Concurrency: int(r.number("CONCURRENCY", 2)), Threshold: r.number("COMPACT_THRESHOLD", 0), MaxPause: r.duration("COMPACT_MAX_PAUSE"),
		RPO: r.duration("BACKUP_RPO"), Retention: r.days("RETENTION_DAYS"), Quarantine: r.days("QUARANTINE_DAYS"),
		ScrubRate: int64(r.number("SCRUB_RATE", 0) * 1e6),
	}
	if s.RPO == 0 {
		s.RPO = r.twice("BACKUP_SCHEDULE")
	}
	var err error
	if s.Recipients, err = archive.ParseRecipients(strings.Split(r.text("RECIPIENTS"), ",")); err != nil {
		r.errs = append(r.errs, fmt.Errorf("TABLEKEEPER_RECIPIENTS: %w", err))
	}
	s.IdentitySecret = r.text("IDENTITY_SECRET")
	if s.Function == adminAPI {
		s.TokenSecret = r.required("TOKEN_SECRET")
		s.Queues = map[string]string{"compact": r.required("COMPACT_QUEUE"), "backup": r.required("BACKUP_QUEUE"), "verify": r.required("VERIFY_QUEUE"), "recover": r.required("RECOVER_QUEUE")}
	}
	if s.Function != "" && !slices.Contains(names, s.Function) {
		r.errs = append(r.errs, fmt.Errorf("TABLEKEEPER_FUNCTION: %q is none of %s", s.Function, strings.Join(names, ", ")))
	}
	s.Concurrency = max(s.Concurrency, 1)
	return s, errors.Join(r.errs...)
}

// onEFS tells whether the tables are files.
func (s settings) onEFS() bool { return filepath.IsAbs(s.Tables) }

// addressOf says which bucket a URL means, as the records of backups name it: without the parameters that only say how to
// reach it.
func addressOf(u *url.URL) string {
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/")}
	if endpoint := u.Query().Get("endpoint"); endpoint != "" {
		clean.RawQuery = "endpoint=" + endpoint
	}
	return clean.String()
}

// twice is two intervals of a schedule.
func (r *reader) twice(name string) time.Duration {
	text := r.text(name)
	if text == "" {
		return 0
	}
	x, err := schedule.Parse(text, "UTC")
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("TABLEKEEPER_%s: %w", name, err))
		return 0
	}
	return 2 * x.Interval(time.Now())
}
