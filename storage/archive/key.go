package archive

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	keyTime      = "20060102T150405.000Z"
	keyIDLen     = 8
	keySuffix    = ".db.zst"
	keyEncrypted = ".age"
	maxTableName = 64
)

// Key is the name of a backup in a bucket:
//
//	<table>/<UTC 20060102T150405.000Z>-<8 hex digits>.db.zst[.age]
//
// Names of one table sort by time.
type Key struct {
	Table     string
	Created   time.Time // UTC, to the millisecond
	ID        string    // 8 hex digits, of SnapshotID
	Encrypted bool
}

// ParseKey reads a key as String writes it, and refuses everything else: what
// a bucket lists is input.
func ParseKey(s string) (Key, error) {
	table, name, ok := strings.Cut(s, "/")
	if !ok || !validTable(table) {
		return Key{}, fmt.Errorf("backup key %.200q: no table's name before a slash", s)
	}
	k := Key{Table: table}
	name, k.Encrypted = strings.CutSuffix(name, keyEncrypted)
	name, ok = strings.CutSuffix(name, keySuffix)
	if !ok {
		return Key{}, fmt.Errorf("backup key %.200q: does not end in %s or %s%s", s, keySuffix, keySuffix, keyEncrypted)
	}
	stamp, id, ok := strings.Cut(name, "-")
	if !ok || !validID(id) {
		return Key{}, fmt.Errorf("backup key %.200q: no %d lower-case hex digits after the time", s, keyIDLen)
	}
	k.ID = id
	created, err := time.Parse(keyTime, stamp)
	if err != nil {
		return Key{}, fmt.Errorf("backup key %.200q: time is not %s", s, keyTime)
	}
	k.Created = created.UTC()
	if k.String() != s {
		return Key{}, fmt.Errorf("backup key %.200q: canonical form is %s", s, k)
	}
	return k, nil
}

// String is the key as the bucket knows it.
func (k Key) String() string {
	s := k.Table + "/" + k.Created.UTC().Format(keyTime) + "-" + k.ID + keySuffix
	if k.Encrypted {
		s += keyEncrypted
	}
	return s
}

// IsZero says whether k names no backup.
func (k Key) IsZero() bool { return k == Key{} }

// Compare orders keys of one table from the oldest to the newest: as their
// names sort.
func (k Key) Compare(other Key) int {
	return cmp.Compare(k.String(), other.String())
}

// check refuses a key that ParseKey would not give back.
func (k Key) check() error {
	parsed, err := ParseKey(k.String())
	if err != nil {
		return err
	}
	if !parsed.Created.Equal(k.Created) {
		return fmt.Errorf("backup key %s: time is finer than a millisecond", k)
	}
	return nil
}

// NextKey names a new backup so that it sorts after newest, the newest known of
// the table, even if the clock has jumped back: then the key's time is a
// millisecond past the newest's. A zero newest means that there is none.
func NextKey(table string, now time.Time, id string, encrypted bool, newest Key) Key {
	k := Key{Table: table, Created: now.UTC().Truncate(time.Millisecond), ID: id, Encrypted: encrypted}
	if newest.IsZero() || k.Created.After(newest.Created) {
		return k
	}
	k.Created = newest.Created.UTC().Add(time.Millisecond)
	if k.Created.Year() > 9999 {
		// The end of what the name can hold; only a forged key gets here.
		k.Created, k.ID = newest.Created.UTC(), nextID(newest.ID)
	}
	return k
}

func nextID(id string) string {
	n, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		return id
	}
	return fmt.Sprintf("%0*x", keyIDLen, n+1)
}

// SnapshotID tells snapshots of one millisecond apart: the first 8 hex digits of
// the SHA-256 of page 1 followed by the page count (8 bytes, little endian).
// Page 1 holds SQLite's change counter, and is known before the first byte is
// uploaded, when an object store needs the name; the hash of all content is in
// the manifest.
func SnapshotID(page1 []byte, pageCount int64) string {
	h := sha256.New()
	h.Write(page1)
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(pageCount)))
	return hex.EncodeToString(h.Sum(nil))[:keyIDLen]
}

func validTable(s string) bool {
	if len(s) == 0 || len(s) > maxTableName || s[0] == '_' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isDigit(c) && (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func validID(s string) bool { return len(s) == keyIDLen && isHex(s) }

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
