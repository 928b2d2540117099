package table

import (
	"fmt"
	"path/filepath"
	"strings"
)

// networkTypes are the file systems, as /proc/self/mountinfo names them, on which processes of several machines may have
// one file open. WAL needs memory that all its users share (https://sqlite.org/wal.html, "all processes on the same host").
var networkTypes = map[string]string{
	"nfs": "NFS", "nfs4": "NFS", "cifs": "SMB", "smb": "SMB", "smb2": "SMB", "smb3": "SMB", "smbfs": "SMB", "afs": "AFS",
	"ncpfs": "NCP", "coda": "Coda", "ceph": "Ceph", "lustre": "Lustre", "gpfs": "GPFS", "ocfs2": "OCFS2", "gfs2": "GFS2",
	"beegfs": "BeeGFS", "9p": "9P", "glusterfs": "GlusterFS", "orangefs": "OrangeFS", "webdav": "WebDAV", "afpfs": "AFP",
	"fuse.sshfs": "SSHFS", "fuse.s3fs": "S3", "fuse.goofys": "S3", "fuse.mount-s3": "S3", "fuse.rclone": "rclone",
	"fuse.gcsfuse": "Cloud Storage", "fuse.blobfuse2": "Blob Storage", "fuse.glusterfs": "GlusterFS", "fuse.ceph": "Ceph",
	"fuse.ceph-fuse": "Ceph", "fuse.davfs": "WebDAV", "fuse.juicefs": "JuiceFS", "fuse.curlftpfs": "FTP", "fuse.moosefs": "MooseFS",
	"fuse.seaweedfs": "SeaweedFS", "fuse.lizardfs": "LizardFS",
}

// refuseNetworkFS returns ErrNetworkFS if the folder of path is on a network file system. fsType names the file system
// of a folder; when it cannot, we do not stand in the way.
func refuseNetworkFS(path string, fsType func(dir string) (string, error)) error {
	kind, err := fsType(filepath.Dir(path))
	if err != nil {
		return nil //nolint:nilerr // see above: then we do not stand in the way
	}
	name, network := networkTypes[strings.ToLower(kind)]
	if !network {
		return nil
	}
	return fmt.Errorf("%w (%s): several machines cannot share a WAL; stop its users, then: sqlite3 %q 'PRAGMA journal_mode=DELETE'",
		ErrNetworkFS, name, path)
}
