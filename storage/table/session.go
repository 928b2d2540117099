package table

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"tablekeeper/storage/ledger"
)

// session is everything that is bound to the file an owned table has open now. A swap ends one and begins another.
type session struct {
	path     string
	id       fileID
	pageSize int64
	full     int64 // frames at which a checkpoint is due
	main     *os.File
	writer   *sql.DB
	readers  *sql.DB
	ledger   *ledger.Ledger
	due      atomic.Int64  // full, counted from the last checkpoint of this generation of the WAL
	dirty    atomic.Bool   // something was committed since the last checkpoint
	turning  atomic.Bool   // the next commit may start the WAL anew
	noted    atomic.Uint64 // the WAL generation that the ledger has, packed
	entrance entrance

	inside  int           // operations; the gate's lock guards it
	retired atomic.Bool   // another session is about to take its place, or has
	gone    chan struct{} // nil until then; closed when its last operation has ended

	// mu serialises what moves the pin, the WAL and the ledger. It is taken before the right to write.
	mu     sync.Mutex
	closed bool
	pin    *conn // has a read transaction open, always; see checkpoint.go
	spare  *conn
	gauge  *conn // never in a transaction: it measures the WAL
	tail   walTail
	moved  progress // by our last checkpoint
	halted bool     // a checkpoint stopped for a reader: what it had moved may have been damaged since
	second *os.File // the main file again, if it had to be written to
	// tainted pages were damaged, and the newer version that was about to overwrite them may have been made from that.
	tainted []uint32
	found   Findings
}

// ownedDSN is for the connections of an owned table. autocheckpoint is off: a checkpoint that the ledger does not know of
// would make every page it moves look damaged.
func ownedDSN(path string, busy time.Duration, more string) string {
	return dsn(path, openOptions{wait: busy}) + "&_pragma=synchronous(full)&_pragma=wal_autocheckpoint(0)" + more
}

// guarded opens connections only beside a table that nothing threatens: SQLite rolls a hot journal back into the file, whoever's it
// is, when a connection opens, and never looks for one later.
type guarded struct {
	driver.Connector
	path     string
	entrance *entrance
}

// entrance is shut while the file is being replaced, and for good afterwards: a connection that opens then would
// have one file's pages and the other one's WAL.
type entrance struct {
	sync.RWMutex
	shut    bool
	waiting atomic.Int64 // those who want to come in
}

func (g guarded) Connect(ctx context.Context) (driver.Conn, error) {
	g.entrance.waiting.Add(1)
	g.entrance.RLock()
	g.entrance.waiting.Add(-1)
	defer g.entrance.RUnlock()
	if g.entrance.shut {
		return nil, errRetired
	}
	if hotJournal(g.path + "-journal") {
		return nil, fmt.Errorf("open %s: %w: a rollback journal beside a table in WAL mode", g.path, ErrForeignJournal)
	}
	return g.Connector.Connect(ctx)
}

// reading is how many have a connection to read the table with.
func (s *session) reading() int64 {
	waiting := s.entrance.waiting.Load() // before the others are counted: who comes in meanwhile may be one too many, not one too few
	return int64(s.readers.Stats().InUse) - waiting
}

func (s *session) pool(dsn string, size int) (*sql.DB, error) {
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(guarded{connector, s.path, &s.entrance})
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// keeper opens one of the connections that look after the pin.
func keeper(ctx context.Context, path string, busy time.Duration) (*conn, error) {
	c, err := connect(ctx, path, openOptions{wait: busy, private: true})
	if err != nil {
		return nil, err
	}
	err = c.exec(ctx, "PRAGMA synchronous=FULL")
	if err == nil {
		err = c.exec(ctx, "PRAGMA wal_autocheckpoint=0")
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// pools opens what reads and writes.
func (s *session) pools(ctx context.Context, opts Options) (err error) {
	s.writer, err = s.pool(ownedDSN(s.path, opts.BusyTimeout, "&_txlock=immediate"), 1)
	if err != nil {
		return err
	}
	s.readers, err = s.pool(ownedDSN(s.path, opts.BusyTimeout, "&_query_only=1"), opts.Readers)
	if err != nil {
		return err
	}
	return s.writer.PingContext(ctx)
}

// readSum is the sum of a page in the main file. What lies beyond its end reads as zeros, as it does for SQLite.
func (s *session) readSum(page uint32) (uint32, error) {
	buf := make([]byte, s.pageSize)
	return s.sumInto(page, buf)
}

func (s *session) sumInto(page uint32, buf []byte) (uint32, error) {
	n, err := s.main.ReadAt(buf, int64(page-1)*s.pageSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, &damage{Cause: CausePage, Pages: []uint32{page}, Err: fmt.Errorf("read page %d: %w", page, err)}
	}
	clear(buf[n:])
	return ledger.Sum(buf), nil
}

// evidence is how a file was left, for whoever opens it next: if it is still so, nobody opened it in between.
type evidence struct {
	clean ledger.Clean
	id    fileID
}

// end closes the session: nobody uses it any more. What is in the WAL is settled if that can be; of a sound table, what is overwritten
// is looked at. The evidence is zero if somebody else has the table open, or if it was not settled.
//
// The last connection that closes a WAL moves what is in it to the main file and deletes it, damaged or not. So the ledger must know it
// before. And that is how a stranger's visit shows: we leave an empty -wal, and it is gone afterwards.
func (s *session) end(ctx context.Context, sound bool) (evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // by a cut that left neither file usable
		s.drop()
		return evidence{}, nil
	}
	s.closed = true
	err := errors.Join(closeDB(s.readers), closeDB(s.writer))
	settled := false
	if sound {
		var settleErr error
		settled, settleErr = s.settle(ctx, true)
		err = errors.Join(err, settleErr)
		sound = asDamage(settleErr) == nil
	}
	if !sound {
		var giveErr error
		settled, giveErr = s.give(ctx)
		err = errors.Join(err, giveErr)
	}
	err = errors.Join(err, s.ledger.Distrust(s.tainted))
	before, statErr := s.main.Stat()
	if !sound && settled && statErr == nil {
		// Whoever dies between the end of the WAL and the evidence leaves this: what is damaged must not be taken over.
		err = errors.Join(err, s.ledger.Closing(ledger.Clean{MainTime: before.ModTime().UnixNano()}))
	}
	err = errors.Join(err, s.closeKeepers())
	if s.second != nil {
		err = errors.Join(err, s.second.Close())
	}
	s.findings(settled && s.quiet())
	var left evidence
	if s.found.Settled && statErr == nil {
		left = s.leave(before)
	}
	if s.tail.file != nil {
		err = errors.Join(err, s.tail.file.Close())
	}
	return left, errors.Join(err, s.main.Close())
}

// quiet tells that nothing was committed behind what the ledger has.
func (s *session) quiet() bool {
	gen := s.tail.gen
	late, err := s.tail.read(math.MaxInt64)
	return err == nil && len(late) == 0 && gen == s.tail.gen
}

// leave puts the empty -wal beside the file, if nobody was there since before.
func (s *session) leave(before fs.FileInfo) evidence {
	wal, err := os.OpenFile(s.path+"-wal", os.O_CREATE|os.O_EXCL|os.O_WRONLY, before.Mode().Perm())
	if err != nil {
		return evidence{}
	}
	info, err := wal.Stat()
	after, mainErr := os.Lstat(s.path)
	if wal.Close() != nil || err != nil || mainErr != nil || !os.SameFile(before, after) ||
		!after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size() {
		return evidence{}
	}
	return evidence{id: s.id, clean: ledger.Clean{
		WALInode: fileIDOf(info).Ino, WALTime: info.ModTime().UnixNano(), MainTime: after.ModTime().UnixNano(),
	}}
}

// close ends the session for good: the ledger is folded, with the evidence.
func (s *session) close(ctx context.Context, suspect bool) (evidence, error) {
	left, err := s.end(ctx, !suspect)
	if left.clean != (ledger.Clean{}) {
		err = errors.Join(err, s.ledger.Fold(left.clean))
	}
	return left, errors.Join(err, s.ledger.Close())
}

// drop closes what a cut leaves open for readers.
func (s *session) drop() {
	_ = closeDB(s.readers) // the file is not the table any more, or cannot be used
	_ = s.main.Close()     // or it is already
	if s.tail.file != nil {
		_ = s.tail.file.Close()
	}
}

// closeKeepers closes the connections that look after the WAL.
func (s *session) closeKeepers() error {
	return errors.Join(closeConn(s.gauge), closeConn(s.spare), closeConn(s.pin))
}

func closeDB(db *sql.DB) error {
	if db == nil {
		return nil
	}
	return db.Close()
}

func closeConn(c *conn) error {
	if c == nil {
		return nil
	}
	return c.close()
}
