package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tablekeeper/storage/needtest"
)

func TestNotifySystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "tk") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		needtest.Missing(t, err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", address.Name)
	if err := notifySystemd("READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := manager.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("%q, %v", buf[:n], err)
	}

	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "nobody"))
	if err := notifySystemd("READY=1"); err == nil {
		t.Error("nobody listens, and that is no error")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notifySystemd("READY=1"); err != nil {
		t.Error(err)
	}
}

func TestWatchdogInterval(t *testing.T) {
	for name, c := range map[string]struct {
		usec, pid string
		want      time.Duration
	}{
		"none":         {"", "", 0},
		"ours":         {"60000000", strconv.Itoa(os.Getpid()), 30 * time.Second},
		"without pid":  {"2000000", "", time.Second},
		"of another":   {"60000000", "1", 0},
		"not a number": {"soon", "", 0},
		"negative":     {"-5", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			if got := watchdogInterval(); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
