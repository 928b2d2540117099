// Package peak tells the most that a process has taken, for what bench and bench/compaction print.
package peak
