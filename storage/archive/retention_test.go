package archive

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

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

// No sequence of operations, with failing calls, with another catalogue at work
// in the middle of any call, and with a store whose lifecycle rule may strike
// after any change, removes the last good copy: whenever a backup is marked as
// superseded or removed, a newer one is there that a drill restored.
func TestTheLastGoodCopyStays(t *testing.T) {
	good, degraded := tiny(t, "users", ""), tiny(t, "users", StateDegraded)
	rapid.Check(t, func(rt *rapid.T) {
		w := &retentionWorld{T: rt, m: newMemory(), good: good, degraded: degraded, drilled: map[string]bool{}}
		w.m.freeTags = rapid.Bool().Draw(rt, "tags come with listings")
		w.f = faulty.Wrap(w.m)
		w.m.onCall = func(string, string) error { w.interrupt(); return nil }
		w.m.onChange = w.check
		for range rapid.IntRange(1, 12).Draw(rt, "operations") {
			w.disturbed()
		}
		w.settle()
		w.check()
	})
}

type retentionWorld struct {
	*rapid.T
	m              *memory
	f              *faulty.Bucket
	good, degraded []byte

	created []Key
	drilled map[string]bool // a drill of it passed: MarkProved was called

	mu            sync.Mutex
	nested        func() // to run in the middle of a call
	countdown     int    // calls until then
	contradiction bool   // a drill finds bad what another goes by: only the end counts
	indebted      bool   // and only after a sweep
}

func (w *retentionWorld) catalogue() *Catalogue { return NewCatalogue(w.f, CatalogueOptions{}) }

// interrupt counts the calls of the outer operation.
func (w *retentionWorld) interrupt() {
	w.mu.Lock() // tags are asked for by several goroutines
	w.countdown--
	nested := w.nested
	if w.countdown >= 0 {
		nested = nil
	}
	if nested != nil {
		w.nested = nil
	}
	w.mu.Unlock()
	if nested != nil {
		nested()
	}
}

// disturbed does one operation with a fault or with another operation inside.
func (w *retentionWorld) disturbed() {
	w.f.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
	w.nested, w.contradiction = nil, false
	outer := w.operation("outer")
	at := rapid.IntRange(0, 25).Draw(w.T, "call")
	switch rapid.SampledFrom([]string{"fault", "nested", "none"}).Draw(w.T, "disturbance") {
	case "fault":
		kind := rapid.SampledFrom([]faulty.Kind{faulty.Fail, faulty.LostReply, faulty.Lie, faulty.BreakList}).Draw(w.T, "kind")
		w.f.At(len(w.f.Calls())+at, faulty.Fault{Kind: kind})
		// A store that keeps a mark which must go breaks the law until the
		// next sweep.
		w.contradiction, w.indebted = outer.condemns, outer.condemns
	case "nested":
		inner := w.operation("inner")
		// One finds bad what the other goes by: the law holds again when both
		// have ended. The lock of the table excludes a drill during a sweep.
		w.contradiction = outer.condemns || inner.condemns
		if w.contradiction && (outer.sweeps || inner.sweeps) {
			break
		}
		w.nested, w.countdown = inner.do, at
	}
	outer.do()
	if w.indebted {
		w.settle()
	}
	w.contradiction = false
	w.check()
}

// settle repeats what was cut short, without faults.
func (w *retentionWorld) settle() {
	w.f.Decide(func(faulty.Call) faulty.Fault { return faulty.Fault{} })
	w.nested = nil
	if _, err := w.catalogue().Sweep(w.Context(), "users", time.Time{}, false); err != nil {
		w.Fatal(err)
	}
	w.contradiction, w.indebted = false, false
}

type operation struct {
	do       func()
	condemns bool
	sweeps   bool
}

func (w *retentionWorld) operation(label string) operation {
	kind := rapid.SampledFrom([]string{"put", "prove", "prove newest", "fail", "sweep", "expire"}).Draw(w.T, label)
	if len(w.created) == 0 {
		kind = "put"
	}
	switch kind {
	case "put":
		jump := rapid.IntRange(-30, 30).Draw(w.T, "clock")
		state := rapid.Bool().Draw(w.T, "degraded")
		return operation{do: func() { w.put(jump, state) }}
	case "prove", "prove newest":
		k := w.created[len(w.created)-1]
		if kind == "prove" {
			k = rapid.SampledFrom(w.created).Draw(w.T, "which")
		}
		return operation{do: func() { w.prove(k) }}
	case "fail":
		k := rapid.SampledFrom(w.created).Draw(w.T, "which")
		return operation{condemns: true, do: func() { w.ignore(w.catalogue().MarkFailed(w.Context(), k, drillTime)) }}
	case "sweep":
		age := rapid.IntRange(-100, 100).Draw(w.T, "age")
		return operation{sweeps: true, do: func() {
			_, err := w.catalogue().Sweep(w.Context(), "users", created.Add(time.Duration(age)*time.Minute), false)
			w.ignore(err)
		}}
	default:
		return operation{sweeps: true, do: w.expire}
	}
}

// ignore is for errors: whatever fails, the law must hold.
func (w *retentionWorld) ignore(err error) {
	if err != nil {
		w.Log(err)
	}
}

func (w *retentionWorld) put(jump int, degraded bool) {
	now := created.Add(time.Duration(jump) * time.Minute)
	var newest Key
	if len(w.created) > 0 {
		newest = w.created[len(w.created)-1]
	}
	k := NextKey("users", now, "00c0ffee", false, newest)
	if newest.Compare(k) >= 0 && !newest.IsZero() {
		w.Fatalf("%s does not sort after %s", k, newest)
	}
	content := w.good
	if degraded {
		content = w.degraded
	}
	w.m.mu.Lock()
	w.m.objects[k.String()] = stored{content, map[string]string{}}
	w.m.mu.Unlock()
	w.created = append(w.created, k)
}

func (w *retentionWorld) prove(k Key) {
	w.drilled[k.String()] = true
	w.ignore(w.catalogue().MarkProved(w.Context(), k, drillTime))
}

// expire is a lifecycle rule of the store: it removes what is superseded.
func (w *retentionWorld) expire() {
	for key, o := range w.m.snapshot() {
		if o.tags[bucket.SupersededTag] != "" {
			w.m.mu.Lock()
			delete(w.m.objects, key)
			w.m.mu.Unlock()
			w.check()
		}
	}
}

// check is the law.
func (w *retentionWorld) check() {
	if w.contradiction {
		return
	}
	all := w.m.snapshot()
	last := "" // the newest good copy
	for name, o := range all {
		k, err := ParseKey(name)
		if err != nil {
			w.Fatal(err)
		}
		stands := newBackup(k, 0, o.tags).stands()
		if stands && !w.drilled[name] {
			w.Fatalf("%s counts as proved, and no drill restored it", name)
		}
		if stands && &o.content[0] == &w.good[0] {
			last = max(last, name)
		} else if stands {
			w.Fatalf("%s counts, and is of a degraded table", name)
		}
	}
	for name, o := range all {
		if o.tags[bucket.SupersededTag] != "" && name >= last {
			w.Fatalf("%s is superseded, the newest good copy is %q", name, last)
		}
	}
}
