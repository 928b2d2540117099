package ledger

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
)

var errPower = errors.New("the power is gone")

// memDisk is a disk that keeps what was synced, and of everything else, sector by sector, whatever chance decides. Call number
// fail of those that write returns an error; after power is cut every call does.
type memDisk struct {
	rng   *rand.Rand
	names map[string]*memNode
	calls int
	fail  int // 0: never
	dead  bool
}

type memNode struct {
	durable []byte
	now     []byte
}

type memFile struct {
	disk *memDisk
	node *memNode
}

func newMemDisk(rng *rand.Rand) *memDisk {
	return &memDisk{rng: rng, names: make(map[string]*memNode)}
}

// step counts one call that writes. failed calls may have done part of their work.
func (d *memDisk) step() error {
	if d.dead {
		return errPower
	}
	if d.calls++; d.calls == d.fail {
		return errors.New("injected")
	}
	return nil
}

const sector = 64 // small, so that small files tear too

// reboot loses what was not synced, in part, and lets the disk work again.
func (d *memDisk) reboot() {
	for _, n := range d.names {
		kept := slices.Clone(n.durable)
		for off := 0; off < len(n.now); off += sector {
			if d.rng.IntN(2) == 0 {
				continue
			}
			end := min(off+sector, len(n.now))
			if end > len(kept) {
				kept = append(kept, make([]byte, end-len(kept))...)
			}
			copy(kept[off:end], n.now[off:end])
		}
		n.durable, n.now = kept, slices.Clone(kept)
	}
	d.dead, d.fail = false, 0
}

func (d *memDisk) Create(name string) (File, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	n := &memNode{}
	d.names[name] = n
	return &memFile{d, n}, nil
}

func (d *memDisk) Open(name string) (File, error) {
	n, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &memFile{d, n}, nil
}

// Rename is as durable as a journalling file system makes it: if it fails, either name may be the outcome.
func (d *memDisk) Rename(from, to string) error {
	err := d.step()
	if err == nil || d.rng.IntN(2) == 0 && !errors.Is(err, errPower) {
		d.names[to] = d.names[from]
		delete(d.names, from)
	}
	return err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.node.now)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.now[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.disk.step()
	if err != nil {
		if errors.Is(err, errPower) {
			return 0, err
		}
		p = p[:f.disk.rng.IntN(len(p)+1)]
	}
	if end := off + int64(len(p)); end > int64(len(f.node.now)) {
		f.node.now = append(f.node.now, make([]byte, end-int64(len(f.node.now)))...)
	}
	copy(f.node.now[off:], p)
	return len(p), err
}

func (f *memFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.node.durable = slices.Clone(f.node.now)
	return nil
}

func (f *memFile) Size() (int64, error) { return int64(len(f.node.now)), nil }
func (f *memFile) Close() error         { return nil }
