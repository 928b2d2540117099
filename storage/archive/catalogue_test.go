package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/faulty"
)

func key(table string, minutes int) Key {
	return Key{Table: table, Created: created.Add(time.Duration(minutes) * time.Minute), ID: "00c0ffee"}
}

// putImage stores an image through a catalogue.
func putImage(ctx context.Context, c *Catalogue, k Key, im *image) (Backup, Manifest, error) {
	return c.Put(ctx, k, func(w io.Writer) (Manifest, error) {
		e, err := c.NewEncoder(w, EncoderOptions{
			Table: k.Table, Created: k.Created, PageSize: im.pageSize, PageCount: int64(len(im.pages))})
		if err != nil {
			return Manifest{}, err
		}
		for i, page := range im.pages {
			if err := e.WritePage(page, im.free[i]); err != nil {
				return Manifest{}, err
			}
		}
		return e.Close(testManifest())
	})
}

// In a real folder, plain and encrypted: put, list, open, restore, mark, sweep.
func TestCatalogueInAFolder(t *testing.T) {
	id := identity(t)
	for name, opts := range map[string]CatalogueOptions{
		"plain":     {},
		"encrypted": {Identities: []age.Identity{id}, Recipients: []age.Recipient{id.Recipient()}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := dir.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			cycle(t, NewCatalogue(b, opts))
		})
	}
}

func cycle(t *testing.T, c *Catalogue) {
	t.Helper()
	ctx := t.Context()
	im := newImage(5, 4096, 700, 0.5)
	var keys []Key
	for range 3 {
		// The clock stands still, and even so names go on.
		k, err := c.NextKey(ctx, "users", created, SnapshotID(im.pages[0], 700))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := putImage(ctx, c, k, im); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	r, err := c.Open(ctx, keys[2])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored(t, r), im.want()) {
		t.Fatal("restored bytes differ")
	}
	if err := c.MarkProved(ctx, keys[2], created.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	listed, err := c.Backups(ctx, "users")
	if err != nil || len(listed) != 3 || listed[0].Key != keys[2] || !listed[0].Proved.Equal(created.Add(time.Hour).Truncate(time.Second)) ||
		listed[0].Superseded || !listed[1].Superseded || !listed[2].Superseded {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	for _, dryRun := range []bool{true, false, false} {
		removed, err := c.Sweep(ctx, "users", keys[1].Created, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("dry run %t removes %v", dryRun, removed)
	}
	latest, err := c.Latest(ctx, "users")
	if err != nil || latest.Key != keys[2] || latest.Size != listed[0].Size {
		t.Fatalf("latest %+v, %v", latest, err)
	}
	left, err := c.Backups(ctx, "users")
	if err != nil || len(left) != 2 {
		t.Fatalf("left %+v, %v: want the newest two, the second is too young to go", left, err)
	}
}

func TestListingIsInput(t *testing.T) {
	m := newMemory()
	m.store(t, key("users", 1), "")
	m.store(t, key("users-old", 3), "")
	m.store(t, key("orders", 2), "")
	for _, foreign := range []string{"users/readme.txt", "users/sub/" + key("users", 1).String(), "Users/x.db.zst",
		"users/20260101T000000.000Z-00c0ffee.db", "zz", "users/../../etc/passwd", "users0/x"} {
		m.objects[foreign] = stored{content: []byte("x")}
	}
	c := NewCatalogue(m, CatalogueOptions{})
	backups, err := c.Backups(t.Context(), "users")
	if err != nil || len(backups) != 1 || backups[0].Key != key("users", 1) {
		t.Errorf("backups %+v, %v", backups, err)
	}
	tables, err := c.Tables(t.Context())
	if err != nil || !slices.Equal(tables, []string{"orders", "users", "users-old"}) {
		t.Errorf("tables %q, %v", tables, err)
	}
	if _, err := c.Latest(t.Context(), "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("latest of no table: %v", err)
	}
	for _, bad := range []string{"", "..", "a/b", "A", strings.Repeat("a", 65)} {
		if _, err := c.Backups(t.Context(), bad); err == nil {
			t.Errorf("backups of %q listed", bad)
		}
	}
}

func TestOpenRefusesAnotherTablesBackup(t *testing.T) {
	m := newMemory()
	m.objects[key("users", 1).String()] = stored{content: tiny(t, "orders", "")}
	c := NewCatalogue(m, CatalogueOptions{})
	if _, err := c.Open(t.Context(), key("users", 1)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "orders") {
		t.Errorf("open: %v", err)
	}
	if _, err := c.Open(t.Context(), key("users", 2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open what is missing: %v", err)
	}
	if err := c.MarkProved(t.Context(), key("users", 1), created); !errors.Is(err, ErrFormat) {
		t.Errorf("proved: %v", err)
	}
}

func TestPutNothingUnlessAllIsWell(t *testing.T) {
	boom := errors.New("boom")
	id := identity(t)
	good := newImage(1, 512, 3, 0)
	write := func(to []age.Recipient, table string) func(io.Writer) (Manifest, error) {
		return func(w io.Writer) (Manifest, error) {
			m, _, err := good.encodeTo(w, to...)
			m.Table = table
			return m, err
		}
	}
	for _, tc := range []struct {
		name      string
		encrypted bool
		fill      func(io.Writer) (Manifest, error)
		want      error
	}{
		{"fill fails at once", false, func(io.Writer) (Manifest, error) { return Manifest{}, boom }, boom},
		{"fill fails at its end", false, func(w io.Writer) (Manifest, error) {
			m, _, err := good.encodeTo(w)
			return m, errors.Join(err, boom)
		}, boom},
		{"another table", false, write(nil, "orders"), nil},
		{"no manifest", false, func(w io.Writer) (Manifest, error) {
			_, _, err := good.encodeTo(w)
			return Manifest{}, err
		}, nil},
		{"plain under an encrypted name", true, write(nil, "users"), nil},
		{"encrypted under a plain name", false, write([]age.Recipient{id.Recipient()}, "users"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMemory()
			k := key("users", 1)
			k.Encrypted = tc.encrypted
			_, _, err := NewCatalogue(m, CatalogueOptions{}).Put(t.Context(), k, tc.fill)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if len(m.objects) > 0 {
				t.Errorf("something appeared: %q", m.keys())
			}
		})
	}
}

func TestPutSurvivesAPanicOfFill(t *testing.T) {
	m := newMemory()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _, err := NewCatalogue(m, CatalogueOptions{}).Put(t.Context(), key("users", 1), func(w io.Writer) (Manifest, error) {
			_, _, err := newImage(1, 512, 3, 0).encodeTo(w)
			panic(err)
		})
		t.Errorf("put returned %v", err)
	}()
	if len(m.objects) > 0 {
		t.Errorf("something appeared: %q", m.keys())
	}
}

func TestPutNeverReplaces(t *testing.T) {
	m := newMemory()
	c := NewCatalogue(m, CatalogueOptions{})
	im := newImage(1, 512, 3, 0)
	if _, _, err := putImage(t.Context(), c, key("users", 1), im); err != nil {
		t.Fatal(err)
	}
	before := m.objects[key("users", 1).String()].content
	if _, _, err := putImage(t.Context(), c, key("users", 1), im); !errors.Is(err, bucket.ErrExists) {
		t.Errorf("second put: %v", err)
	}
	if !bytes.Equal(before, m.objects[key("users", 1).String()].content) {
		t.Error("the object changed")
	}
}

// Each call of the bucket goes wrong in each way: the error surfaces, and what
// is in the bucket under the key is nothing or the whole backup.
func TestPutWithFaults(t *testing.T) {
	im := newImage(1, 4096, 50, 0.2)
	for _, kind := range []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.Denied, faulty.LostReply, faulty.Lie, faulty.Half, faulty.Flip} {
		for n, clean := 0, false; !clean; n++ {
			m := newMemory()
			f := faulty.Wrap(m)
			f.At(n, faulty.Fault{Kind: kind, Byte: 1000})
			_, _, err := putImage(t.Context(), NewCatalogue(f, CatalogueOptions{}), key("users", 1), im)
			clean = f.Hits() == 0
			content, stored := m.objects[key("users", 1).String()]
			if err == nil {
				if !stored || !bytes.Equal(restored(t, open(t, content.content)), im.want()) {
					t.Errorf("%s at call %d: no error, and the backup is not there", kind, n)
				}
				continue
			}
			if clean {
				t.Fatalf("%s, no fault: %v", kind, err)
			}
			if stored {
				if r, err := Open(t.Context(), bytes.NewReader(content.content), int64(len(content.content)), OpenOptions{}); err != nil {
					t.Errorf("%s at call %d: rubbish was left: %v", kind, n, err)
				} else if !bytes.Equal(restored(t, r), im.want()) {
					t.Errorf("%s at call %d: a wrong backup was left", kind, n)
				}
			}
		}
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := newMemory()
	m.onCall = func(op, _ string) error {
		if op == "put" {
			cancel()
		}
		return ctx.Err()
	}
	_, _, err := putImage(ctx, NewCatalogue(m, CatalogueOptions{}), key("users", 1), newImage(1, 4096, 3000, 0))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(m.objects) > 0 {
		t.Errorf("something appeared: %q", m.keys())
	}
}
