package admin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	sessionIdle   = 12 * time.Hour      // without a request
	sessionWhole  = 30 * 24 * time.Hour // whatever happens
	sessionRotate = time.Hour           // after which a session gets a new secret
	// sessionGrace is how long the secret before still holds, for requests that were on their way.
	sessionGrace = 2 * time.Minute
)

// SignIn implements Access.
func (k *Keys) SignIn(ctx context.Context, token string) (secret string, who Identity, err error) {
	id, who, err := k.bearer(ctx, token)
	if err != nil {
		return "", who, err
	}
	now := k.now()
	secret, who.Expires = newSecret(), now.Add(sessionIdle)
	if _, err := k.db.ExecContext(ctx, `DELETE FROM sessions WHERE expires <= ?`, now.UnixMilli()); err != nil {
		return "", who, fmt.Errorf("begin a session: %w", err)
	}
	_, err = k.db.ExecContext(ctx, `INSERT INTO sessions (token, hash, begun, rotated, expires) VALUES (?, ?, ?, ?, ?)`,
		id, hashOf(secret), now.UnixMilli(), now.UnixMilli(), who.Expires.UnixMilli())
	if err != nil {
		return "", who, fmt.Errorf("begin a session: %w", err)
	}
	return secret, who, nil
}

// Session implements Access.
func (k *Keys) Session(ctx context.Context, secret string) (who Identity, fresh string, err error) {
	hash, now := hashOf(secret), k.now()
	var id, begun, rotated, expires int64
	var current bool
	err = k.db.QueryRowContext(ctx, `SELECT s.id, t.name, t.role, s.begun, s.rotated, s.expires, s.hash = ?1 FROM sessions s JOIN tokens t ON t.id = s.token
		WHERE (s.hash = ?1 OR (s.previous = ?1 AND s.rotated > ?2)) AND s.expires > ?3`,
		hash, now.Add(-sessionGrace).UnixMilli(), now.UnixMilli()).Scan(&id, &who.Name, &who.Role, &begun, &rotated, &expires, &current)
	if errors.Is(err, sql.ErrNoRows) {
		return Identity{}, "", ErrUnknownToken
	}
	if err != nil {
		return Identity{}, "", fmt.Errorf("look the session up: %w", err)
	}
	who.Expires = fromMillis(expires)
	if !current || now.Sub(fromMillis(rotated)) < sessionRotate {
		return who, "", nil
	}
	return k.rotate(ctx, id, hash, fromMillis(begun), now, who)
}

func (k *Keys) rotate(ctx context.Context, id int64, hash []byte, begun, now time.Time, who Identity) (Identity, string, error) {
	fresh, expires := newSecret(), now.Add(sessionIdle)
	if end := begun.Add(sessionWhole); expires.After(end) {
		expires = end
	}
	done, err := k.db.ExecContext(ctx, `UPDATE sessions SET previous = hash, hash = ?, rotated = ?, expires = ? WHERE id = ? AND hash = ?`,
		hashOf(fresh), now.UnixMilli(), expires.UnixMilli(), id, hash)
	if err != nil {
		return who, "", nil //nolint:nilerr // a full disk: the old secret goes on until it expires
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return who, "", nil //nolint:nilerr // another request was first
	}
	who.Expires = expires
	return who, fresh, nil
}

// SignOut implements Access.
func (k *Keys) SignOut(ctx context.Context, secret string) error {
	hash := hashOf(secret)
	if _, err := k.db.ExecContext(ctx, `DELETE FROM sessions WHERE hash = ? OR previous = ?`, hash, hash); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	return nil
}
