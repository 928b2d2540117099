package dir

import (
	"container/heap"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"strings"

	"tablekeeper/storage/bucket"
)

// batch is how many names of one folder are held at a time. Larger folders are read again for the next batch.
const batch = 8192

// List implements bucket.Reader, with checksums and tags.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		stopped := errors.New("stopped by the caller")
		l := &lister{b: b, ctx: ctx, prefix: prefix, after: after, batch: batch, each: func(info bucket.Info) error {
			if !yield(info, nil) {
				return stopped
			}
			return nil
		}}
		if err := l.run(); err != nil && !errors.Is(err, stopped) {
			yield(bucket.Info{}, wrap("list", prefix, err))
		}
	}
}

type lister struct {
	b             *Bucket
	ctx           context.Context
	d             disk
	prefix, after string
	batch         int
	each          func(bucket.Info) error
}

func (l *lister) run() error {
	if err := bucket.CheckPrefix(l.prefix); err != nil {
		return err
	}
	d, err := l.b.enter(l.ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	l.d = d
	start := folderOf(l.prefix)
	if start != "." {
		if err := l.straight(start); err != nil {
			return ignoreMissing(err)
		}
	}
	if err := l.folder(start); err != nil {
		return err
	}
	// A bucket that vanished under the listing looked empty from there on.
	return l.b.recognise(d)
}

// straight makes sure that the path to a folder has no links in it.
func (l *lister) straight(folder string) error {
	_, err := l.b.plain(l.d, folder+"/-")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// folder walks one folder in the order of keys, in which a folder sorts as its name with a slash.
func (l *lister) folder(folder string) error {
	for last := ""; ; {
		names, err := l.smallest(folder, last)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := l.entry(folder, name); err != nil {
				return err
			}
			last = name
		}
		if len(names) < l.batch {
			return nil
		}
	}
}

func (l *lister) entry(folder, name string) error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	key := join(folder, name)
	if below, ok := strings.CutSuffix(key, "/"); ok {
		return l.folder(below)
	}
	info, err := l.b.describe(l.d, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since its name was read
	}
	if err != nil {
		return err
	}
	return l.each(info)
}

func join(folder, name string) string {
	if folder == "." {
		return name
	}
	return folder + "/" + name
}

// smallest returns the next names of a folder that concern the listing, in order, at most a batch. Memory is that of a batch.
func (l *lister) smallest(folder, last string) ([]string, error) {
	f, err := l.d.Open(folder)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	defer f.Close()
	var names largestFirst
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if name := l.candidate(folder, e); name > last {
				names.keep(name, l.batch)
			}
		}
		if errors.Is(err, io.EOF) {
			return names.sorted(), nil
		}
		if err != nil {
			return nil, ignoreMissing(ignoreNotFolder(err)) // a folder that was removed says so only when it is read
		}
	}
}

// ignoreNotFolder forgives a prefix such as a/ where a is an object.
func ignoreNotFolder(err error) error {
	if notFolder(err) {
		return nil
	}
	return err
}

// candidate is the name by which an entry sorts, "" if the listing has no use for it.
func (l *lister) candidate(folder string, e fs.DirEntry) string {
	name := e.Name()
	key := join(folder, name)
	switch {
	case bucket.CheckKey(key) != nil:
		return ""
	case e.IsDir():
		inside := key + "/"
		past := l.after > inside && !strings.HasPrefix(l.after, inside)
		if past || !strings.HasPrefix(inside, l.prefix) && !strings.HasPrefix(l.prefix, inside) {
			return ""
		}
		return name + "/"
	case !e.Type().IsRegular() || !strings.HasPrefix(key, l.prefix) || key <= l.after:
		return ""
	}
	return name
}

// largestFirst is a heap that gives up its largest name when it has too many.
type largestFirst []string

func (h largestFirst) Len() int           { return len(h) }
func (h largestFirst) Less(i, j int) bool { return h[i] > h[j] }
func (h largestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *largestFirst) Push(x any)        { *h = append(*h, x.(string)) }

func (h *largestFirst) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

func (h *largestFirst) keep(name string, most int) {
	if h.Len() == most {
		if name >= (*h)[0] {
			return
		}
		heap.Pop(h)
	}
	heap.Push(h, name)
}

// sorted empties the heap into a list, smallest first.
func (h *largestFirst) sorted() []string {
	names := make([]string, h.Len())
	for i := len(names) - 1; i >= 0; i-- {
		names[i] = heap.Pop(h).(string)
	}
	return names
}
