package shelf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Reason says in one word why an entry is no table.
type Reason string

// The reasons of a Problem.
const (
	ReasonMissing     Reason = "missing"        // configured, or backed up before, and not there
	ReasonSymlink     Reason = "symlink"        // a symbolic link in a folder or met by a glob
	ReasonDirectory   Reason = "directory"      // a directory where a file should be
	ReasonNotRegular  Reason = "not_regular"    // a FIFO, a socket, a device
	ReasonUnreadable  Reason = "unreadable"     // permission denied, input/output error
	ReasonEmpty       Reason = "empty"          // zero bytes
	ReasonNotDatabase Reason = "not_database"   // no SQLite header
	ReasonBadName     Reason = "bad_name"       // the name breaks the rule of ValidName
	ReasonSameName    Reason = "duplicate_name" // two files would have one name
	ReasonHardLink    Reason = "hard_link"      // two names of one file: SQLite would keep two write-ahead logs
	ReasonStray       Reason = "stray"          // a -wal, -shm or -journal without its database
	ReasonNoMatch     Reason = "no_match"       // a glob that matches nothing
	ReasonBadState    Reason = "bad_state"      // a file of ours that cannot be read
)

// Problem is something in a folder that is no table, or a table about which something must be said.
type Problem struct {
	Path   string   `json:"path"`
	Reason Reason   `json:"reason"`
	Detail string   `json:"detail,omitempty"`
	Hint   string   `json:"hint,omitempty"`
	Others []string `json:"others,omitempty"` // the other files of a duplicate
}

// String is one line, with every unprintable character of the path escaped.
func (p Problem) String() string {
	line := fmt.Sprintf("%q: %s", p.Path, strings.ReplaceAll(string(p.Reason), "_", " "))
	if p.Detail != "" {
		line += ": " + p.Detail
	}
	for _, other := range p.Others {
		line += fmt.Sprintf(", %q", other)
	}
	return line
}

// endings are those that SQLite databases usually have.
var endings = []string{".db", ".db3", ".s3db", ".sl3", ".sqlite", ".sqlite2", ".sqlite3", ".sqlitedb"}

// Ignorable tells whether nobody would take the entry for a table: a directory, a text or a picture in the folder
// whose ending is not that of a database.
func (p Problem) Ignorable() bool {
	switch p.Reason {
	case ReasonDirectory, ReasonNotDatabase, ReasonEmpty, ReasonNotRegular, ReasonSymlink, ReasonUnreadable:
		return !slices.Contains(endings, strings.ToLower(filepath.Ext(p.Path)))
	default:
		return false
	}
}
