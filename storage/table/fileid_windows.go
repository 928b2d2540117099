package table

import (
	"os"

	"golang.org/x/sys/windows"
)

// identify tells which file has a name now.
func identify(path string) (fileID, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileID{}, err
	}
	defer func() { _ = f.Close() }() // only read
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return fileID{}, &os.PathError{Op: "identify", Path: path, Err: err}
	}
	return fileID{Dev: uint64(info.VolumeSerialNumber), Ino: uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)}, nil
}

// links is not looked up on this platform.
func links(os.FileInfo) uint64 { return 1 }

// fileIDOf knows nothing on this platform: an os.FileInfo does not carry the file's index.
func fileIDOf(os.FileInfo) fileID { return fileID{} }
