package shelf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// header is how every SQLite database begins, https://sqlite.org/fileformat2.html#magic_header_string.
const header = "SQLite format 3\x00"

// maxBase is the longest base name of a file: with the longest suffix of ours it must still fit in 255 bytes.
const maxBase = 255 - len(".20060102T150405.000Z.quarantine")

// inspect tells why the file at path is no table, nil if it is one. Only a regular file is opened, and without blocking:
// it may be a FIFO by the time it is.
func inspect(path string, info fs.FileInfo) *Problem {
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		return &Problem{Path: path, Reason: ReasonSymlink, Detail: "links in a folder are not followed", Hint: "configure the path of the file that it points to"}
	case mode.IsDir():
		return &Problem{Path: path, Reason: ReasonDirectory, Detail: "folders are not searched", Hint: "configure it as a folder of its own, or a glob with **"}
	case !mode.IsRegular():
		return &Problem{Path: path, Reason: ReasonNotRegular, Detail: mode.Type().String()}
	case info.Size() == 0:
		return &Problem{Path: path, Reason: ReasonEmpty, Detail: "it has no bytes"}
	case len(filepath.Base(path)) > maxBase:
		return &Problem{Path: path, Reason: ReasonBadName, Detail: fmt.Sprintf("the file's name is longer than %d bytes", maxBase), Hint: "rename the file"}
	}
	return inspectHeader(path)
}

func inspectHeader(path string) *Problem {
	first, err := readHeader(path)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || err == nil && first != header:
		return &Problem{Path: path, Reason: ReasonNotDatabase, Detail: "it does not begin like a SQLite database"}
	case err != nil:
		return &Problem{Path: path, Reason: ReasonUnreadable, Detail: causeOf(err)}
	}
	return nil
}

func readHeader(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("it became a %s while it was looked at", info.Mode().Type())
	}
	first := make([]byte, len(header))
	_, err = io.ReadFull(f, first)
	return string(first), err
}

// causeOf is the message of err without the path, which a Problem has already.
func causeOf(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// sideEndings are the files that SQLite keeps beside a database.
var sideEndings = []string{"-wal", "-shm", "-journal"}

// mainOf is the path of the database that path would be a side file of.
func mainOf(path string) (string, bool) {
	for _, ending := range sideEndings {
		if main, ok := strings.CutSuffix(path, ending); ok && filepath.Base(main) != "." && !strings.HasSuffix(main, string(filepath.Separator)) {
			return main, true
		}
	}
	return "", false
}
