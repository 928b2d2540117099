package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"tablekeeper/storage/bucket"
)

var errDisk = errors.New("injected disk error")

// script is what the disk of a test does: call number fails and, if the process died there, so do all that follow.
type script struct {
	fail int // -1: none
	dies bool
	log  []string

	meanwhile func() // done before call number fail, which then goes well
}

func (s *script) step(format string, args ...any) error {
	n := len(s.log)
	s.log = append(s.log, fmt.Sprintf(format, args...))
	if s.meanwhile != nil {
		if n == s.fail {
			s.meanwhile()
		}
		return nil
	}
	if s.fail >= 0 && (n == s.fail || s.dies && n > s.fail) {
		return errDisk
	}
	return nil
}

// scripted is a disk under a script.
type scripted struct {
	d disk
	s *script
}

// do makes one step of the script and then, if it goes well, the real call.
func (s *script) do(call func() error, format string, args ...any) error {
	if err := s.step(format, args...); err != nil {
		return err
	}
	return call()
}

func (d scripted) Mkdir(name string) error {
	return d.s.do(func() error { return d.d.Mkdir(name) }, "mkdir %s", name)
}

func (d scripted) Chtimes(name string, t time.Time) error {
	return d.s.do(func() error { return d.d.Chtimes(name, t) }, "chtimes %s", name)
}

func (d scripted) Link(old, new string) error {
	return d.s.do(func() error { return d.d.Link(old, new) }, "link %s %s", old, new)
}

func (d scripted) Rename(old, new string) error {
	return d.s.do(func() error { return d.d.Rename(old, new) }, "rename %s %s", old, new)
}

func (d scripted) Remove(name string) error {
	return d.s.do(func() error { return d.d.Remove(name) }, "remove %s", name)
}

func (d scripted) SyncDir(name string) error {
	return d.s.do(func() error { return d.d.SyncDir(name) }, "syncdir %s", name)
}

func (d scripted) Lstat(name string) (info fs.FileInfo, err error) {
	err = d.s.do(func() error { info, err = d.d.Lstat(name); return err }, "lstat %s", name)
	return info, err
}

func (d scripted) Create(name string) (file, error) { return d.file("create", name, d.d.Create) }
func (d scripted) Open(name string) (file, error)   { return d.file("open", name, d.d.Open) }
func (d scripted) Close() error                     { return d.d.Close() }

func (d scripted) file(op, name string, call func(string) (file, error)) (f file, err error) {
	err = d.s.do(func() error { f, err = call(name); return err }, "%s %s", op, name)
	return scriptedFile{f, name, d.s}, err
}

type scriptedFile struct {
	file
	name string
	s    *script
}

func (f scriptedFile) Read(p []byte) (n int, err error) {
	err = f.s.do(func() error { n, err = f.file.Read(p); return err }, "read %s", f.name)
	return n, err
}

// Write fails after half of what it was given, as a full disk does.
func (f scriptedFile) Write(p []byte) (int, error) {
	if err := f.s.step("write %s", f.name); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, err
	}
	return f.file.Write(p)
}

func (f scriptedFile) Sync() error { return f.s.do(f.file.Sync, "sync %s", f.name) }

func (f scriptedFile) Close() error {
	return errors.Join(f.s.step("close %s", f.name), f.file.Close())
}

func (f scriptedFile) ReadDir(n int) (entries []fs.DirEntry, err error) {
	err = f.s.do(func() error { entries, err = f.file.ReadDir(n); return err }, "readdir %s", f.name)
	return entries, err
}

// under runs f on the bucket at path with a scripted disk.
func under(b *Bucket, s *script) *Bucket {
	return &Bucket{path: b.path, mark: b.mark, busy: make(chan struct{}, 1), open: func() (disk, error) {
		d, err := openRoot(b.path)
		return scripted{d, s}, err
	}}
}

// operations are what is tried under every failure. Each starts from the same bucket; before and after are what it then may hold.
var operations = []struct {
	name  string
	run   func(context.Context, *Bucket) error
	after map[string]string
	loose bool // it may have taken effect though it failed: what it asked for can be asked for again
}{
	{"put new", func(ctx context.Context, b *Bucket) error {
		_, err := b.Put(ctx, "new/folder/k", strings.NewReader("new content"), bucket.PutOptions{Tags: map[string]string{"v": "2"}})
		return err
	}, map[string]string{"t/old": "old content v=1", "new/folder/k": "new content v=2"}, false},
	{"put if absent", func(ctx context.Context, b *Bucket) error {
		_, err := b.Put(ctx, "t/new", strings.NewReader("new content"), bucket.PutOptions{IfAbsent: true})
		return err
	}, map[string]string{"t/old": "old content v=1", "t/new": "new content v="}, false},
	{"put over", func(ctx context.Context, b *Bucket) error {
		_, err := b.Put(ctx, "t/old", strings.NewReader("new content"), bucket.PutOptions{Tags: map[string]string{"v": "2"}})
		return err
	}, map[string]string{"t/old": "new content v=2"}, false},
	{"set tags", func(ctx context.Context, b *Bucket) error {
		return b.SetTags(ctx, "t/old", map[string]string{"v": "2"})
	}, map[string]string{"t/old": "old content v=2"}, true},
	{"delete", func(ctx context.Context, b *Bucket) error { return b.Delete(ctx, "t/old") }, map[string]string{}, true},
	{"get", func(ctx context.Context, b *Bucket) error {
		rc, err := b.Get(ctx, "t/old", 2, 5)
		if err != nil {
			return err
		}
		content, err := io.ReadAll(rc)
		if err == nil && string(content) != "d con" {
			err = fmt.Errorf("got %q", content)
		}
		return errors.Join(err, rc.Close())
	}, map[string]string{"t/old": "old content v=1"}, false},
	{"head", func(ctx context.Context, b *Bucket) error {
		info, err := b.Head(ctx, "t/old")
		if err == nil && (info.Size != 11 || info.SHA256 == "") {
			return fmt.Errorf("%+v, and no error", info)
		}
		return err
	}, map[string]string{"t/old": "old content v=1"}, false},
	{"list", func(ctx context.Context, b *Bucket) error {
		n := 0
		for _, err := range b.List(ctx, "t/", "") {
			if err != nil {
				return err
			}
			n++
		}
		if n != 1 {
			return fmt.Errorf("%d objects, and no error", n)
		}
		return nil
	}, map[string]string{"t/old": "old content v=1"}, false},
}

func start(t *testing.T) *Bucket {
	t.Helper()
	b, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "t/old", strings.NewReader("old content"), bucket.PutOptions{Tags: map[string]string{"v": "1"}}); err != nil {
		t.Fatal(err)
	}
	return b
}

// content is every object with its tag, read through b, each proved by its checksum.
func content(t *testing.T, b *Bucket) map[string]string {
	t.Helper()
	all := map[string]string{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		rc, err := b.Get(t.Context(), info.Key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		digest := bucket.NewDigest()
		_, err = io.Copy(io.MultiWriter(&text, digest), rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		if err := digest.Compare(info); err != nil || info.SHA256 == "" {
			t.Errorf("%s: %+v does not describe %q: %v", info.Key, info, &text, err)
		}
		all[info.Key] = text.String() + " v=" + info.Tags["v"]
	}
	return all
}

func same(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func temps(t *testing.T, b *Bucket) []string {
	t.Helper()
	d, err := openRoot(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Open(tempName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestEachDiskCallFails: the error surfaces and the bucket holds what it held, or the call was only clean-up and all is as it should be.
func TestEachDiskCallFails(t *testing.T) {
	before := map[string]string{"t/old": "old content v=1"}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			for n := 0; ; n++ {
				b := start(t)
				s := &script{fail: n}
				err := op.run(t.Context(), under(b, s))
				if len(s.log) <= n {
					if err != nil {
						t.Fatalf("clean run: %v", err)
					}
					t.Logf("%d calls", n)
					return
				}
				got := content(t, b)
				switch failed := s.log[n]; {
				case err == nil && !same(got, op.after):
					t.Errorf("call %d (%s): no error, and %v", n, failed, got)
				case err == nil && !cleanUp(failed):
					t.Errorf("call %d (%s): no error", n, failed)
				case err != nil && !errors.Is(err, errDisk):
					t.Errorf("call %d (%s): %v hides the disk's error", n, failed, err)
				case err != nil && !same(got, before) && !(op.loose && same(got, op.after)):
					t.Errorf("call %d (%s): %v, and %v", n, failed, err, got)
				}
				if left := temps(t, b); len(left) > 0 && !strings.HasPrefix(s.log[n], "remove ") {
					t.Errorf("call %d (%s): left %q", n, s.log[n], left)
				}
			}
		})
	}
}

// cleanUp is whether a call is of those that a finished operation can do without.
func cleanUp(call string) bool {
	return strings.HasPrefix(call, "remove ") || strings.HasPrefix(call, "close .bucket/id") || strings.HasPrefix(call, "close t") ||
		strings.HasPrefix(call, "close .bucket/tmp") || strings.HasPrefix(call, "close .")
}

// TestDiesAtEachDiskCall: a process that dies at any call leaves each object wholly there or not, old or new, with the tags that belong to it,
// and its temporary files go once they are old.
func TestDiesAtEachDiskCall(t *testing.T) {
	before := map[string]string{"t/old": "old content v=1"}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			for n := 0; ; n++ {
				b := start(t)
				s := &script{fail: n, dies: true}
				_ = op.run(t.Context(), under(b, s)) // nobody is left to hear of the error
				if len(s.log) <= n {
					return
				}
				if got := content(t, b); !same(got, before) && !same(got, op.after) {
					t.Errorf("died at call %d (%s): %v", n, s.log[n], got)
				}
				for _, temp := range temps(t, b) {
					age(t, b, temp, 2*staleHere)
				}
				if _, err := b.Put(t.Context(), "next", strings.NewReader("x"), bucket.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				if left := temps(t, b); len(left) > 0 {
					t.Errorf("died at call %d (%s): the next Put left %q", n, s.log[n], left)
				}
			}
		})
	}
}

func age(t *testing.T, b *Bucket, temp string, by time.Duration) {
	t.Helper()
	d, err := openRoot(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Chtimes(tempName+"/"+temp, time.Now().Add(-by)); err != nil {
		t.Fatal(err)
	}
}

// TestOrderOfCalls is the order of calls that makes a Put durable, to be read when it changes.
func TestOrderOfCalls(t *testing.T) {
	b := start(t)
	s := &script{fail: -1}
	if _, err := under(b, s).Put(t.Context(), "t/new", strings.NewReader("new content"), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s2 := &script{fail: -1}
	if _, err := under(b, s2).Put(t.Context(), "t/new", strings.NewReader("newer content"), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		log  []string
		want []string
	}{
		{s.log, []string{
			"create put", "write put", "sync put", "mkdir .bucket", "close put", "mkdir t", "mkdir t/.bucket",
			"create record", "write record", "sync record", "close record", "rename record t/.bucket/new.json", "syncdir t/.bucket",
			"link put t/new", "syncdir t", "remove put",
		}},
		{s2.log, []string{
			"create put", "write put", "sync put", "mkdir .bucket", "close put", "mkdir t", "mkdir t/.bucket",
			"create record", "write record", "sync record", "close record", "rename record t/.bucket/new.json", "syncdir t/.bucket",
			"link t/new old", "rename put t/new", "syncdir t", "remove old", "remove put",
		}},
	} {
		if got := changes(test.log); !slices.Equal(got, test.want) {
			t.Errorf("order of calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

// changes are the calls that change the disk, with temporary files named by their kind.
func changes(log []string) []string {
	var calls []string
	for _, call := range log {
		words := strings.Fields(call)
		for i, word := range words {
			if temp, ok := strings.CutPrefix(word, tempName+"/"); ok {
				words[i], _, _ = strings.Cut(temp, "-")
			}
		}
		reading := slices.Contains([]string{"lstat", "open", "read", "readdir"}, words[0])
		made := len(words) > 1 && (words[0] == "write" || words[0] == "close") && slices.Contains([]string{"put", "record"}, words[1])
		if reading || words[0] == "close" && !made || words[0] == "mkdir" && len(calls) > 0 && calls[len(calls)-1] == "mkdir "+words[1] {
			continue
		}
		calls = append(calls, strings.Join(words, " "))
	}
	return calls
}
