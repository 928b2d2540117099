package main

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"tablekeeper/infra/admin"
)

const (
	// shortest is how many characters a token has at least: one that somebody has set by hand must not be guessed.
	shortest = 32
	// tokenHolds is how long the secret is taken as it was read. Another one counts, and ends all sessions, after this time at the latest.
	tokenHolds = 5 * time.Minute
	// sessionHolds is how long a session lasts. Nothing but another token ends one before its time, so it is not prolonged.
	sessionHolds = 12 * time.Hour
)

// entrance knows the holder of the token in the secret. Nothing is kept of a session: its cookie says until when it is good, under a MAC whose key comes
// from the token. So every sandbox knows the sessions of the others, and a new token ends them all. It is the admin.Access of the API.
type entrance struct {
	secrets secrets
	arn     string
	now     func() time.Time

	mu   sync.Mutex
	read time.Time
	known
}

// known is what is kept of a token.
type known struct {
	sum [sha256.Size]byte
	key []byte // of sessions; nil: no token was read
}

func knownOf(token string) (known, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), nil, "tablekeeper admin session 1", sha256.Size)
	return known{sha256.Sum256([]byte(token)), key}, err
}

// current reads the secret, if it was not read just now. If it cannot be read nobody is known: the token may have been taken away.
func (e *entrance) current(ctx context.Context) (known, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.now(); e.key != nil && now.Sub(e.read) < tokenHolds {
		return e.known, nil
	}
	text, err := e.secrets.secret(ctx, e.arn)
	if err != nil {
		return known{}, err
	}
	if text = strings.TrimSpace(text); len(text) < shortest {
		return known{}, fmt.Errorf("the admin token has %d characters, and %d are needed", len(text), shortest)
	}
	k, err := knownOf(text)
	if err == nil {
		e.known, e.read = k, e.now()
	}
	return k, err
}

func (k known) is(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], k.sum[:]) == 1
}

// A session's secret is base64url of 8 bytes, the second until which it is good (Unix, big-endian), and of their HMAC-SHA256.

func (k known) seal(until time.Time) string {
	text := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(k.mac(text))
}

// mac appends the MAC of a text to it.
func (k known) mac(text []byte) []byte {
	m := hmac.New(sha256.New, k.key)
	_, _ = m.Write(text) // never fails (hash.Hash)
	return m.Sum(text)
}

// unseal says until when a session is good; false if it is none of this token's.
func (k known) unseal(secret string) (until time.Time, ok bool) {
	const size = 8
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(sealed) != size+sha256.Size {
		return until, false
	}
	if !hmac.Equal(sealed, k.mac(sealed[:size:size])) {
		return until, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(sealed)), 0).UTC(), true //nolint:gosec // seal has written it
}

// operator is whoever has the token.
func operator(until time.Time) admin.Identity {
	return admin.Identity{Name: string(admin.Operator), Role: admin.Operator, Expires: until}
}

// Bearer implements admin.Access.
func (e *entrance) Bearer(ctx context.Context, token string) (admin.Identity, error) {
	k, err := e.current(ctx)
	if err == nil && !k.is(token) {
		err = admin.ErrUnknownToken
	}
	if err != nil {
		return admin.Identity{}, err
	}
	return operator(time.Time{}), nil
}

// SignIn implements admin.Access.
func (e *entrance) SignIn(ctx context.Context, token string) (secret string, who admin.Identity, err error) {
	k, err := e.current(ctx)
	if err == nil && !k.is(strings.TrimSpace(token)) {
		err = admin.ErrUnknownToken
	}
	if err != nil {
		return "", who, err
	}
	until := e.now().Add(sessionHolds).Truncate(time.Second)
	return k.seal(until), operator(until.UTC()), nil
}

// Session implements admin.Access.
func (e *entrance) Session(ctx context.Context, secret string) (who admin.Identity, fresh string, err error) {
	k, err := e.current(ctx)
	if err != nil {
		return who, "", err
	}
	until, ok := k.unseal(secret)
	if !ok || !e.now().Before(until) {
		return who, "", admin.ErrUnknownToken
	}
	return operator(until), "", nil
}

// SignOut implements admin.Access: the browser forgets the cookie, and there is nothing else to forget.
func (e *entrance) SignOut(context.Context, string) error { return nil }

// knows tells whether a request comes with the token or in a session: if not, with admin.ErrUnknownToken.
func (e *entrance) knows(r *http.Request) error {
	if given := r.Header.Get("Authorization"); given != "" {
		scheme, token, _ := strings.Cut(given, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return admin.ErrUnknownToken
		}
		_, err := e.Bearer(r.Context(), strings.TrimSpace(token))
		return err
	}
	cookie, err := r.Cookie(admin.SecureCookie)
	if err != nil {
		return admin.ErrUnknownToken
	}
	_, _, err = e.Session(r.Context(), cookie.Value)
	return err
}
