// Package lambdaapi serves the Invoke call of the AWS Lambda API, so that whatever can invoke a Lambda function (an AWS
// SDK, `aws lambda invoke`, the tablekeeper command itself) can invoke one of the local runner's:
//
//	POST /2015-03-31/functions/{name}/invocations
//	GET  /2015-03-31/functions/                       ListFunctions
//	GET  /2015-03-31/functions/{name}                 GetFunction; /configuration: GetFunctionConfiguration
//
// with the invocation types RequestResponse, Event and DryRun, the log tail, function errors and error shapes that
// AWS documents (https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html). NewSignedHandler verifies that requests are signed
// (Signature Version 4) with a key of ours. It also holds a small client, which does not sign: it is for a socket.
//
// What a function is and does is left to the Invoker it is given; where to listen and who else may connect, to whoever listens. Unlike
// AWS it knows one version, which every alias means, and answers of any size.
package lambdaapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Kind is the invocation type.
type Kind string

// The invocation types.
const (
	RequestResponse Kind = "RequestResponse" // 200 with what the function returned
	Event           Kind = "Event"           // 202, empty: accepted, to be run later
	DryRun          Kind = "DryRun"          // 204, empty: the function exists and takes the event
)

// The largest payloads, in bytes, that Lambda takes.
const (
	MaxSyncPayload  = 6 << 20
	MaxAsyncPayload = 1 << 20
)

// logTail is how much of a run's log X-Amz-Log-Result may carry, in bytes before base64.
const logTail = 4 << 10

// LatestVersion is the only version that the local runner knows.
const LatestVersion = "$LATEST"

// Request is one call of Invoke.
type Request struct {
	Function  string          // the bare name, whatever form it was called by
	Qualifier string          // alias or version, "" if none was given
	Kind      Kind            // never empty for an Invoker
	Payload   json.RawMessage // valid JSON, {} for an empty body
	Tail      bool            // the caller wants the end of the log
	ID        string          // the request's id, a UUID
	Caller    string          // id of the key that the request was signed with; "" where no signature is asked for
	// Custom is the "custom" member of the client context: tablekeeper's command sends actor, trigger and idempotency_key.
	Custom map[string]string
}

// Response is what an Invoker returns. Event and DryRun use the ID alone.
type Response struct {
	Payload json.RawMessage
	// Failure is set if the function itself failed; it takes the payload's place.
	Failure *FunctionError
	Log     []byte // its last 4 KB are sent if the caller asked for them
	ID      string // "" keeps the request's
}

// FunctionError is an error that the function returned, as Lambda reports it: status 200 and X-Amz-Function-Error.
type FunctionError struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

func (f *FunctionError) Error() string { return f.Type + ": " + f.Message }

// Invoker runs functions. An error that is an *Error is answered as it is, any other as ServiceException.
type Invoker interface {
	Invoke(ctx context.Context, req Request) (Response, error)
}

// Error is a refusal by the API: the function did not run.
type Error struct {
	Status  int    `json:"-"` // HTTP status
	Code    string `json:"-"` // such as ResourceNotFoundException, sent as x-amzn-ErrorType
	Type    string `json:"Type"`
	Message string `json:"Message"`
	Reason  string `json:"Reason,omitempty"` // of a TooManyRequestsException
	Hint    string `json:"Hint,omitempty"`   // what to do about it; ours alone, SDKs pass over it
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// NotFound says that there is no such function.
func NotFound(function string) *Error {
	return userError(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", function)
}

// InvalidContent says that the payload is not what the function takes.
func InvalidContent(err error) *Error {
	return userError(http.StatusBadRequest, "InvalidRequestContentException", "%v", err)
}

// Throttled says that the runner is at its limit.
func Throttled(message string) *Error {
	e := userError(http.StatusTooManyRequests, "TooManyRequestsException", "%s", message)
	e.Reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
	return e
}

func requestTooLarge(limit int64) *Error {
	return userError(http.StatusRequestEntityTooLarge, "RequestTooLargeException",
		"Request must be smaller than %d bytes for the InvokeFunction operation", limit)
}

func userError(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Type: "User", Message: fmt.Sprintf(format, args...)}
}
