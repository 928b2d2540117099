// Package mototest starts moto_server, a stand-in for AWS, as a process of its own for tests that talk to it over the network. What is
// asked of it is up to the test.
package mototest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"tablekeeper/storage/needtest"
)

// Start starts a server that knows nothing yet, and returns its address. It ends with the test. Where moto_server is not installed the
// test is skipped, and in CI it fails.
func Start(t testing.TB) string {
	t.Helper()
	program := needtest.Program(t, "moto_server") // pip install 'moto[server]'
	port, err := needtest.Port()
	if err != nil {
		t.Fatal(err)
	}
	const host = "127.0.0.1"
	var said bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-H", host, "-p", strconv.Itoa(port)) // cleanups may still ask it
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed in the end
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	address := "http://" + net.JoinHostPort(host, strconv.Itoa(port))
	await(t, address, ended, &said)
	return address
}

func await(t testing.TB, address string, ended <-chan struct{}, said *bytes.Buffer) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/moto-api/data.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close() // it was read for its being there
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("moto_server ended at once: %s", said)
		case <-deadline:
			t.Fatalf("moto_server does not answer: %v", err)
		}
	}
}
