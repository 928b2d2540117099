package archive

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/faulty"
)

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
