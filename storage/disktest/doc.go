// Package disktest makes real disks for tests: small, full, or without power from one call to the next. They are mounted, so that only root
// has them; elsewhere tests skip and say so, and fail in CI. On Linux alone.
package disktest
