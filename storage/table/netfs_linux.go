package table

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// magics are the file systems that statfs tells apart (linux/magic.h, and the systems' own sources). All kinds of FUSE
// share one number; mountinfo knows more.
var magics = map[int64]string{
	0x6969: "nfs", 0x517b: "smb", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x5346414f: "afs", 0x564c: "ncpfs", 0x73757245: "coda",
	0x00c36400: "ceph", 0x0bd00bd0: "lustre", 0x47504653: "gpfs", 0x7461636f: "ocfs2", 0x01161970: "gfs2", 0x19830326: "beegfs",
	0x01021997: "9p", 0x20030528: "orangefs", 0x65735546: "fuse",
}

// fileSystem names the type of the file system that holds dir, in mountinfo's words.
func fileSystem(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", err
	}
	kind := magics[int64(s.Type)&0xffffffff] //nolint:unconvert // it has 32 bits on some systems
	if kind != "fuse" {
		return kind, nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	return mountType(mounts, dir)
}

// mountType finds the type of the mount that dir is in: the longest mount point that is a prefix of it, the last one
// mounted there. The format is described in proc(5).
func mountType(mountinfo []byte, dir string) (string, error) {
	var best, kind string
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 1 {
			continue
		}
		point := unescapeMount(fields[4])
		if within(dir, point) && len(point) >= len(best) {
			best, kind = point, rest[0]
		}
	}
	if kind == "" {
		return "", errors.Join(errors.New("no mount holds "+dir), lines.Err())
	}
	return kind, nil
}

func within(dir, point string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
