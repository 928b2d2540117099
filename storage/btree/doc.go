// Package btree proves that an SQLite file is sound, several times faster than PRAGMA integrity_check in a driver without cgo, and
// on several cores. It reads pages, knows nothing of files, locks and SQL, and writes nothing.
//
// What it proves is what integrity_check looks for: every page is used once; each page of a b-tree accounts for each of its
// bytes; keys are in order; overflow chains, the freelist and the pointer map are whole; columns hold what their types
// and NOT NULL allow; and each index has the entries of its table's rows and no others. Where the entries of an index are compared, that is
// done by sums of 64-bit hashes, in the order of storage, instead of one look-up a row.
//
// It only ever says yes. What it cannot prove, be it damage or a schema that it does not understand, it leaves to SQLite: a doubt is
// not a verdict. So a mistake in the strict direction costs time and nothing else.
//
// Source of the format: https://sqlite.org/fileformat2.html. What counts as sound: src/btree.c (checkTreePage) and src/pragma.c
// of SQLite.
package btree
