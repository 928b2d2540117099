package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"tablekeeper/storage/privatedb"
)

// Role is what the holder of a token may do.
type Role string

// The roles. An operator may do everything.
const (
	Viewer   Role = "viewer"   // looks, and changes nothing
	Operator Role = "operator" // changes
	Agent    Role = "agent"    // uses the stores under /api/v1 and nothing else
)

// ParseRole reads a role.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Viewer, Operator, Agent:
		return r, nil
	}
	return "", fmt.Errorf("%q is no role: use viewer, operator or agent", s)
}

// Token is a token as it is listed. The secret itself is kept nowhere.
type Token struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"` // to the minute
}

// Identity is who asks.
type Identity struct {
	Name    string // of the token
	Role    Role
	Expires time.Time // of the session; zero for a bearer of the token itself
}

var (
	// ErrUnknownToken is a token, or a session, that is not known: wrong, revoked or expired.
	ErrUnknownToken = errors.New("the token is not known")
	// ErrBadName is a name that no token can have.
	ErrBadName = errors.New("a name is made of a-z, 0-9 and . _ @ -, 64 at most")
	// ErrNameTaken is a name that another token has.
	ErrNameTaken = errors.New("a token of this name exists")
)

// Keys keeps who may come in, in the file admin.db (0600) of the state folder: tokens as their hashes, sessions, and the record of every change.
// Several processes may have it open: the service, and the command that adds a token.
type Keys struct {
	db  *sql.DB
	now func() time.Time
}

// KeysFile is the name of the file in the state folder.
const KeysFile = "admin.db"

var keysSchema = privatedb.Schema{Version: 1, SQL: `
CREATE TABLE IF NOT EXISTS tokens (
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL UNIQUE,
  role    TEXT NOT NULL,
  hash    BLOB NOT NULL UNIQUE,
  created INTEGER NOT NULL,
  used    INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS sessions (
  id       INTEGER PRIMARY KEY,
  token    INTEGER NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
  hash     BLOB NOT NULL UNIQUE,
  previous BLOB,
  begun    INTEGER NOT NULL,
  rotated  INTEGER NOT NULL,
  expires  INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_previous ON sessions (previous) WHERE previous IS NOT NULL;
CREATE TABLE IF NOT EXISTS audit (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  role     TEXT NOT NULL,
  origin   TEXT NOT NULL,
  method   TEXT NOT NULL,
  path     TEXT NOT NULL,
  status   INTEGER NOT NULL DEFAULT 0,
  run      TEXT NOT NULL DEFAULT ''
);
`}

// OpenKeys opens or makes admin.db in a folder, which must exist. now is nil for the real clock.
func OpenKeys(ctx context.Context, folder string, now func() time.Time) (*Keys, error) {
	if now == nil {
		now = time.Now
	}
	db, err := privatedb.Open(ctx, filepath.Join(folder, KeysFile), keysSchema, "synchronous(NORMAL)", "foreign_keys(ON)")
	if err != nil {
		return nil, fmt.Errorf("open the tokens: %w", err)
	}
	return &Keys{db: db, now: now}, nil
}

// Close closes the file.
func (k *Keys) Close() error { return k.db.Close() }

// tokenPrefix makes a token known for what it is, to people and to scanners for leaked secrets.
const tokenPrefix = "tk_"

var tokenName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// newSecret makes 256 random bits as text. So long a secret cannot be guessed, which is why a plain SHA-256 of it may be kept.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// AddToken makes a token and gives its secret, which cannot be had again.
// Errors: ErrNameTaken.
func (k *Keys) AddToken(ctx context.Context, name string, role Role) (secret string, err error) {
	if !tokenName.MatchString(name) {
		return "", fmt.Errorf("token %q: %w", name, ErrBadName)
	}
	if _, err := ParseRole(string(role)); err != nil {
		return "", err
	}
	secret = tokenPrefix + newSecret()
	done, err := k.db.ExecContext(ctx, `INSERT INTO tokens (name, role, hash, created) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING`,
		name, string(role), hashOf(secret), k.now().UnixMilli())
	if err != nil {
		return "", fmt.Errorf("keep the token: %w", err)
	}
	if n, err := done.RowsAffected(); err == nil && n == 0 {
		return "", fmt.Errorf("token %s: %w", name, ErrNameTaken)
	}
	return secret, nil
}

// Tokens are all tokens, by name.
func (k *Keys) Tokens(ctx context.Context) ([]Token, error) {
	rows, err := k.db.QueryContext(ctx, `SELECT name, role, created, used FROM tokens ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	defer rows.Close()
	all := []Token{}
	for rows.Next() {
		var t Token
		var created, used int64
		if err := rows.Scan(&t.Name, &t.Role, &created, &used); err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		t.Created, t.Used = fromMillis(created), fromMillis(used)
		all = append(all, t)
	}
	return all, rows.Err()
}

// RevokeToken removes a token, and ends the sessions that were begun with it; fs.ErrNotExist if there is none.
func (k *Keys) RevokeToken(ctx context.Context, name string) error {
	done, err := k.db.ExecContext(ctx, `DELETE FROM tokens WHERE name = ?`, name)
	if err != nil {
		return fmt.Errorf("revoke token %s: %w", name, err)
	}
	if n, err := done.RowsAffected(); err == nil && n == 0 {
		return fmt.Errorf("revoke token %q: %w", name, fs.ErrNotExist)
	}
	return nil
}

// Bearer implements Access.
func (k *Keys) Bearer(ctx context.Context, token string) (Identity, error) {
	_, who, err := k.bearer(ctx, token)
	return who, err
}

// bearer says whose token it is, or ErrUnknownToken.
func (k *Keys) bearer(ctx context.Context, secret string) (id int64, who Identity, err error) {
	if !strings.HasPrefix(secret, tokenPrefix) {
		return 0, Identity{}, ErrUnknownToken
	}
	now := k.now().UnixMilli()
	var used int64
	err = k.db.QueryRowContext(ctx, `SELECT id, name, role, used FROM tokens WHERE hash = ?`, hashOf(secret)).Scan(&id, &who.Name, &who.Role, &used)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, Identity{}, ErrUnknownToken
	}
	if err != nil {
		return 0, Identity{}, fmt.Errorf("look the token up: %w", err)
	}
	if now-used > time.Minute.Milliseconds() {
		// When a token was last used is good to know, and no reason to turn anybody away.
		_, _ = k.db.ExecContext(ctx, `UPDATE tokens SET used = ? WHERE id = ?`, now, id)
	}
	return id, who, nil
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
