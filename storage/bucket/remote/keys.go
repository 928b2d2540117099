package remote

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// Keys are the credentials of an S3 account. They print as the first letters of the ID, whatever the verb.
type Keys struct {
	ID, Secret string
	Token      string // of temporary ones
}

// String has no secret.
func (k Keys) String() string {
	if len(k.ID) <= 4 {
		return "(redacted)"
	}
	return k.ID[:4] + "…(redacted)"
}

// Format keeps %+v and %#v from printing fields.
func (k Keys) Format(s fmt.State, _ rune) { fmt.Fprint(s, k.String()) }

// LogValue implements slog.LogValuer.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText implements encoding.TextMarshaler, so that JSON has no secret either.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// KeyFiles name the files that keys are in; see Location.
type KeyFiles struct {
	ID, Secret, Token string // a value each
	Shared            string // in the format of AWS's shared credentials file
	Profile           string
}

// KeyLife is how long keys from files are used before the files are read again, so that they can be rotated in place.
const KeyLife = time.Minute

func (f KeyFiles) check() error {
	switch {
	case (f.ID == "") != (f.Secret == ""):
		return errors.New("access_key_id_file and secret_access_key_file go together")
	case f.ID != "" && f.Shared != "":
		return errors.New("credentials come from credentials_file, or from access_key_id_file and secret_access_key_file, not both")
	case f.Token != "" && f.ID == "":
		return errors.New("session_token_file needs access_key_id_file and secret_access_key_file")
	}
	return nil
}

// Given is whether the keys are to come from files.
func (f KeyFiles) Given() bool { return f.ID != "" || f.Shared != "" }

// Read reads the keys. Errors have names of files and nothing of their content.
func (f KeyFiles) Read(getenv func(string) string) (Keys, error) {
	if f.Shared != "" {
		profile := f.Profile
		if profile == "" {
			profile = getenv("AWS_PROFILE")
		}
		if profile == "" {
			profile = "default"
		}
		return readShared(f.Shared, profile)
	}
	var keys Keys
	for _, value := range []struct {
		path string
		to   *string
	}{{f.ID, &keys.ID}, {f.Secret, &keys.Secret}, {f.Token, &keys.Token}} {
		if value.path == "" {
			continue
		}
		text, err := os.ReadFile(value.path)
		if err != nil {
			return Keys{}, fmt.Errorf("credentials: %w", err)
		}
		*value.to = strings.TrimSpace(string(text))
		if *value.to == "" || strings.ContainsAny(*value.to, " \t\r\n") {
			return Keys{}, fmt.Errorf("credentials: %s must have one value and nothing else", value.path)
		}
	}
	return keys, nil
}

// readShared reads one profile of a shared credentials file; see "Configuration and credential file settings" of the AWS CLI.
func readShared(path, profile string) (Keys, error) {
	file, err := os.Open(path)
	if err != nil {
		return Keys{}, fmt.Errorf("credentials: %w", err)
	}
	defer file.Close()
	var keys Keys
	section, found := "", false
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSpace(strings.TrimSuffix(name, "]"))
			found = found || section == profile
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if section != profile || !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		keys.set(strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value))
	}
	if err := lines.Err(); err != nil {
		return Keys{}, fmt.Errorf("credentials: read %s: %w", path, err)
	}
	if !found {
		return Keys{}, fmt.Errorf("credentials: %s has no profile %s", path, profile)
	}
	if keys.ID == "" || keys.Secret == "" {
		return Keys{}, fmt.Errorf("credentials: profile %s of %s needs aws_access_key_id and aws_secret_access_key", profile, path)
	}
	return keys, nil
}

func (k *Keys) set(name, value string) {
	switch name {
	case "aws_access_key_id":
		k.ID = value
	case "aws_secret_access_key":
		k.Secret = value
	case "aws_session_token":
		k.Token = value
	}
}
