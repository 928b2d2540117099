package ledger

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrGeneration: frames of a new generation were handed in while frames of the one before it are not settled. The WAL was
// started again behind our back, and what it moved into the main file meanwhile is unknown.
var ErrGeneration = errors.New("the WAL was restarted before its frames were settled")

// Ledger is the ledger of one owned table, on disk and in memory. Its methods may be called concurrently.
//
// The main file changes only when a checkpoint moves frames of the WAL into it. The order that keeps the ledger true at
// every moment, a crash included, is
//
//	Stage(frames)   durable before any of them can be moved: from now on a page may equal its old sum or a staged one
//	(checkpoint)
//	Settle()        all of it is in the main file: the last version of each page is the only one left
//
// A checkpoint that stops short, for a reader's sake, settles nothing: SQLite then passes over pages that have a newer
// version beyond the point where it stops. What it says of the others is for Moved.
//
// A sum of 0 means that the page's sum is not known, and every content is accepted.
type Ledger struct {
	mu   sync.RWMutex
	disk Disk
	path string
	file File
	size int64  // of the file up to its last whole record
	base int64  // of the part before the log
	last uint32 // chain of the log
	// torn: what follows size in the file is not ours. The next write makes the file anew.
	torn bool
	// lost: a tail was cut off when the ledger was read. It may have been torn by a power cut, or have rotted.
	lost bool

	im       image
	unproven pageSet
	gen      Generation
	staged   uint32  // last frame of gen that was staged
	pending  []Frame // staged and not settled
	least    uint32  // smallest size that a pending transaction gives the table; 0: none does
	revision uint64  // of what Accepts and Pages say
	versions map[uint32][]uint32

	// What Moved has said.
	moved   uint32          // frames of gen
	arrived map[uint32]bool // pages that the main file has in the first of their versions, or a later one
	reach   uint32          // the last of them
}

// maxJump is by how many pages a table may outgrow the frames that are known of it. SQLite writes every page that it adds
// but one, at 1 GiB; the limit keeps a hostile ledger from costing memory.
const maxJump = 1 << 20

// Options describe a new ledger.
type Options struct {
	Disk     Disk   // default: OS()
	PageSize uint32 // bytes
	Inode    uint64 // of the main file that the sums are of
	Sums     Sums
	// Unproven says that Sums were read from a file whose past is unknown, at the time Now: they show what changes from
	// now on, not what changed before.
	Unproven bool
	Now      time.Time
	Clean    Clean // if nothing may have touched the file between the sums and the next Open
}

// Create writes a new ledger to path, in one piece: after a crash path is what it was, or the whole new ledger.
func Create(path string, opts Options) (*Ledger, error) {
	if opts.Disk == nil {
		opts.Disk = OS()
	}
	if !validPageSize(opts.PageSize) {
		return nil, fmt.Errorf("create ledger %s: page size %d", path, opts.PageSize)
	}
	l := &Ledger{disk: opts.Disk, path: path, im: image{
		pageSize: opts.PageSize, inode: opts.Inode, sums: slices.Clone(opts.Sums), clean: opts.Clean, since: opts.Now.UnixMilli(),
	}}
	if opts.Unproven {
		l.unproven.addRanges([]pageRange{{1, uint32(len(opts.Sums))}}, len(opts.Sums))
	}
	if err := l.fold(); err != nil {
		return nil, fmt.Errorf("create ledger %s: %w", path, err)
	}
	return l, nil
}

// Open reads the ledger at path. Errors: fs.ErrNotExist, ErrDamaged, ErrNewer.
func Open(path string, disk Disk) (*Ledger, error) {
	if disk == nil {
		disk = OS()
	}
	f, err := disk.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := &Ledger{disk: disk, path: path, file: f}
	if err := l.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", path, err), f.Close())
	}
	return l, nil
}

func (l *Ledger) read() error {
	size, err := l.file.Size()
	if err != nil {
		return err
	}
	b := make([]byte, size)
	if n, err := l.file.ReadAt(b, 0); n < len(b) {
		return err
	}
	return l.parse(b)
}

func (l *Ledger) parse(b []byte) error {
	im, log, chain, err := parseImage(b)
	if err != nil {
		return err
	}
	l.im, l.last, l.base = im, chain, int64(len(b)-len(log))
	l.unproven.addRanges(im.unproven, len(im.sums))
	for {
		r, rest, next, ok := parseRecord(log, l.last)
		if !ok {
			break
		}
		if err := l.apply(r); err != nil {
			return fmt.Errorf("%w: its log: %w", ErrDamaged, err)
		}
		log, l.last = rest, next
	}
	l.size = int64(len(b) - len(log))
	l.torn, l.lost = len(log) > 0, len(log) > 0
	return nil
}

// apply does in memory what the record says.
func (l *Ledger) apply(r record) error {
	switch r.kind {
	case kindStage:
		if err := l.admit(r); err != nil {
			return err
		}
		l.stage(r)
		return nil
	case kindSettle:
		if r.gen != l.gen || r.first != l.staged {
			return errors.New("frames are settled that were not staged")
		}
		l.settle()
		for _, f := range r.frames {
			if f.Page == 0 || int64(f.Page) > int64(len(l.im.sums)) {
				return fmt.Errorf("a sum for page %d of %d", f.Page, len(l.im.sums))
			}
			l.setSum(f.Page, f.Sum)
		}
		return nil
	}
	return fmt.Errorf("a record of kind %d", r.kind)
}

// admit refuses frames that cannot follow what is staged.
func (l *Ledger) admit(r record) error {
	last := l.staged
	if r.gen != l.gen {
		if len(l.pending) > 0 {
			return ErrGeneration
		}
		last = r.first - 1
	}
	if r.first == 0 || r.first != last+1 {
		return fmt.Errorf("frame %d is staged after frame %d", r.first, last)
	}
	limit := uint64(len(l.im.sums)) + uint64(len(l.pending)) + uint64(len(r.frames)) + maxJump
	for i, f := range r.frames {
		if f.Page == 0 || uint64(max(f.Page, f.Pages)) > limit {
			return fmt.Errorf("frame %d is of page %d of %d", int(r.first)+i, f.Page, f.Pages)
		}
	}
	return nil
}

func (l *Ledger) stage(r record) {
	if r.gen != l.gen {
		l.gen, l.staged, l.moved = r.gen, r.first-1, 0
	}
	if l.versions == nil {
		l.versions = make(map[uint32][]uint32)
	}
	for _, f := range r.frames {
		l.staged++
		l.pending = append(l.pending, f)
		l.versions[f.Page] = append(l.versions[f.Page], f.Sum)
		if f.Pages > 0 && (l.least == 0 || f.Pages < l.least) {
			l.least = f.Pages
		}
		if f.Pages > 0 {
			l.depart(f.Pages)
		}
	}
	// A fold notes the place in the WAL that it keeps, in a record without frames: what it says of the files still holds.
	if position := len(r.frames) == 0 && r.first > 1; !position {
		l.im.clean = Clean{}
	}
	l.revision++
}

// settle makes the last staged version of each page the only truth about it.
func (l *Ledger) settle() {
	for _, f := range l.pending {
		l.setSum(f.Page, f.Sum)
		l.unproven.remove(f.Page)
		// One transaction at a time: a page that one drops and a later one brings back has lost its sum meanwhile.
		if f.Pages > 0 {
			l.resize(int(f.Pages))
		}
	}
	l.pending, l.least = nil, 0
	l.revision++
	clear(l.versions)
	l.depart(0)
}

func (l *Ledger) setSum(page, sum uint32) {
	if int(page) > len(l.im.sums) {
		l.resize(int(page))
	}
	l.im.sums[page-1] = sum
}

func (l *Ledger) resize(pages int) {
	for p := pages; p < len(l.im.sums); p++ {
		l.unproven.remove(uint32(p + 1))
	}
	if pages <= len(l.im.sums) {
		l.im.sums = l.im.sums[:pages]
		return
	}
	l.im.sums = append(l.im.sums, make(Sums, pages-len(l.im.sums))...)
}
