package archive

import (
	"errors"
	"slices"
	"testing"
	"time"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
)

var drillTime = created.Add(24 * time.Hour)

func tagsOf(t testing.TB, m *memory, k Key) Backup {
	t.Helper()
	o, err := m.get(k.String())
	if err != nil {
		t.Fatal(err)
	}
	return newBackup(k, 0, o.tags)
}

func TestOnlyAProvedBackupSupersedes(t *testing.T) {
	m := newMemory()
	c := NewCatalogue(m, CatalogueOptions{})
	for i, state := range []string{"", "", StateDegraded, ""} {
		m.store(t, key("users", i), state)
	}
	m.store(t, key("orders", 0), "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	superseded := func() (out []int) {
		for i := range 4 {
			if tagsOf(t, m, key("users", i)).Superseded {
				out = append(out, i)
			}
		}
		return out
	}
	for _, step := range []struct {
		name string
		do   func() error
		want []int
	}{
		{"the oldest is proved", func() error { return c.MarkProved(t.Context(), key("users", 0), drillTime) }, nil},
		{"one of a degraded table is proved", func() error { return c.MarkProved(t.Context(), key("users", 2), drillTime) }, nil},
		{"the second is proved", func() error { return c.MarkProved(t.Context(), key("users", 1), drillTime) }, []int{0}},
		{"the newest is proved", func() error { return c.MarkProved(t.Context(), key("users", 3), drillTime) }, []int{0, 1, 2}},
		{"an old one is proved again", func() error { return c.MarkProved(t.Context(), key("users", 0), drillTime) }, []int{0, 1, 2}},
		{"the newest is found bad", func() error { return c.MarkFailed(t.Context(), key("users", 3), drillTime) }, []int{0}},
		{"and good after all", func() error { return c.MarkProved(t.Context(), key("users", 3), drillTime) }, []int{0, 1, 2}},
	} {
		must(step.do())
		if got := superseded(); !slices.Equal(got, step.want) {
			t.Fatalf("%s: superseded %v, want %v", step.name, got, step.want)
		}
	}
	if tagsOf(t, m, key("orders", 0)).Superseded {
		t.Error("another table's backup was superseded")
	}
}

func TestTagsOfOthersStay(t *testing.T) {
	m := newMemory()
	m.store(t, key("users", 0), "")
	m.store(t, key("users", 1), "")
	for _, o := range m.objects {
		o.tags["owner"] = "ops"
	}
	if err := NewCatalogue(m, CatalogueOptions{}).MarkProved(t.Context(), key("users", 1), drillTime); err != nil {
		t.Fatal(err)
	}
	for k, o := range m.objects {
		if o.tags["owner"] != "ops" {
			t.Errorf("%s: tags %v", k, o.tags)
		}
	}
}

// A superseded backup whose proof has gone stays, and loses the mark.
func TestSweepTakesBackAMarkThatNothingStandsFor(t *testing.T) {
	m := newMemory()
	for i := range 3 {
		m.store(t, key("users", i), "")
	}
	m.objects[key("users", 0).String()].tags[bucket.SupersededTag] = bucket.SupersededValue
	m.objects[key("users", 1).String()].tags[TagProved] = "not a time"
	m.objects[key("users", 2).String()].tags[TagProved] = formatTag(drillTime)
	m.objects[key("users", 2).String()].tags[TagState] = StateDegraded
	removed, err := NewCatalogue(m, CatalogueOptions{}).Sweep(t.Context(), "users", drillTime, false)
	if err != nil || len(removed) > 0 {
		t.Fatalf("removed %v, %v", removed, err)
	}
	if tagsOf(t, m, key("users", 0)).Superseded {
		t.Error("the mark is still there: a lifecycle rule would remove the backup")
	}
}

func TestSweepGoesByAgeToo(t *testing.T) {
	m := newMemory()
	for i := range 5 {
		m.store(t, key("users", i), "")
	}
	c := NewCatalogue(m, CatalogueOptions{})
	if err := c.MarkProved(t.Context(), key("users", 4), drillTime); err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		removed, err := c.Sweep(t.Context(), "users", key("users", 2).Created, dryRun)
		if err != nil || len(removed) != 2 || removed[0].Key != key("users", 0) {
			t.Fatalf("dry run %t: removed %v, %v", dryRun, removed, err)
		}
		if want := map[bool]int{true: 5, false: 3}[dryRun]; len(m.objects) != want {
			t.Fatalf("dry run %t: %d objects left, want %d", dryRun, len(m.objects), want)
		}
	}
}

// Each call of the bucket goes wrong in each way, and the same again without
// faults completes the work.
func TestRetentionCompletesWhatAFaultCutShort(t *testing.T) {
	work := func(c *Catalogue) error {
		return errors.Join(
			c.MarkProved(t.Context(), key("users", 1), drillTime),
			c.MarkProved(t.Context(), key("users", 2), drillTime),
			c.MarkFailed(t.Context(), key("users", 3), drillTime),
			func() error { _, err := c.Sweep(t.Context(), "users", drillTime, false); return err }())
	}
	for _, kind := range []faulty.Kind{faulty.Fail, faulty.Temporary, faulty.LostReply, faulty.Lie, faulty.BreakList} {
		for n, clean := 0, false; !clean; n++ {
			m := newMemory()
			for i := range 4 {
				m.store(t, key("users", i), "")
			}
			f := faulty.Wrap(m)
			f.At(n, faulty.Fault{Kind: kind})
			err := work(NewCatalogue(f, CatalogueOptions{}))
			clean = f.Hits() == 0
			if _, gone := m.get(key("users", 2).String()); gone != nil {
				t.Fatalf("%s at call %d: the last good backup is gone", kind, n)
			}
			if clean && err != nil {
				t.Fatalf("%s, no fault: %v", kind, err)
			}
			if !clean && err == nil && fails(kind, f.Calls()[n].Op) {
				t.Errorf("%s at call %d did not surface", kind, n)
			}
			if err := work(NewCatalogue(m, CatalogueOptions{})); err != nil && !missing(m, 1) {
				t.Errorf("%s at call %d, and again without: %v", kind, n, err)
			}
			if want := []string{key("users", 2).String(), key("users", 3).String()}; !slices.Equal(m.keys(), want) {
				t.Errorf("%s at call %d, and again without: left %q, want %q", kind, n, m.keys(), want)
			}
		}
	}
}

// What changes between the listing and a removal counts: the backup that stood
// for the removal is gone, or the mark is.
func TestSweepAsksAgain(t *testing.T) {
	old, newest := key("users", 0).String(), key("users", 1).String()
	for name, change := range map[string]func(m *memory){
		"the newer one was removed":   func(m *memory) { delete(m.objects, newest) },
		"the newer one was found bad": func(m *memory) { delete(m.objects[newest].tags, TagProved) },
		"the mark was taken away":     func(m *memory) { delete(m.objects[old].tags, bucket.SupersededTag) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.store(t, key("users", 0), "")
			m.store(t, key("users", 1), "")
			c := NewCatalogue(m, CatalogueOptions{})
			if err := c.MarkProved(t.Context(), key("users", 1), drillTime); err != nil {
				t.Fatal(err)
			}
			m.onCall = func(op, _ string) error {
				if op == "head" {
					m.onCall = nil
					change(m)
				}
				return nil
			}
			removed, err := c.Sweep(t.Context(), "users", drillTime, false)
			if err != nil || len(removed) > 0 || missing(m, 0) {
				t.Errorf("removed %v, %v", removed, err)
			}
		})
	}
}

// Two drills at once, one good and one bad: at whatever call the other comes in
// between, nothing needed is marked in the end.
func TestTwoDrillsAtOnce(t *testing.T) {
	for _, pair := range []struct {
		name         string
		outer, inner func(c *Catalogue) error
	}{
		{"old one proved again while the newer is found bad",
			func(c *Catalogue) error { return c.MarkProved(t.Context(), key("users", 0), drillTime) },
			func(c *Catalogue) error { return c.MarkFailed(t.Context(), key("users", 1), drillTime) }},
		{"found bad while it is proved",
			func(c *Catalogue) error { return c.MarkProved(t.Context(), key("users", 1), drillTime) },
			func(c *Catalogue) error { return c.MarkFailed(t.Context(), key("users", 1), drillTime) }},
		{"proved while it is found bad",
			func(c *Catalogue) error { return c.MarkFailed(t.Context(), key("users", 1), drillTime) },
			func(c *Catalogue) error { return c.MarkProved(t.Context(), key("users", 1), drillTime) }},
	} {
		t.Run(pair.name, func(t *testing.T) {
			for n, inside := 0, true; inside; n++ {
				m := newMemory()
				m.store(t, key("users", 0), "")
				m.store(t, key("users", 1), "")
				c := NewCatalogue(m, CatalogueOptions{})
				if err := c.MarkProved(t.Context(), key("users", 1), drillTime); err != nil {
					t.Fatal(err)
				}
				left := n
				m.onCall = func(string, string) error {
					if left--; left < 0 {
						m.onCall = nil
						return pair.inner(c)
					}
					return nil
				}
				err := pair.outer(c)
				if inside = left < 0; !inside && err != nil {
					t.Fatal(err)
				}
				if tagsOf(t, m, key("users", 0)).Superseded && !tagsOf(t, m, key("users", 1)).stands() {
					t.Errorf("inner at call %d: the old one is superseded, and nothing stands for it (%v)", n, err)
				}
			}
		})
	}
}

// fails says whether a fault of that kind makes the operation fail.
func fails(kind faulty.Kind, op string) bool {
	switch kind {
	case faulty.BreakList:
		return op == "list"
	case faulty.LostReply:
		return op == "set tags" || op == "delete"
	case faulty.Temporary:
		return op != "get" // tried again
	case faulty.Lie:
		return op == "set tags"
	default:
		return true
	}
}

func missing(m *memory, i int) bool {
	_, err := m.get(key("users", i).String())
	return err != nil
}

// A lifecycle rule of the bucket removes what is to be needed again, at that moment. It is late, and no reason to say that the rest failed.
func TestWhatIsGoneIsNotReinstated(t *testing.T) {
	m := newMemory()
	c := NewCatalogue(m, CatalogueOptions{})
	for i := range 3 {
		m.store(t, key("users", i), "")
	}
	if err := c.MarkProved(t.Context(), key("users", 2), drillTime); err != nil {
		t.Fatal(err)
	}
	m.onCall = func(op, name string) error {
		if op == "tags" && name == key("users", 1).String() {
			m.mu.Lock()
			delete(m.objects, name)
			m.mu.Unlock()
		}
		return nil
	}
	if err := c.MarkFailed(t.Context(), key("users", 2), drillTime); err != nil {
		t.Error(err)
	}
	if tagsOf(t, m, key("users", 0)).Superseded || tagsOf(t, m, key("users", 2)).Failed.IsZero() {
		t.Error("the others are not as they should be")
	}
}
