package table

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenFiles is which regular files were open in which processes, at one moment.
type OpenFiles struct {
	byFile map[fileID][]descriptor
}

type descriptor struct {
	pid int
	fd  string
}

// ScanOpen looks through all processes at once: for many tables it is cheaper than Holders for each. An error that is ErrUnseen
// comes with what could be seen.
func ScanOpen() (OpenFiles, error) {
	open := OpenFiles{byFile: make(map[fileID][]descriptor)}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return open, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	unseen := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if err := open.scan(pid); errors.Is(err, fs.ErrPermission) {
			unseen++
		}
	}
	return open, blindSpots(unseen)
}

// blindSpots says why a scan may lack processes: denied ones, a namespace with its own processes only, a /proc mounted with hidepid.
func blindSpots(denied int) error {
	// The kernel's PROC_PID_INIT_INO: only the first namespace sees every process.
	const first = "pid:[4026531836]"
	if namespace, err := os.Readlink("/proc/self/ns/pid"); err != nil || namespace != first {
		return fmt.Errorf("%w: this is a container, which sees its own", ErrUnseen)
	}
	if _, err := os.Lstat("/proc/1"); err != nil {
		return fmt.Errorf("%w: /proc hides those of other users", ErrUnseen)
	}
	if denied > 0 {
		return fmt.Errorf("%w: %d belong to other users", ErrUnseen, denied)
	}
	return nil
}

func (o OpenFiles) scan(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	names, err := f.Readdirnames(-1) // not ReadDir: it would stat each
	for _, fd := range names {
		var st unix.Statx_t
		// Without the flag, a network file system that does not answer would hold us up.
		if unix.Statx(unix.AT_FDCWD, dir+"/"+fd, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st) != nil {
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			id := fileID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
			o.byFile[id] = append(o.byFile[id], descriptor{pid, fd})
		}
	}
	return err
}

// Holders returns the processes, this one aside, that had the table at path open.
func (o OpenFiles) Holders(path string) []Process {
	var all []Process
	for _, info := range tableFiles(path) {
		for _, file := range o.byFile[fileIDOf(info)] {
			if file.pid != os.Getpid() {
				all = addProcess(all, file)
			}
		}
	}
	return all
}

// own is how many descriptors of the table this process had open.
func (o OpenFiles) own(path string) int {
	n := 0
	for _, info := range tableFiles(path) {
		for _, file := range o.byFile[fileIDOf(info)] {
			if file.pid == os.Getpid() {
				n++
			}
		}
	}
	return n
}

func addProcess(all []Process, file descriptor) []Process {
	i := slices.IndexFunc(all, func(p Process) bool { return p.PID == file.pid })
	if i < 0 {
		i = len(all)
		all = append(all, Process{PID: file.pid, Name: processName(file.pid)})
	}
	all[i].ReadWrite = all[i].ReadWrite || writable(file)
	return all
}

func processName(pid int) string {
	name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return strings.ToValidUTF8(string(bytes.TrimSpace(name)), "?")
}

// writable reads the flags of open(2), in octal.
func writable(file descriptor) bool {
	info, err := os.ReadFile("/proc/" + strconv.Itoa(file.pid) + "/fdinfo/" + file.fd)
	if err != nil {
		return true // not to be taken for harmless
	}
	for line := range strings.Lines(string(info)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 64)
			return err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return true
}
