package table

import "testing"

func TestMountType(t *testing.T) {
	const mounts = `22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /mnt/a\040b rw shared:2 - fuse.sshfs host:/x rw
41 40 0:36 / /mnt/a\040b/in rw - fuse.rclone r: rw
42 22 0:37 / /srv rw - nfs4 h:/srv rw
broken line
`
	for dir, want := range map[string]string{"/": "ext4", "/mnt": "ext4", "/mnt/a b": "fuse.sshfs", "/mnt/a b/c": "fuse.sshfs",
		"/mnt/a b/in/x": "fuse.rclone", "/mnt/a bc": "ext4", "/srv/data": "nfs4", "/srv2": "ext4"} {
		if got, err := mountType([]byte(mounts), dir); err != nil || got != want {
			t.Errorf("%s is on %s, %v", dir, got, err)
		}
	}
	if _, err := mountType(nil, "/"); err == nil {
		t.Error("no mounts at all, and no error")
	}
	if kind, err := fileSystem(t.TempDir()); err != nil || networkTypes[kind] != "" {
		t.Errorf("this test runs on %s, %v", kind, err)
	}
}
