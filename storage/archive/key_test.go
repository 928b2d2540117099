package archive

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKeyString(t *testing.T) {
	for _, tc := range []struct {
		key  Key
		want string
	}{
		{Key{"users", time.Date(2026, 11, 22, 19, 30, 0, 123e6, time.UTC), "00c0ffee", false}, "users/20261122T193000.123Z-00c0ffee.db.zst"},
		{Key{"a", time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), "ffffffff", true}, "a/19700101T000000.000Z-ffffffff.db.zst.age"},
		{Key{"a-b_c", time.Date(2026, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)), "00000000", false}, "a-b_c/20260101T000000.000Z-00000000.db.zst"},
	} {
		if got := tc.key.String(); got != tc.want {
			t.Errorf("String = %s, want %s", got, tc.want)
		}
		back, err := ParseKey(tc.want)
		if err != nil || back.String() != tc.want || !back.Created.Equal(tc.key.Created) || back.Encrypted != tc.key.Encrypted {
			t.Errorf("ParseKey(%s) = %+v, %v", tc.want, back, err)
		}
	}
}

func TestHostileKeysAreRefused(t *testing.T) {
	const good = "users/20261122T193000.123Z-00c0ffee.db.zst"
	for _, s := range []string{
		"", "/", "users", "users/", "users/x", "/" + good, good + "/", good + ".gz", good + ".age.age", " " + good, good + "\n",
		"../20261122T193000.123Z-00c0ffee.db.zst", "users/../" + good, "a/" + good, "users//20261122T193000.123Z-00c0ffee.db.zst",
		"Users/20261122T193000.123Z-00c0ffee.db.zst", "_u/20261122T193000.123Z-00c0ffee.db.zst", "-u/20261122T193000.123Z-00c0ffee.db.zst",
		"us ers/20261122T193000.123Z-00c0ffee.db.zst", "us\x00ers/20261122T193000.123Z-00c0ffee.db.zst", "käse/20261122T193000.123Z-00c0ffee.db.zst",
		strings.Repeat("a", 65) + "/20261122T193000.123Z-00c0ffee.db.zst",
		"users/20261122T193000.123Z-00C0FFEE.db.zst", "users/20261122T193000.123Z-00c0ffe.db.zst", "users/20261122T193000.123Z-00c0ffeee.db.zst",
		"users/20261122T193000.123Z-00c0ffeg.db.zst", "users/20261122T193000.123Z-.db.zst", "users/20261122T193000.123Z.db.zst",
		"users/20261322T193000.123Z-00c0ffee.db.zst", "users/20260230T193000.123Z-00c0ffee.db.zst", "users/20261122T193000,123Z-00c0ffee.db.zst",
		"users/20261122T193000.12Z-00c0ffee.db.zst", "users/20261122T193000.1234Z-00c0ffee.db.zst", "users/20261122T193060.123Z-00c0ffee.db.zst",
		"users/20261122T193000.123+00-00c0ffee.db.zst", "users/120261122T193000.123Z-00c0ffee.db.zst", "users/20261122t193000.123z-00c0ffee.db.zst",
		"users/20261122T193000.123Z-00c0ffee.db.zst.AGE", "users/20261122T193000.123Z-00c0ffee.db", "users/20261122T193000.123Z-00c0ffee.zst",
	} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("%q is taken for %+v", s, k)
		}
	}
	if _, err := ParseKey(strings.Repeat("x", 1<<20)); err == nil || len(err.Error()) > 1000 {
		t.Errorf("a long key floods the error: %d bytes", len(err.Error()))
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("users/20261122T193000.123Z-00c0ffee.db.zst")
	f.Add("a/19700101T000000.000Z-ffffffff.db.zst.age")
	f.Add("users/../x")
	f.Add("u/00000101T000000.000Z-00000000.db.zst")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err != nil {
			return
		}
		if k.String() != s {
			t.Fatalf("%q is read as %q", s, k)
		}
		if err := k.check(); err != nil {
			t.Fatal(err)
		}
		if next := NextKey(k.Table, k.Created, "00000000", false, k); next.Compare(k) <= 0 && k.ID != "ffffffff" {
			t.Fatalf("%s does not sort after %s", next, k)
		}
	})
}

// Whatever the clock does, the next key sorts after the newest, as a name and as
// a time, and can be read back.
func TestNextKeySortsAfterTheNewest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var newest Key
		for range 10 {
			now := time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(rt, "clock"))
			id := SnapshotID([]byte{rapid.Byte().Draw(rt, "page 1")}, 1)
			k := NextKey("users", now, id, rapid.Bool().Draw(rt, "encrypted"), newest)
			if err := k.check(); err != nil {
				rt.Fatal(err)
			}
			if !newest.IsZero() && (k.String() <= newest.String() || !k.Created.After(newest.Created)) {
				rt.Fatalf("%s does not sort after %s", k, newest)
			}
			newest = k
		}
	})
}

func TestNextKeyAtTheEndOfTime(t *testing.T) {
	forged, err := ParseKey("users/99991231T235959.999Z-00000001.db.zst")
	if err != nil {
		t.Fatal(err)
	}
	next := NextKey("users", created, "00000000", false, forged)
	if err := next.check(); err != nil || next.Compare(forged) <= 0 {
		t.Errorf("next is %s (%v)", next, err)
	}
	forged.ID = "ffffffff"
	if next := NextKey("users", created, "00000000", false, forged); next.check() == nil {
		t.Errorf("nothing sorts after %s, and yet %s", forged, next)
	}
}

func TestSnapshotID(t *testing.T) {
	page := []byte("SQLite format 3\x00")
	// printf 'SQLite format 3\0\x2a\0\0\0\0\0\0\0' | sha256sum
	if got, want := SnapshotID(page, 42), sha(append(page[:16:16], 42, 0, 0, 0, 0, 0, 0, 0))[:8]; got != want {
		t.Errorf("SnapshotID = %s, want %s", got, want)
	}
	if SnapshotID(page, 42) == SnapshotID(page, 43) {
		t.Error("the page count does not matter")
	}
}
