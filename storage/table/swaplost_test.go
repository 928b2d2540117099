package table

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lossyDisk follows the calls of a swap and knows what a power cut may leave of them: of each folder any of the states that it had
// since it was last synced, independently of the others, and of each file what it had when it was last synced, or nothing.
// That is less than ext4 and xfs promise.
type lossyDisk struct {
	root    string
	files   map[uint64]*lossyFile
	folders map[string][]map[string]uint64 // by name: its states since its last sync, the newest last
	next    uint64
	skip    func(c call) bool // a sync that the program forgot
}

type lossyFile struct {
	inode   uint64 // on the real disk, for intents
	durable []byte
	folder  bool
}

func newLossyDisk(t testing.TB, s scene) *lossyDisk {
	l := &lossyDisk{root: filepath.Dir(s.table), files: map[uint64]*lossyFile{}, folders: map[string][]map[string]uint64{}}
	l.folders[l.root] = []map[string]uint64{{}}
	l.folders[StateDir(s.table)] = []map[string]uint64{{}}
	l.top(l.root)[StateFolder] = l.add(&lossyFile{folder: true})
	for _, name := range tree(t, l.root) {
		path := filepath.Join(l.root, name)
		content, err := os.ReadFile(path)
		must(t, err)
		if path == s.fresh {
			content = nil // whoever wrote it has not synced it
		}
		ino, err := inode(path)
		must(t, err)
		l.top(filepath.Dir(path))[filepath.Base(path)] = l.add(&lossyFile{inode: ino, durable: content})
	}
	return l
}

func (l *lossyDisk) add(f *lossyFile) uint64 {
	l.next++
	l.files[l.next] = f
	return l.next
}

func (l *lossyDisk) top(dir string) map[string]uint64 {
	states := l.folders[dir]
	return states[len(states)-1]
}

func (l *lossyDisk) lookup(path string) uint64 { return l.top(filepath.Dir(path))[filepath.Base(path)] }

// set gives a folder a new state. File 0 removes the name.
func (l *lossyDisk) set(path string, file uint64) {
	dir := filepath.Dir(path)
	state := maps.Clone(l.top(dir))
	state[filepath.Base(path)] = file
	if file == 0 {
		delete(state, filepath.Base(path))
	}
	l.folders[dir] = append(l.folders[dir], state)
}

// before is told of a call that is about to be made; what it was told before has been made.
func (l *lossyDisk) before(t testing.TB, c call) {
	path := c.paths[0]
	switch c.op {
	case "write":
		l.set(path, l.add(&lossyFile{}))
	case "mkdir":
		if l.lookup(path) == 0 {
			l.set(path, l.add(&lossyFile{folder: true}))
			l.folders[path] = []map[string]uint64{{}}
		}
	case "link":
		l.set(c.paths[1], l.lookup(path))
	case "rename":
		file := l.lookup(path)
		l.set(path, 0)
		l.set(c.paths[1], file)
	case "remove":
		if l.lookup(path) != 0 {
			l.set(path, 0)
		}
	case "sync":
		if !l.skip(c) {
			content, err := os.ReadFile(path)
			must(t, err)
			l.files[l.lookup(path)].durable = content
		}
	case "syncdir":
		if !l.skip(c) {
			l.folders[path] = l.folders[path][len(l.folders[path])-1:]
		}
	}
}

// outcomes calls f with every choice of a state for each folder.
func (l *lossyDisk) outcomes(f func(choice map[string]map[string]uint64)) {
	dirs := slices.Sorted(maps.Keys(l.folders))
	choice := make(map[string]map[string]uint64)
	var choose func(i int)
	choose = func(i int) {
		if i == len(dirs) {
			f(choice)
			return
		}
		for _, state := range l.folders[dirs[i]] {
			choice[dirs[i]] = state
			choose(i + 1)
		}
	}
	choose(0)
}

// materialize makes the files of one outcome in a new folder.
func (l *lossyDisk) materialize(t testing.TB, to string, choice map[string]map[string]uint64) {
	inodes := make(map[uint64]uint64) // on the real disk: then, now
	made := make(map[uint64]string)
	var intents []string
	var fill func(from, to string)
	fill = func(from, to string) {
		for name, id := range choice[from] {
			path, file := filepath.Join(to, name), l.files[id]
			if file.folder {
				must(t, os.MkdirAll(path, 0o755))
				fill(filepath.Join(from, name), path)
				continue
			}
			if first := made[id]; first != "" {
				must(t, os.Link(first, path))
				continue
			}
			must(t, os.WriteFile(path, file.durable, 0o644))
			made[id] = path
			ino, err := inode(path)
			must(t, err)
			if file.inode != 0 {
				inodes[file.inode] = ino
			}
			if strings.HasSuffix(name, ".intent") {
				intents = append(intents, path)
			}
		}
	}
	fill(l.root, to)
	for _, path := range intents {
		translate(t, path, inodes)
	}
}

// translate gives an intent the inodes that its files have now. A file that is lost has one that no file has.
func translate(t testing.TB, path string, inodes map[uint64]uint64) {
	content, err := os.ReadFile(path)
	must(t, err)
	var in intent
	if json.Unmarshal(content, &in) != nil {
		return
	}
	const lost = 1 << 60
	for i, ino := range []*uint64{&in.NewInode, &in.OldInode} {
		if now := inodes[*ino]; now != 0 {
			*ino = now
		} else if *ino != 0 {
			*ino = lost + uint64(i)
		}
	}
	content, err = json.Marshal(in)
	must(t, err)
	must(t, os.WriteFile(path, content, 0o644))
}

// verdict is a testing.TB that remembers failures instead of failing.
type verdict struct {
	testing.TB
	why string
}

type stop struct{}

func (v *verdict) Error(args ...any)                 { v.why += fmt.Sprintln(args...) }
func (v *verdict) Errorf(format string, args ...any) { v.Error(fmt.Sprintf(format, args...)) }
func (v *verdict) Fatal(args ...any)                 { v.Error(args...); panic(stop{}) }
func (v *verdict) Fatalf(format string, args ...any) { v.Fatal(fmt.Sprintf(format, args...)) }

// judge tells what f finds wrong.
func judge(t testing.TB, f func(*verdict)) string {
	judge := &verdict{TB: t}
	func() {
		defer func() {
			if r := recover(); r != nil && r != (stop{}) {
				panic(r)
			}
		}()
		f(judge)
	}()
	return judge.why
}

// damage tells what is wrong with a table after a power cut with this outcome.
func (l *lossyDisk) damage(t testing.TB, choice map[string]map[string]uint64, v variety, told bool) string {
	return judge(t, func(judge *verdict) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		l.materialize(t, dir, choice)
		s := scene{table: filepath.Join(dir, "a.db")}
		if _, err := Resume(t.Context(), s.table); err != nil {
			judge.Fatal(err)
		}
		if word := check(judge, s, v); told && word != "new" {
			judge.Fatal("the swap was told as done, and is not")
		}
	})
}

// cutPower makes a swap and cuts the power before each of its calls, and after the last. It returns the call before which a cut
// may do damage, or "".
func cutPower(t testing.TB, v variety, forgets func(dir string, c call) bool) string {
	s := stage(t, v)
	dir := filepath.Dir(s.table)
	l := newLossyDisk(t, s)
	l.skip = func(c call) bool { return forgets != nil && forgets(dir, c) }
	damage := ""
	cut := func(at string, told bool) {
		l.outcomes(func(choice map[string]map[string]uint64) {
			if damage != "" {
				return
			}
			if why := l.damage(t, choice, v, told); why != "" {
				damage = at + ": " + why
			}
		})
	}
	r := recorder{hasty: true}
	r.fail = func(_ int, c call) error {
		if damage == "" {
			cut(readable(dir, []call{c}), false)
			l.before(t, c)
		}
		return nil
	}
	_, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime})
	must(t, err)
	if damage == "" {
		cut("end", true)
	}
	return damage
}

// SQLite's own calls are not followed: these varieties have none.
var lossy = []variety{varieties[0], varieties[4], unopenable}

func TestSwapSurvivesPowerCut(t *testing.T) {
	for _, v := range lossy {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			if at := cutPower(t, v, nil); at != "" {
				t.Fatalf("a power cut does damage before: %s", at)
			}
		})
	}
}

// Each sync is there for something: without it a power cut would do damage.
func TestSwapNeedsEverySync(t *testing.T) {
	needed := make(map[string]bool)
	for _, v := range lossy {
		s := stage(t, v)
		var r recorder
		_, err := swap(t.Context(), r.disk(), s.table, s.fresh, SwapOptions{Now: swapTime})
		must(t, err)
		for _, c := range r.calls {
			if strings.HasPrefix(c.op, "sync") {
				sync := readable(filepath.Dir(s.table), []call{c})
				needed[sync] = needed[sync] || cutPower(t, v, func(dir string, c call) bool { return readable(dir, []call{c}) == sync }) != ""
			}
		}
	}
	for sync, is := range needed {
		if !is {
			t.Errorf("nothing is lost without: %s", sync)
		}
	}
}
