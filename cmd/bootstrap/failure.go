package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"tablekeeper/functions"
)

// crash is a panic that was caught.
type crash struct{ cause any }

func (c *crash) Error() string { return fmt.Sprintf("panic: %v", c.cause) }

// reasonOf is one word for a failure, as the reports have it.
func reasonOf(err error) string {
	var event *functions.EventError
	var crashed *crash
	switch {
	case errors.As(err, &crashed):
		return "panic"
	case errors.As(err, &event):
		return "invalid_event"
	case errors.Is(err, errOvertaken):
		return "overtaken"
	case errors.Is(err, errInProgress):
		return "in_progress"
	case errors.Is(err, errUnfinished):
		return "unfinished"
	}
	return functions.ReasonOf(err)
}

// typed is an error as Lambda reports it: its type is the reason in Lambda's spelling (NoSpace for no_space), and its message
// ends with the next step. By itself Lambda would report the name of a Go type.
func typed(err error) error {
	if err == nil {
		return nil
	}
	message := err.Error()
	if try := hintOf(err); try != "" {
		message += ". Try: " + try
	}
	return messages.InvokeResponse_Error{Type: typeOf(reasonOf(err)), Message: message}
}

func typeOf(reason string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(reason, "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// permanent tells that the same call fails again until something changes.
func permanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// outOfTime tells that the work was stopped because the invocation is about to end.
func outOfTime(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// damaged tells that the table is what a recovery is for.
func damaged(err error) bool {
	reason := functions.ReasonOf(err)
	return reason == "corrupt" || reason == "not_database"
}
