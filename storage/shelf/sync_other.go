//go:build !unix

package shelf

import "io/fs"

// syncDir does nothing: folders cannot be fsynced here.
func syncDir(string) error { return nil }

// inode is the identity of a file on this machine; here it is not to be had from a listing.
type inode struct{}

func inodeOf(fs.FileInfo) (inode, bool) { return inode{}, false }
