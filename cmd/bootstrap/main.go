// Command bootstrap is the program that AWS Lambda starts for every function of template.yaml. Which one it is says the
// variable TABLEKEEPER_FUNCTION. What a function does is in functions/; here is what AWS adds to it:
//
//   - An event that names many tables becomes one message a table in an SQS FIFO queue, whose group is the table. The same
//     program takes them from there, many tables at a time and each by one worker.
//   - A table is an object: fetched with its ETag into /tmp, worked on there, stored if nobody wrote meanwhile. Or it is
//     a file on EFS.
//   - An event that is delivered twice is done once. Work ends before Lambda's deadline does, and goes on in another
//     invocation.
//   - Failures have a type, and metrics are printed in CloudWatch's embedded format.
//
// Schedules, retries and alarms are the template's business.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	os.Exit(run(context.Background(), os.Getenv, os.Stdout, os.Stderr))
}

// run serves invocations. It comes back only if the program cannot start.
func run(ctx context.Context, getenv func(string) string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	set, err := readSettings(getenv)
	var h *handler
	var served lambda.Handler
	if err == nil {
		h, err = open(ctx, set, parts{Stdout: stdout, Log: log, Now: time.Now})
	}
	if err != nil {
		fmt.Fprintln(stderr, "tablekeeper:", err)
		return 1
	}
	if served = h; set.Function == adminAPI {
		served = newFront(h)
	}
	lambda.StartWithOptions(served, lambda.WithContext(ctx))
	return 0
}

// toolVersion is the module's version, as far as the build knows it.
func toolVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	return info.Main.Version
}
