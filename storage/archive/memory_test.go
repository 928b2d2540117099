package archive

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"tablekeeper/storage/bucket"
)

// memory is a bucket in memory that keeps bucket's law.
type memory struct {
	freeTags bool // listings come with tags

	// onCall runs before each call, and fails it. onChange runs after each
	// change of tags or removal.
	onCall   func(op, key string) error
	onChange func()

	mu      sync.Mutex
	objects map[string]stored
}

type stored struct {
	content []byte
	tags    map[string]string
}

func newMemory() *memory { return &memory{freeTags: true, objects: map[string]stored{}} }

func (m *memory) call(op, key string) error {
	if m.onCall == nil {
		return nil
	}
	return m.onCall(op, key)
}

func (m *memory) changed() {
	if m.onChange != nil {
		m.onChange()
	}
}

// snapshot is what the bucket holds now.
func (m *memory) snapshot() map[string]stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]stored{}
	for key, o := range m.objects {
		out[key] = stored{o.content, maps.Clone(o.tags)}
	}
	return out
}

func (m *memory) keys() []string { return slices.Sorted(maps.Keys(m.snapshot())) }

func (m *memory) get(key string) (stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return stored{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return stored{o.content, maps.Clone(o.tags)}, nil
}

func info(key string, o stored) bucket.Info {
	sum := md5.Sum(o.content)
	return bucket.Info{Key: key, Size: int64(len(o.content)), ETag: hex.EncodeToString(sum[:])}
}

func (m *memory) Get(_ context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := m.call("get", key); err != nil {
		return nil, err
	}
	o, err := m.get(key)
	if err != nil {
		return nil, err
	}
	from, to := bucket.Span(int64(len(o.content)), off, n)
	return io.NopCloser(bytes.NewReader(o.content[from:to])), nil
}

func (m *memory) Head(_ context.Context, key string) (bucket.Info, error) {
	if err := m.call("head", key); err != nil {
		return bucket.Info{}, err
	}
	o, err := m.get(key)
	return info(key, o), err
}

func (m *memory) List(_ context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if err := m.call("list", prefix); err != nil {
			yield(bucket.Info{}, err)
			return
		}
		all := m.snapshot()
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if !strings.HasPrefix(key, prefix) || key <= after {
				continue
			}
			found := info(key, all[key])
			if m.freeTags {
				found.Tags = all[key].tags
			}
			if !yield(found, nil) {
				return
			}
		}
	}
}

func (m *memory) Tags(_ context.Context, key string) (map[string]string, error) {
	if err := m.call("tags", key); err != nil {
		return nil, err
	}
	o, err := m.get(key)
	return o.tags, err
}

func (m *memory) Put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	if err := m.call("put", key); err != nil {
		return bucket.Info{}, err
	}
	content, err := io.ReadAll(r)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return bucket.Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[key]; taken && opts.IfAbsent {
		return bucket.Info{}, fmt.Errorf("put %s: %w", key, bucket.ErrExists)
	}
	m.objects[key] = stored{content, map[string]string{}}
	return info(key, m.objects[key]), nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	if err := m.call("delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.objects, key)
	m.mu.Unlock()
	m.changed()
	return nil
}

func (m *memory) SetTags(_ context.Context, key string, tags map[string]string) error {
	if err := m.call("set tags", key); err != nil {
		return err
	}
	if err := bucket.CheckTags(tags); err != nil {
		return err
	}
	m.mu.Lock()
	o, ok := m.objects[key]
	if ok {
		m.objects[key] = stored{o.content, maps.Clone(tags)}
	}
	m.mu.Unlock()
	if !ok {
		return fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	m.changed()
	return nil
}

// store puts a backup of one page into the bucket, without a catalogue.
func (m *memory) store(t testing.TB, key Key, state string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key.String()] = stored{tiny(t, key.Table, state), map[string]string{}}
}

// tiny is a backup of one page.
func tiny(t testing.TB, table, state string) []byte {
	t.Helper()
	var out bytes.Buffer
	e, err := NewEncoder(&out, EncoderOptions{Table: table, Created: created, PageSize: 512, PageCount: 1, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.WritePage(make([]byte, 512), false); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Close(Manifest{State: state}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
