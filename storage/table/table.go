package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
)

// ErrDegraded: an owned table could not be recovered, and serves nothing until somebody puts a file in place.
var ErrDegraded = errors.New("the table could not be recovered")

// ErrClosed: the handle was closed.
var ErrClosed = errors.New("the table is closed")

// Options of an owned table. The zero value is usable.
type Options struct {
	Logger *slog.Logger // default: none
	// OnCorrupt is told of damage, once an incident, on a goroutine of its own. From then on callers wait. It makes the
	// table whole again between Detach and Attach, or gives up with Fail. If it is nil, callers get the damage as an
	// error that is ErrCorrupt, and the table goes on as well as it can.
	OnCorrupt func(ctx context.Context, r Report)
	// RecoverWait is how long an operation waits for a table that is being recovered before it returns ErrRecovering.
	// Default: 60 s.
	RecoverWait time.Duration
	BusyTimeout time.Duration // wait for a lock that another process has; default 5 s
	Readers     int           // most connections that read at the same time; default 4
	// CheckpointBytes is how long the WAL gets before a checkpoint. Default: 8 MiB.
	CheckpointBytes int64
	// Idle is how long nothing must be written before what is in the WAL is checkpointed anyway. Default: 1 s.
	Idle time.Duration
	// ProbeEvery is how often the files are looked at while nobody uses the table: deleted, replaced, cut, written by
	// others. Default: 2 s; negative: only beside operations.
	ProbeEvery time.Duration
	// VerifyBytes is up to which size every page is compared with the ledger when the table is opened; of a larger one
	// only some are. Default: 64 MiB.
	VerifyBytes int64
	// MustExist refuses to make a new table where there is none: fs.ErrNotExist.
	MustExist bool
	Clock     func() time.Time // for times in reports; default: time.Now
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.RecoverWait = cmp.Or(o.RecoverWait, time.Minute)
	o.BusyTimeout = cmp.Or(o.BusyTimeout, 5*time.Second)
	o.Readers = cmp.Or(o.Readers, 4)
	o.CheckpointBytes = cmp.Or(o.CheckpointBytes, 8<<20)
	o.Idle = cmp.Or(o.Idle, time.Second)
	o.ProbeEvery = cmp.Or(o.ProbeEvery, 2*time.Second)
	o.VerifyBytes = cmp.Or(o.VerifyBytes, 64<<20)
	return o
}

// Table is an owned table: every read and write of this program passes through it. It is safe for concurrent use.
//
// Other processes may have the file open, and may read and write it with SQLite; what they commit is kept and gets its sums
// like our own. Only one Table owns a file at a time.
type Table struct {
	path  string // resolved
	opts  Options
	log   *slog.Logger
	owned *flock.Flock
	gate  gate
	// write is the right to write: it is full while somebody does.
	write   chan struct{}
	kick    chan struct{}
	commits atomic.Int64
	probed  throttle
	stop    context.CancelFunc
	tasks   sync.WaitGroup

	swapping   sync.Mutex // serialises Detach, Attach and the cut of a compaction
	left       evidence   // what Detach left beside the file
	found      Findings   // of the last session that was closed because of damage
	compacting atomic.Pointer[compacting]
	disk       disk          // of the cut; only tests set it
	outwait    time.Duration // how long a cut waits for readers
}

// Open opens the table at path as its owner, and makes a new one if there is none. What an interrupted operation left behind
// is settled first. A file that is damaged is reported to OnCorrupt, and the handle returned waits for its
// recovery; without OnCorrupt it is an error that is ErrCorrupt.
//
// Errors: ErrLocked if the table has an owner already, ErrNetworkFS, and those of Resume.
func Open(ctx context.Context, path string, opts Options) (*Table, error) {
	t, err := claim(ctx, path, opts)
	if err != nil {
		return nil, fmt.Errorf("open table %s: %w", path, err)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	s, err := t.open(ctx, AttachOptions{})
	switch found := asDamage(err); {
	case err == nil:
		t.gate.attach(s)
	case found == nil || t.opts.OnCorrupt == nil:
		stop()
		return nil, errors.Join(fmt.Errorf("open table %s: %w", path, err), t.owned.Close())
	default:
		t.gate.to(suspicious, serving)
		t.report(work, found)
	}
	t.tasks.Go(func() { t.keep(work) })
	return t, nil
}

// claim makes the caller the owner of the table.
func claim(ctx context.Context, path string, opts Options) (*Table, error) {
	real, err := realPath(path)
	if err != nil {
		return nil, err
	}
	if err := MakeStateDir(real); err != nil {
		return nil, err
	}
	t := &Table{path: real, opts: opts.withDefaults(), write: make(chan struct{}, 1), kick: make(chan struct{}, 1), outwait: outwaitReaders}
	t.log = t.opts.Logger.With("table", real)
	t.owned = flock.New(statePath(real, ".owned"), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	switch ok, err := t.owned.TryLock(); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errors.Join(fmt.Errorf("it has an owner: %w", ErrLocked), t.owned.Close())
	}
	// Somebody at work has the lock, and leaves nothing behind.
	if _, err := Resume(ctx, real); err != nil && !errors.Is(err, ErrLocked) {
		return nil, errors.Join(err, t.owned.Close())
	}
	return t, nil
}

// Path is where the table is, with symbolic links resolved.
func (t *Table) Path() string { return t.path }

// Close ends the service: operations that have begun are waited for, later ones return ErrClosed. What is in the WAL is
// checkpointed, and the ledger folded.
func (t *Table) Close() error {
	t.cease()
	s, was, first := t.gate.close()
	if !first {
		return nil
	}
	t.stop()
	t.tasks.Wait()
	t.swapping.Lock()
	defer t.swapping.Unlock()
	var err error
	if s != nil {
		_, err = s.close(context.Background(), was != serving)
	}
	if err = errors.Join(err, t.owned.Close()); err != nil {
		return fmt.Errorf("close table %s: %w", t.path, err)
	}
	return nil
}
