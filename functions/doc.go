// Package functions is what the functions have in common: how an event is read, what an entry of a report looks like,
// how a failure is named, and how progress is told.
//
// The functions themselves are in the packages below: compact, backup, verify, restore, recover, sweep. Each takes values
// and returns a report. They are plain Go on storage/: no AWS, no HTTP, no globals, and none knows another. When they run,
// how often they are tried, who holds a table's lock meanwhile and who is told, is the runner's business (package jobs).
package functions
