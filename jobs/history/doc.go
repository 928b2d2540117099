// Package history keeps the record of every run in a SQLite file of its own: what was asked and by whom, how each table
// fared, phases, log lines, and the events that were published, each with a sequence number.
//
// A history that is damaged is set aside and a new one begun; a history that cannot be written never stops the work.
// What a run means, when it is retried and who is told is left to package jobs.
package history
