//go:build !linux

package dir_test

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
