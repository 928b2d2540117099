package table

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
)

const (
	walHeaderSize   = 32
	walFrameSize    = 24 // the header of a frame; a page follows
	walMagic        = 0x377f0682
	walFormat       = 3007000
	framesPerBreath = 1024 // between two looks at the context
)

// walState is what the committed frames of a WAL make of page 1.
type walState struct {
	size   int64  // of the -wal file
	frames int64  // up to the last commit
	pages  int64  // size of the database after it; 0: no commit in the WAL
	first  uint32 // change counter of the oldest committed page 1, if page1 is not nil
	page1  []byte // header of the newest committed page 1; nil: it is not in the WAL
}

// readWAL reads the WAL beside the database at path, whose header is h, as SQLite's recovery would
// (https://sqlite.org/fileformat2.html#the_write_ahead_log). It takes no lock: beside a live writer the result is a state that was, as
// long as h was read before. ErrForeignJournal if the WAL cannot belong to the file.
func readWAL(ctx context.Context, path string, h header) (walState, error) {
	path += "-wal"
	f, size, err := openBeside(path)
	if f == nil || err != nil {
		return walState{}, err
	}
	defer func() { _ = f.Close() }() // only read
	w := walState{size: size}
	if size <= walHeaderSize {
		return w, nil
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20)
	head := make([]byte, walHeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return w, ignoreEOF(err)
	}
	s, ok := newWALSum(head)
	if !ok {
		return w, foreign("the header of %s is damaged: SQLite would drop every transaction in it", path)
	}
	pageSize := int64(binary.BigEndian.Uint32(head[8:]))
	if !validPageSize(pageSize) {
		return w, nil // SQLite ignores it
	}
	if err := w.scan(ctx, r, head, s, pageSize); err != nil {
		return w, err
	}
	return w, w.judge(path, pageSize, h)
}

// scan reads frames up to the first that is not valid.
func (w *walState) scan(ctx context.Context, r io.Reader, head []byte, s *walSum, pageSize int64) error {
	frame := make([]byte, walFrameSize+pageSize)
	page1, seen, first := make([]byte, headerSize), false, uint32(0)
	for n := int64(1); ; n++ {
		if n%framesPerBreath == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := io.ReadFull(r, frame); err != nil {
			return ignoreEOF(err)
		}
		number, commit := binary.BigEndian.Uint32(frame), binary.BigEndian.Uint32(frame[4:])
		if number == 0 || string(frame[8:16]) != string(head[16:24]) || !s.frame(frame) {
			return nil
		}
		if number == 1 {
			copy(page1, frame[walFrameSize:])
			if !seen {
				seen, first = true, binary.BigEndian.Uint32(page1[24:])
			}
		}
		if commit != 0 {
			w.frames, w.pages = n, int64(commit)
			if seen {
				w.first, w.page1 = first, append(w.page1[:0], page1...)
			}
		}
	}
}

func (w *walState) judge(path string, pageSize int64, h header) error {
	switch {
	case w.frames == 0:
		return nil
	case pageSize != h.pageSize:
		return foreign("%s is for pages of %d bytes, the file has %d", path, pageSize, h.pageSize)
	case !h.walMode:
		return foreign("%s holds transactions, but the file is not in WAL mode", path)
	case w.page1 == nil:
		return nil
	}
	newest, err := parseHeader(w.page1)
	switch {
	case err != nil || newest.pageSize != h.pageSize:
		return foreign("page 1 in %s is not that of an SQLite database", path)
	case int32(newest.changeCounter-h.changeCounter) < 0, int32(h.changeCounter-w.first+1) < 0:
		return foreign("%s is of transactions %d to %d, the file is at %d", path, w.first, newest.changeCounter, h.changeCounter)
	}
	return nil
}

// current is the header of the database as its last commit left it.
func (w *walState) current(h header) (header, error) {
	if w.page1 == nil {
		return h, nil
	}
	return parseHeader(w.page1)
}

// walSum is the running checksum of a WAL.
type walSum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

// newWALSum starts with the header of a WAL, and reports whether that is valid.
func newWALSum(head []byte) (*walSum, bool) {
	magic := binary.BigEndian.Uint32(head)
	if magic&^1 != walMagic || binary.BigEndian.Uint32(head[4:]) != walFormat {
		return nil, false
	}
	s := &walSum{order: binary.LittleEndian}
	if magic&1 != 0 {
		s.order = binary.BigEndian
	}
	s.add(head[:24])
	return s, s.is(head[24:])
}

// frame adds a frame, and reports whether its own checksum is right.
func (s *walSum) frame(frame []byte) bool {
	s.add(frame[:8])
	s.add(frame[walFrameSize:])
	return s.is(frame[16:])
}

func (s *walSum) is(b []byte) bool {
	return s.s0 == binary.BigEndian.Uint32(b) && s.s1 == binary.BigEndian.Uint32(b[4:])
}

func (s *walSum) add(b []byte) {
	if s.order == binary.LittleEndian {
		for ; len(b) >= 8; b = b[8:] {
			s.s0 += binary.LittleEndian.Uint32(b) + s.s1
			s.s1 += binary.LittleEndian.Uint32(b[4:]) + s.s0
		}
		return
	}
	for ; len(b) >= 8; b = b[8:] {
		s.s0 += binary.BigEndian.Uint32(b) + s.s1
		s.s1 += binary.BigEndian.Uint32(b[4:]) + s.s0
	}
}
