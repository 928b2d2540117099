package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"tablekeeper/storage/ledger"
)

// walTail reads the committed frames of a live WAL, each of them once, and checks their checksums
// (https://sqlite.org/fileformat2.html#the_write_ahead_log), which SQLite does only when it recovers a WAL. It is not
// safe for concurrent use.
type walTail struct {
	file     *os.File
	pageSize int64
	gen      ledger.Generation
	frame    uint32 // the last one returned
	sum      walSum // up to it
	buf      []byte
	before   walPlace
}

type walPlace struct {
	gen   ledger.Generation
	frame uint32
	sum   walSum
}

// rewind makes the next read return what the last one did.
func (w *walTail) rewind() { w.gen, w.frame, w.sum = w.before.gen, w.before.frame, w.before.sum }

// tailChunk is how many bytes are read at a time.
const tailChunk = 1 << 20

// restarted reads the header, and starts over if the WAL did. ok is false while there is no whole header.
func (w *walTail) restarted() (ok bool, err error) {
	head, sum, err := walHead(w.file)
	if sum == nil || err != nil {
		return false, err
	}
	if size := int64(binary.BigEndian.Uint32(head[8:])); size != w.pageSize {
		return false, &damage{Cause: CauseWAL, Err: fmt.Errorf("the WAL is for pages of %d bytes, the file has %d", size, w.pageSize)}
	}
	if gen := generation(head); gen != w.gen {
		w.gen, w.frame, w.sum = gen, 0, *sum
	}
	return true, nil
}

// walHead reads the header of a WAL. sum is nil if it is not a valid one; it is the running checksum after the header.
func walHead(f io.ReaderAt) (head []byte, sum *walSum, err error) {
	head = make([]byte, walHeaderSize)
	if n, err := f.ReadAt(head, 0); err != nil {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return head[:n], nil, err
	}
	sum, ok := newWALSum(head)
	if !ok {
		return head, nil, nil
	}
	return head, sum, nil
}

func generation(head []byte) ledger.Generation {
	return ledger.Generation{Salt1: binary.BigEndian.Uint32(head[16:]), Salt2: binary.BigEndian.Uint32(head[20:])}
}

// read returns the frames that were committed since the last call, up to frame number limit. What lies behind the frame that
// SQLite calls the last may be of a transaction whose commit failed, and look whole.
func (w *walTail) read(limit int64) ([]ledger.Frame, error) {
	w.before = walPlace{w.gen, w.frame, w.sum}
	if ok, err := w.restarted(); !ok || err != nil {
		return nil, err
	}
	var frames []ledger.Frame
	commit, sum, size := 0, w.sum, walFrameSize+w.pageSize
	if w.buf == nil {
		w.buf = make([]byte, max(tailChunk/size, 1)*size)
	}
	for at := w.frame; ; {
		n, err := w.file.ReadAt(w.buf, walHeaderSize+int64(at)*size)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the WAL: %w", err)
		}
		whole := w.buf[:int64(n)/size*size]
		for ; len(whole) > 0 && int64(at) < limit; whole = whole[size:] {
			f, ok := w.frameAt(whole[:size], &sum)
			if !ok {
				break
			}
			frames = append(frames, f)
			if at++; f.Pages > 0 {
				commit, w.sum = len(frames), sum
			}
		}
		if len(whole) > 0 || n < len(w.buf) {
			break
		}
	}
	w.frame += uint32(commit)
	return frames[:commit], nil
}

func (w *walTail) frameAt(b []byte, sum *walSum) (ledger.Frame, bool) {
	be := binary.BigEndian
	salts := ledger.Generation{Salt1: be.Uint32(b[8:]), Salt2: be.Uint32(b[12:])}
	f := ledger.Frame{Page: be.Uint32(b), Pages: be.Uint32(b[4:])}
	if f.Page == 0 || salts != w.gen {
		return f, false
	}
	fold(sum, b[:8])
	if fold(sum, b[walFrameSize:]); !sum.is(b[16:]) {
		return f, false
	}
	f.Sum = ledger.Sum(b[walFrameSize:])
	return f, true
}

// fold is walSum.add for whole pages, four times as fast: this is what an owned table pays for each page that it writes.
func fold(sum *walSum, b []byte) {
	if sum.order != binary.LittleEndian {
		sum.add(b)
		return
	}
	s0, s1 := sum.s0, sum.s1
	for ; len(b) >= 16; b = b[16:] {
		x, y := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		s0 += uint32(x) + s1
		s1 += uint32(x>>32) + s0
		s0 += uint32(y) + s1
		s1 += uint32(y>>32) + s0
	}
	sum.s0, sum.s1 = s0, s1
	sum.add(b)
}

// walGeneration reads the salts in the header of a WAL; zero if it has none.
func walGeneration(f io.ReaderAt) (gen ledger.Generation, err error) {
	var head [walHeaderSize]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return gen, ignoreEOF(err)
	}
	return generation(head[:]), nil
}

// reaches tells, by one small read, whether a WAL of that generation has grown to so many frames.
func reaches(f io.ReaderAt, gen ledger.Generation, pageSize, frames int64) (bool, error) {
	var salts [8]byte
	if _, err := f.ReadAt(salts[:], walHeaderSize+(frames-1)*(walFrameSize+pageSize)+8); err != nil {
		return false, ignoreEOF(err)
	}
	return gen == ledger.Generation{Salt1: binary.BigEndian.Uint32(salts[:]), Salt2: binary.BigEndian.Uint32(salts[4:])}, nil
}

// eachCurrentFrame gives the headers of the frames of a WAL's newest generation, valid or not: the first ones, those that bear the salts of its
// header. A frame is good until the next.
func eachCurrentFrame(wal io.ReaderAt, size, pageSize int64, next func(frame []byte) bool) error {
	var head [walHeaderSize]byte
	if _, err := wal.ReadAt(head[:], 0); err != nil {
		return err
	}
	frame := make([]byte, walFrameSize)
	for at := int64(walHeaderSize); at+walFrameSize+pageSize <= size; at += walFrameSize + pageSize {
		if _, err := wal.ReadAt(frame, at); err != nil {
			return err
		}
		if string(frame[8:16]) != string(head[16:24]) || !next(frame) {
			return nil
		}
	}
	return nil
}
