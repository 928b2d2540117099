package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// ConfigSchema is the SQL of the table config.
const ConfigSchema = `
CREATE TABLE IF NOT EXISTS settings (
  key      TEXT NOT NULL,
  version  INTEGER NOT NULL,
  revision TEXT NOT NULL UNIQUE,
  value    TEXT NOT NULL,
  deleted  INTEGER NOT NULL,
  author   TEXT NOT NULL,
  changed  INTEGER NOT NULL,
  PRIMARY KEY (key, version)
) WITHOUT ROWID;
`

// Setting is one version of a key. Versions count from 1 by key; revisions order all changes of all keys.
type Setting struct {
	Key      string    `json:"key"`
	Value    string    `json:"value"`
	Version  int64     `json:"version"`
	Revision string    `json:"revision"`
	Deleted  bool      `json:"deleted,omitempty"`
	Author   string    `json:"author"`
	Changed  time.Time `json:"changed"`
}

// AnyVersion lets Set and Delete go ahead whatever the present version is.
const AnyVersion int64 = -1

// Config keeps every version of every key. Watch sees changes made through the same Config at once.
type Config struct {
	table Table
	now   func() time.Time

	mu     sync.Mutex
	notify chan struct{} // closed at the next change
}

// NewConfig opens the store on the table config.
func NewConfig(ctx context.Context, table Table, now func() time.Time) (*Config, error) {
	if err := define(ctx, table, ConfigSchema); err != nil {
		return nil, fmt.Errorf("open config: %w", err)
	}
	return &Config{table: table, now: now, notify: make(chan struct{})}, nil
}

const settingColumns = `key, value, version, revision, deleted, author, changed`

// Set writes a value. It goes ahead only if the key's present version is ifVersion (0: the key does not exist), else
// ErrConflict.
func (c *Config) Set(ctx context.Context, key, value, author string, ifVersion int64) (Setting, error) {
	if err := checkBody("value", value); err != nil {
		return Setting{}, err
	}
	return c.change(ctx, Setting{Key: key, Value: value, Author: author}, ifVersion)
}

// Delete ends a key; its versions stay readable.
func (c *Config) Delete(ctx context.Context, key, author string, ifVersion int64) (Setting, error) {
	if _, err := c.Get(ctx, key); err != nil {
		return Setting{}, err
	}
	return c.change(ctx, Setting{Key: key, Author: author, Deleted: true}, ifVersion)
}

func (c *Config) change(ctx context.Context, s Setting, ifVersion int64) (Setting, error) {
	if err := checkNames("key", s.Key, "author", s.Author); err != nil {
		return Setting{}, err
	}
	s.Changed = c.now().UTC().Truncate(time.Millisecond)
	err := c.table.Write(ctx, func(tx *sql.Tx) error {
		present, err := c.present(ctx, tx, s.Key)
		if err != nil {
			return err
		}
		if visible := visibleVersion(present); ifVersion != AnyVersion && ifVersion != visible {
			return fmt.Errorf("%w: %q is at version %d, not %d", ErrConflict, s.Key, visible, ifVersion)
		}
		s.Version = present.Version + 1
		if s.Revision, err = nextID(ctx, tx, `SELECT max(revision) FROM settings`); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO settings (`+settingColumns+`) VALUES (?,?,?,?,?,?,?)`,
			s.Key, s.Value, s.Version, s.Revision, s.Deleted, s.Author, millis(s.Changed))
		return err
	})
	if err != nil {
		return Setting{}, err
	}
	c.wake()
	return s, nil
}

// visibleVersion is the version callers state: 0 for a key that was never set or was deleted.
func visibleVersion(s Setting) int64 {
	if s.Deleted {
		return 0
	}
	return s.Version
}

// present returns the newest version of a key, the zero Setting if there is none.
func (c *Config) present(ctx context.Context, tx *sql.Tx, key string) (Setting, error) {
	s, err := scanSetting(tx.QueryRowContext(ctx, `SELECT `+settingColumns+` FROM settings WHERE key = ? ORDER BY version DESC LIMIT 1`, key).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Setting{}, nil
	}
	return s, err
}

// Get returns the present value of a key.
func (c *Config) Get(ctx context.Context, key string) (Setting, error) {
	var s Setting
	err := c.table.Read(ctx, func(tx *sql.Tx) (err error) {
		s, err = c.present(ctx, tx, key)
		return err
	})
	if err == nil && visibleVersion(s) == 0 {
		err = fmt.Errorf("config key %.140q: %w", key, ErrNotFound)
	}
	return s, err
}

// Versions returns the versions of a key, newest first.
func (c *Config) Versions(ctx context.Context, key string, limit int) ([]Setting, error) {
	return c.query(ctx, `SELECT `+settingColumns+` FROM settings WHERE key = ? ORDER BY version DESC LIMIT ?`, key, page(limit))
}

// List returns the present values of the keys that begin with prefix and sort after a key, in order.
func (c *Config) List(ctx context.Context, prefix, after string, limit int) ([]Setting, error) {
	return c.query(ctx, `SELECT `+settingColumns+` FROM settings s
		WHERE substr(key, 1, length(?1)) = ?1 AND key > ?2 AND deleted = 0
		AND version = (SELECT max(version) FROM settings WHERE key = s.key) ORDER BY key LIMIT ?3`, prefix, after, page(limit))
}

// Changes returns what changed after a revision, in order; "" is the beginning.
func (c *Config) Changes(ctx context.Context, prefix, after string, limit int) ([]Setting, error) {
	if err := checkCursor(after); err != nil {
		return nil, err
	}
	return c.query(ctx, `SELECT `+settingColumns+` FROM settings WHERE substr(key, 1, length(?1)) = ?1 AND revision > ?2 ORDER BY revision LIMIT ?3`,
		prefix, after, page(limit))
}

// Watch yields changes after a revision as they happen, until ctx ends or the loop breaks. A caller that comes back with the
// revision it saw last misses none.
func (c *Config) Watch(ctx context.Context, prefix, after string) iter.Seq2[Setting, error] {
	return func(yield func(Setting, error) bool) {
		for {
			c.mu.Lock()
			changed := c.notify
			c.mu.Unlock()
			settings, err := c.Changes(ctx, prefix, after, MaxPage)
			if err != nil {
				yield(Setting{}, err)
				return
			}
			for _, s := range settings {
				if !yield(s, nil) {
					return
				}
				after = s.Revision
			}
			if len(settings) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (c *Config) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.notify)
	c.notify = make(chan struct{})
}

func (c *Config) query(ctx context.Context, query string, args ...any) ([]Setting, error) {
	var settings []Setting
	err := c.table.Read(ctx, func(tx *sql.Tx) (err error) {
		settings, err = collect(ctx, tx, scanSetting, query, args...)
		return err
	})
	return settings, err
}

func scanSetting(scan func(...any) error) (s Setting, err error) {
	var changed int64
	err = scan(&s.Key, &s.Value, &s.Version, &s.Revision, &s.Deleted, &s.Author, &changed)
	s.Changed = moment(changed)
	return s, err
}
