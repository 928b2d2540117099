package main

import (
	"errors"
	"os"
	"runtime/pprof"
	"runtime/trace"
	"strings"
)

// beginProfile writes a CPU profile and an execution trace until the returned function is called. name "" is none.
func beginProfile(name, way string) (end func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	name += "-" + strings.ReplaceAll(way, " ", "-")
	cpu, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	events, err := os.Create(name + ".trace")
	if err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	if err := errors.Join(pprof.StartCPUProfile(cpu), trace.Start(events)); err != nil {
		return nil, errors.Join(err, cpu.Close(), events.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		trace.Stop()
		return errors.Join(cpu.Close(), events.Close())
	}, nil
}
