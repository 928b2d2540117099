package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Prefixes of the bucket that keeps what is known of tables and events. Each has a rule of its own in the template.
const (
	statePrefix      = "tablekeeper-state/"
	quarantinePrefix = "tablekeeper-quarantine/"
	eventPrefix      = "tablekeeper-events/"
)

// keepsake is what storage/shelf keeps beside a table, of a table that is an object: one object more.
type keepsake struct {
	Format int `json:"format"`
	// Version is that of the table's object (and its -wal) whose content the record of the last backup is about.
	Version string `json:"version,omitempty"`
	// Found is what a compaction last said of the table, if it left it as it is.
	Found *finding `json:"found,omitempty"`
	// Files are the small files that belong beside the table, by ending.
	Files map[string]string `json:"files"`
}

const keepsakeFormat = 1

// kinds are the endings of the files that are kept.
var kinds = []string{".backup", ".state", ".recovery"}

func readKeepsake(ctx context.Context, from bucket.Bucket, name string) (keepsake, string, error) {
	k := keepsake{Format: keepsakeFormat, Files: map[string]string{}}
	info, err := from.Head(ctx, statePrefix+name+".json")
	if errors.Is(err, fs.ErrNotExist) {
		return k, "", nil
	}
	var text []byte
	if err == nil {
		text, err = readAll(ctx, from, info.Key)
	}
	if err != nil {
		return k, "", fmt.Errorf("read what is kept of %s: %w", name, err)
	}
	if err := json.Unmarshal(text, &k); err != nil || k.Format != keepsakeFormat || k.Files == nil {
		// It is a memory, not the truth: without it the table is read again.
		return keepsake{Format: keepsakeFormat, Files: map[string]string{}}, info.ETag, nil //nolint:nilerr // as above
	}
	return k, info.ETag, nil
}

// largest small object, in bytes.
const smallObject = 1 << 20

func readAll(ctx context.Context, from bucket.Reader, key string) ([]byte, error) {
	body, err := from.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(body, smallObject))
	return text, errors.Join(err, body.Close())
}

// lay puts the files beside the table at path.
func (k keepsake) lay(path string) error {
	if len(k.Files) == 0 {
		return nil
	}
	if err := table.MakeStateDir(path); err != nil {
		return err
	}
	for _, kind := range kinds {
		if text, ok := k.Files[kind]; ok {
			if err := os.WriteFile(besideOf(path, kind), []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

func besideOf(path, kind string) string {
	return filepath.Join(table.StateDir(path), filepath.Base(path)+kind)
}

// recall lays what is kept beside the table that was fetched. The record of the last backup knows a file by its inode and
// times; if it was of this very version of the object, it is told that this is the file.
func (s *stay) recall(ctx context.Context) error {
	kept, _, err := readKeepsake(ctx, s.state, s.name)
	if err != nil {
		return err
	}
	s.kept = kept
	if err := kept.lay(s.path); err != nil {
		return err
	}
	record, err := shelf.ReadRecord(s.path)
	if err != nil || !s.content || s.main.Key == "" {
		return nil //nolint:nilerr // no record, or none that can be read: the function reads the table
	}
	record.Token = ""
	if kept.Version == s.version() {
		token, err := table.ReadToken(s.path)
		if err != nil {
			return nil //nolint:nilerr // the function will say what is wrong with the table
		}
		record.Token = string(token)
	}
	return shelf.WriteRecord(s.path, record)
}

// remember keeps what the function has left beside the table. Several functions may do so at once: each changes only what it
// has changed.
func (s *stay) remember(ctx context.Context) error {
	now := map[string]string{}
	for _, kind := range kinds {
		text, err := os.ReadFile(besideOf(s.path, kind))
		if err == nil {
			now[kind] = string(text)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	version := s.kept.Version
	if s.content && s.recorded() {
		version = s.version()
	}
	if s.found != nil {
		s.found.Version = s.version()
	}
	if maps.Equal(now, s.kept.Files) && version == s.kept.Version && s.found == nil {
		return nil
	}
	const attempts = 5
	var err error
	for range attempts {
		if err = s.rewrite(ctx, now, version); !errors.Is(overtaken(err), errOvertaken) {
			return err
		}
	}
	return err
}

// recorded tells whether the record is of the file that was worked on.
func (s *stay) recorded() bool {
	record, err := shelf.ReadRecord(s.path)
	if err != nil || record.Token == "" {
		return false
	}
	token, err := table.ReadToken(s.path)
	return err == nil && string(token) == record.Token
}

func (s *stay) rewrite(ctx context.Context, now map[string]string, version string) error {
	current, etag, err := readKeepsake(ctx, s.state, s.name)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		text, is := now[kind]
		if was, had := s.kept.Files[kind]; is == had && text == was {
			continue
		}
		if current.Files[kind] != s.kept.Files[kind] && !s.content {
			continue // whoever has read the table knows better
		}
		delete(current.Files, kind)
		if is {
			current.Files[kind] = text
		}
	}
	if version != s.kept.Version {
		current.Version = version
	}
	if s.found != nil {
		current.Found = s.found
	}
	text, err := json.Marshal(current)
	if err != nil {
		return err
	}
	_, err = s.state.Put(ctx, statePrefix+s.name+".json", bytes.NewReader(text), bucket.PutOptions{IfAbsent: etag == "", IfMatch: etag})
	if err != nil {
		return fmt.Errorf("keep what is known of %s: %w", s.name, err)
	}
	return nil
}
