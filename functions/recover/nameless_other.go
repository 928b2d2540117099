//go:build !linux

package recover

import "os"

// nameless finds nothing here: a file that is deleted cannot be opened again.
func nameless(string) *os.File { return nil }
