// Package shelf knows the tables: which SQLite files belong to the fleet, under which name, with which settings and in
// which state. It finds them in folders, by globs and by single paths, and keeps what is known of each between runs (its
// state, its last backup) in small files beside it.
//
// A scan reads 16 bytes of each new file and opens no SQLite connection, so that 10,000 tables cost little. Whatever in
// a folder is no table is a Problem with a reason, never a hang: nothing but a regular file is opened.
//
// What is inside a table, and everything that is done to one, it leaves to storage/table and to the functions.
package shelf
