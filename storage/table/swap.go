package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrNoLinks: the file cannot get a second name, so that it cannot be kept and replaced in one step. Its file system has no hard links, or it
// is mounted by itself, as containers do. Overwrite works there.
var ErrNoLinks = errors.New("the file cannot get a second name (hard link)")

// SwapOptions: the zero value is usable.
type SwapOptions struct {
	Reason string        // a word for the name in quarantine; "replaced" if empty
	Now    time.Time     // for the name in quarantine; the clock if zero
	Wait   time.Duration // how long to go on trying while the table is in use; 0: once
	Lock   *Held         // the table's lock, if the caller has it; else it is taken for the swap, at once or not at all
	// Since, if not "", is the state that the new file was made from: ErrChanged if anybody has committed after it.
	Since Token
	// AcceptUnproven is for those who know that nobody has the table open where it cannot be proved: see ErrUnproven.
	AcceptUnproven bool
}

// Swapped is a swap that was made.
type Swapped struct {
	Quarantine string // the folder that has the old file; "" if there was none
}

// Swap puts newFile, a complete and checked database, in place of the table at path, or where there is none.
//
// newFile must be in the table's folder or its StateDir, closed, without a -wal; see Temporary. Afterwards its own name is gone. It gets
// the owner, the permissions and the journal mode (WAL or not) of the old file. That one goes to quarantine: it
// stays linked there, so that nothing is freed. The table's name always names a whole database, the old one or the new one.
// When Swap returns without an error, the new one is durable.
//
// An error means that the old file is in place, except where it says otherwise; newFile is still there to be used in another
// way. ErrInUse, with the processes: somebody else, or this process, has the table open. ErrUnproven: it cannot be told.
// ErrNoLinks. ErrLocked. ErrChanged. ErrInterrupted: Resume first. fs.ErrInvalid: newFile cannot be swapped in.
//
// How it is known that nobody has the table open, and that nobody opens it in the meantime: see sole.go.
func Swap(ctx context.Context, path, newFile string, opts SwapOptions) (Swapped, error) {
	done, err := swap(ctx, disk{}, path, newFile, opts)
	if err != nil {
		return done, fmt.Errorf("swap %s: %w", path, err)
	}
	return done, nil
}

func swap(ctx context.Context, d disk, path, newFile string, opts SwapOptions) (done Swapped, err error) {
	real, err := realPath(path)
	if err != nil {
		return done, err
	}
	unlock, err := lockFor(ctx, real, opts.Lock)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	s, err := newSwapper(d, real, newFile, opts)
	if err != nil {
		return done, err
	}
	err = s.prepare()
	if err == nil {
		err = s.try(ctx)
	}
	if err != nil {
		_, settled := s.settle()
		return done, errors.Join(err, settled)
	}
	if err := s.end(); err != nil {
		return done, fmt.Errorf("the new file is in place, but the swap is not closed: %w", err)
	}
	if s.keeps() {
		done.Quarantine = s.quarantine()
	}
	return done, nil
}

// lockFor takes the lock of a table, unless the caller has it.
func lockFor(ctx context.Context, real string, held *Held) (unlock func() error, err error) {
	if held == nil {
		if held, err = Lock(ctx, real, Owner{Function: "swap"}); err != nil {
			return nil, err
		}
		return held.Release, nil
	}
	if held.path != real {
		return nil, fmt.Errorf("the lock held is of %s: %w", held.path, fs.ErrInvalid)
	}
	return func() error { return nil }, nil
}

// swapper makes one swap, or settles one that was interrupted.
type swapper struct {
	d    disk
	path string // resolved
	in   intent
	opts SwapOptions
	// aside: the -wal and -journal cannot be folded into the old file, and go to quarantine beside it.
	aside bool
}

func (s *swapper) dir() string        { return filepath.Dir(s.path) }
func (s *swapper) newFile() string    { return filepath.Join(s.dir(), s.in.New) }
func (s *swapper) quarantine() string { return filepath.Join(QuarantineDir(s.path), s.in.Quarantine) }
func (s *swapper) kept() string       { return filepath.Join(s.quarantine(), s.in.Table) }

// keeps tells whether there is something in quarantine.
func (s *swapper) keeps() bool {
	_, err := os.Lstat(s.quarantine())
	return err == nil
}

func newSwapper(d disk, real, newFile string, opts SwapOptions) (*swapper, error) {
	if in, err := readIntent(real); err != nil || in != nil {
		return nil, errors.Join(ErrInterrupted, err)
	}
	rel, fresh, err := fitToSwapIn(real, newFile)
	if err != nil {
		return nil, err
	}
	now := opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	s := &swapper{d: d, path: real, opts: opts, in: intent{
		Format: intentFormat, Operation: "swap", Table: filepath.Base(real), New: rel, NewInode: fresh.Ino,
		Quarantine: newQuarantineName(real, now, opts.Reason), PID: os.Getpid(),
	}}
	old, err := os.Lstat(real)
	if isGone(err) {
		return s, nil
	}
	if err == nil {
		err = regular(real, old)
	}
	if err == nil && links(old) > 1 {
		err = fmt.Errorf("the file has %d names (hard links), and only this one would get the new file: %w", links(old), fs.ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	id, err := identify(real)
	s.in.OldInode = id.Ino
	return s, err
}

// prepare dresses the new file and makes it durable, then announces the swap.
func (s *swapper) prepare() error {
	if err := s.dress(); err != nil {
		return fmt.Errorf("prepare the new file: %w", err)
	}
	if err := s.in.write(s.d, s.path); err != nil {
		return err
	}
	if s.in.OldInode == 0 && len(tableFiles(s.path)) == 0 {
		return nil
	}
	_, err := makeQuarantine(s.d, s.path, s.in.Quarantine)
	return err
}

// try attempts the swap for as long as somebody is in the way and there is time.
func (s *swapper) try(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, s.opts.Wait)
	defer cancel()
	for {
		err := s.attempt(ctx)
		if !errors.Is(err, ErrInUse) || pause(waiting, lockPoll) != nil {
			return err
		}
	}
}

func (s *swapper) attempt(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fresh, err := lockSole(s.d, s.newFile())
	if err != nil {
		return fmt.Errorf("lock the new file: %w", err)
	}
	if s.in.OldInode == 0 {
		return errors.Join(s.place(), fresh.release())
	}
	old, err := s.own(ctx)
	if err != nil {
		return errors.Join(err, fresh.release())
	}
	err = s.replace(old)
	// Those who waited for the old file first: if it went back to its name, it is theirs.
	released := old.release()
	if err != nil {
		return errors.Join(err, released, fresh.releaseAlone(ctx))
	}
	return errors.Join(released, fresh.release())
}

// own makes the old file whole, links it into quarantine, and proves that it is ours alone.
func (s *swapper) own(ctx context.Context) (*sole, error) {
	if err := s.absorb(ctx); err != nil {
		return nil, err
	}
	if err := s.keep(s.path, s.kept()); err != nil {
		return nil, err
	}
	return prove(s.d, s.path, s.opts.AcceptUnproven, s.opts.Since)
}

// replace is the swap itself.
func (s *swapper) replace(old *sole) error {
	if kept, err := identify(s.kept()); old.id.Ino != s.in.OldInode || err != nil || kept != old.id {
		return fmt.Errorf("another file took the table's name meanwhile: %w", errors.Join(fs.ErrInvalid, err))
	}
	if err := s.clear(); err != nil {
		return err
	}
	if err := s.d.rename(s.newFile(), s.path); err != nil {
		return refused(s.path, err)
	}
	err := old.undisturbed()
	if err == nil {
		err = s.d.syncDir(s.dir())
	}
	if err == nil {
		err = old.undisturbed()
	}
	if err != nil {
		return errors.Join(err, s.putBack())
	}
	return nil
}

// putBack gives the table's name to the old file again, and the new file its own.
func (s *swapper) putBack() error {
	err := s.d.link(s.path, s.newFile())
	if err == nil {
		err = s.d.rename(s.kept(), s.path)
	}
	if err == nil {
		err = s.d.syncDir(s.dir())
	}
	if err != nil {
		return fmt.Errorf("put the old file back: %w", err)
	}
	return nil
}

// place puts the new file where there is none.
func (s *swapper) place() error {
	if len(tableFiles(s.path)) > 0 {
		if open, _ := ScanOpen(); len(open.Holders(s.path)) > 0 {
			return inUse(s.path, 0)
		}
	}
	s.aside = true // left by the file that was here
	if err := s.clear(); err != nil {
		return err
	}
	return publishName(s.d, s.newFile(), s.path)
}

// keep links a file into quarantine, unless a former attempt has.
func (s *swapper) keep(from, to string) error {
	err := s.d.link(from, to)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case noLinks(err):
		return fmt.Errorf("%w: overwrite the table in place instead: %w", ErrNoLinks, err)
	case err != nil:
		return err
	}
	return s.d.syncDir(s.quarantine())
}

func noLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS) ||
		errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EXDEV)
}

// end closes a swap that is done.
func (s *swapper) end() error {
	if err := s.d.remove(statePath(s.path, ".intent")); err != nil {
		return err
	}
	return s.d.syncDir(StateDir(s.path))
}
