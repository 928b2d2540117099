//go:build !linux

package functions

import "os"

// startWriting needs sync_file_range.
func startWriting(*os.File, int64, int64) {}
