package main

import "github.com/rogpeppe/go-internal/testscript"

func makeFIFO(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Fatalf("no named pipes in the file system here")
}
