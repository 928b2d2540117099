package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The layout is in docs/ledger.md. All integers are little endian.
const (
	magic       = "TKLEDGER"
	version     = 1
	headerSize  = 96
	rangeSize   = 8
	recordHead  = 8
	recordTail  = 4
	frameSize   = 12
	kindStage   = 1
	kindSettle  = 2
	maxRanges   = 1024
	minPageSize = 512
	maxPageSize = 65536
)

var (
	// ErrDamaged: the ledger itself does not match its checksums, so it proves nothing.
	ErrDamaged = errors.New("the ledger is damaged")
	// ErrNewer: a later version of this program wrote the ledger.
	ErrNewer = errors.New("the ledger was written by a newer version")
)

// Generation names one life of a WAL: the two salts in its header, which change whenever SQLite starts it again from
// the beginning. The zero Generation is none.
type Generation struct{ Salt1, Salt2 uint32 }

// Frame is one committed frame of a WAL: a version of a page.
type Frame struct {
	Page uint32 // 1 is the first
	Sum  uint32
	// Pages is the size of the database in pages if this frame ends a transaction, else 0.
	Pages uint32
}

// Clean is what a ledger remembers of the files beside it when the table was closed in good order. The zero Clean says that
// it was not.
type Clean struct {
	WALInode uint64 // of the empty -wal that was left; 0: none was
	WALTime  int64  // its modification time, Unix nanoseconds
	MainTime int64  // modification time of the main file, Unix nanoseconds
}

// image is a ledger as it is on disk.
type image struct {
	pageSize uint32
	inode    uint64 // of the main file
	folds    uint64
	clean    Clean
	since    int64 // Unix milliseconds, see Ledger.Since
	sums     Sums
	unproven []pageRange
}

type pageRange struct{ first, last uint32 }

func (im *image) append(out []byte) []byte {
	le := binary.LittleEndian
	start := len(out)
	out = append(out, magic...)
	out = le.AppendUint32(out, version)
	out = le.AppendUint32(out, im.pageSize)
	out = le.AppendUint32(out, uint32(len(im.sums)))
	out = le.AppendUint32(out, uint32(len(im.unproven)))
	out = le.AppendUint64(out, im.inode)
	out = le.AppendUint64(out, im.folds)
	out = le.AppendUint64(out, im.clean.WALInode)
	out = le.AppendUint64(out, uint64(im.clean.WALTime))
	out = le.AppendUint64(out, uint64(im.clean.MainTime))
	out = le.AppendUint64(out, uint64(im.since))
	out = append(out, make([]byte, headerSize-8-(len(out)-start))...)
	body := im.sums.Bytes()
	for _, r := range im.unproven {
		body = le.AppendUint32(body, r.first)
		body = le.AppendUint32(body, r.last)
	}
	out = le.AppendUint32(out, Sum(body))
	out = le.AppendUint32(out, Sum(out[start:]))
	return append(out, body...)
}

// parseImage reads the fixed part of a ledger, and returns where its log begins and the sum that the log's chain starts
// with. It allocates no more than b holds.
func parseImage(b []byte) (im image, log []byte, chain uint32, err error) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:8]) != magic {
		return im, nil, 0, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	if v := le.Uint32(b[8:]); v > version {
		return im, nil, 0, fmt.Errorf("%w: %d", ErrNewer, v)
	}
	chain = le.Uint32(b[headerSize-4:])
	if Sum(b[:headerSize-4]) != chain {
		return im, nil, 0, fmt.Errorf("%w: its header", ErrDamaged)
	}
	im.pageSize = le.Uint32(b[12:])
	pages, ranges := int64(le.Uint32(b[16:])), int64(le.Uint32(b[20:]))
	im.inode, im.folds = le.Uint64(b[24:]), le.Uint64(b[32:])
	im.clean = Clean{WALInode: le.Uint64(b[40:]), WALTime: int64(le.Uint64(b[48:])), MainTime: int64(le.Uint64(b[56:]))}
	im.since = int64(le.Uint64(b[64:]))
	body := b[headerSize:]
	if int64(len(body)) < pages*SumSize+ranges*rangeSize || !validPageSize(im.pageSize) {
		return im, nil, 0, fmt.Errorf("%w: it is cut short", ErrDamaged)
	}
	body, log = body[:pages*SumSize+ranges*rangeSize], body[pages*SumSize+ranges*rangeSize:]
	if Sum(body) != le.Uint32(b[headerSize-8:]) {
		return im, nil, 0, fmt.Errorf("%w: its sums", ErrDamaged)
	}
	im.sums, _ = ParseSums(body[:pages*SumSize])
	for body = body[pages*SumSize:]; len(body) > 0; body = body[rangeSize:] {
		im.unproven = append(im.unproven, pageRange{le.Uint32(body), le.Uint32(body[4:])})
	}
	return im, log, chain, nil
}

func validPageSize(n uint32) bool { return n >= minPageSize && n <= maxPageSize && n&(n-1) == 0 }

// record is one entry of the log.
//
//	stage:  frames first, first+1, ... of a generation may from now on be in the main file
//	settle: frames up to first are in the main file; frames are the sums of pages that grew without one
type record struct {
	kind   byte
	gen    Generation
	first  uint32
	frames []Frame
}

// append writes the record, chained to what stands before it, and returns the new chain.
func (r *record) append(out []byte, chain uint32) ([]byte, uint32) {
	le := binary.LittleEndian
	start := len(out)
	out = append(out, r.kind, 0, 0, 0)
	out = le.AppendUint32(out, uint32(12+len(r.frames)*frameSize))
	out = le.AppendUint32(out, r.gen.Salt1)
	out = le.AppendUint32(out, r.gen.Salt2)
	out = le.AppendUint32(out, r.first)
	for _, f := range r.frames {
		out = le.AppendUint32(out, f.Page)
		out = le.AppendUint32(out, f.Sum)
		out = le.AppendUint32(out, f.Pages)
	}
	chain = crc32.Update(chain, castagnoli, out[start:])
	return le.AppendUint32(out, chain), chain
}

// parseRecord reads the first record of log. ok is false if there is none that is whole.
func parseRecord(log []byte, chain uint32) (r record, rest []byte, next uint32, ok bool) {
	le := binary.LittleEndian
	if len(log) < recordHead+12+recordTail {
		return r, log, chain, false
	}
	n := int64(le.Uint32(log[4:]))
	if n < 12 || (n-12)%frameSize != 0 || n > int64(len(log)-recordHead-recordTail) {
		return r, log, chain, false
	}
	body, tail := log[:recordHead+n], log[recordHead+n:]
	next = crc32.Update(chain, castagnoli, body)
	if next != le.Uint32(tail) || le.Uint32(body)&^0xff != 0 {
		return r, log, chain, false
	}
	r = record{kind: body[0], gen: Generation{le.Uint32(body[8:]), le.Uint32(body[12:])}, first: le.Uint32(body[16:])}
	for b := body[recordHead+12:]; len(b) > 0; b = b[frameSize:] {
		r.frames = append(r.frames, Frame{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])})
	}
	return r, tail[recordTail:], next, true
}
