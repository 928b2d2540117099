package lambdaapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/uuid"
)

// The headers of the Invoke call.
const (
	headerKind      = "X-Amz-Invocation-Type"
	headerLogType   = "X-Amz-Log-Type"
	headerLog       = "X-Amz-Log-Result"
	headerContext   = "X-Amz-Client-Context"
	headerFailure   = "X-Amz-Function-Error"
	headerVersion   = "X-Amz-Executed-Version"
	headerRequestID = "X-Amzn-Requestid"
	headerErrorType = "X-Amzn-Errortype"
)

// NewHandler serves the API for functions, to everybody who can connect. Unknown paths get a JSON error, too: an SDK cannot read anything
// else.
func NewHandler(functions Invoker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", func(w http.ResponseWriter, r *http.Request) {
		id := uuid.NewString()
		if err := serve(w, r, functions, id); err != nil {
			refuse(w, id, err)
		}
	})
	if d, ok := functions.(Describer); ok {
		describe(mux, d)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, uuid.NewString(), userError(http.StatusNotFound, "UnknownOperationException",
			"no such operation: %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// NewSignedHandler is NewHandler for those who sign their requests with the key, as AWS's clients do.
func NewSignedHandler(functions Invoker, v Verifier) http.Handler {
	inside := NewHandler(functions)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := v.admit(w, r); err != nil {
			refuse(w, uuid.NewString(), err)
			return
		}
		inside.ServeHTTP(w, r.WithContext(withCaller(r.Context(), v.KeyID)))
	})
}

type callerKey struct{}

func withCaller(ctx context.Context, keyID string) context.Context {
	return context.WithValue(ctx, callerKey{}, keyID)
}

func callerOf(ctx context.Context) string {
	id, _ := ctx.Value(callerKey{}).(string)
	return id
}

// nameOf is the function that a request's path and query name.
func nameOf(r *http.Request) (name, version string, err error) {
	if name, version, err = parseName(r.PathValue("name")); err != nil {
		return "", "", err
	}
	if q := r.URL.Query().Get("Qualifier"); q != "" {
		if !qualifier.MatchString(q) || (version != "" && version != q) {
			return "", "", invalidParameter("Qualifier", q)
		}
		version = q
	}
	return name, version, nil
}

func serve(w http.ResponseWriter, r *http.Request, functions Invoker, id string) error {
	req, err := parse(w, r)
	if err != nil {
		return err
	}
	req.ID, req.Caller = id, callerOf(r.Context())
	resp, err := functions.Invoke(r.Context(), req)
	if err != nil {
		return err
	}
	if resp.ID == "" {
		resp.ID = id
	}
	answer(w, req, resp)
	return nil
}

func parse(w http.ResponseWriter, r *http.Request) (req Request, err error) {
	if req.Function, req.Qualifier, err = nameOf(r); err != nil {
		return req, err
	}
	switch req.Kind = Kind(r.Header.Get(headerKind)); req.Kind {
	case "":
		req.Kind = RequestResponse
	case RequestResponse, Event, DryRun:
	default:
		return req, invalidParameter("invocationType", string(req.Kind))
	}
	switch logType := r.Header.Get(headerLogType); logType {
	case "", "None":
	case "Tail":
		req.Tail = req.Kind == RequestResponse
	default:
		return req, invalidParameter("logType", logType)
	}
	if req.Custom, err = parseContext(r.Header.Get(headerContext)); err != nil {
		return req, err
	}
	req.Payload, err = readPayload(w, r, req.Kind)
	return req, err
}

func parseContext(header string) (map[string]string, error) {
	if header == "" {
		return nil, nil
	}
	data, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return nil, userError(http.StatusBadRequest, "InvalidRequestContentException", "client context is not base64")
	}
	var ctx struct {
		Custom map[string]any `json:"custom"`
	}
	if err := json.Unmarshal(data, &ctx); err != nil {
		return nil, userError(http.StatusBadRequest, "InvalidRequestContentException", "client context is not a JSON object")
	}
	custom := map[string]string{}
	for key, value := range ctx.Custom {
		if s, ok := value.(string); ok {
			custom[key] = s
		}
	}
	return custom, nil
}

func readPayload(w http.ResponseWriter, r *http.Request, kind Kind) (json.RawMessage, error) {
	limit := int64(MaxSyncPayload)
	if kind == Event {
		limit = MaxAsyncPayload
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, requestTooLarge(limit)
	}
	if err != nil {
		return nil, InvalidContent(fmt.Errorf("read the payload: %w", err))
	}
	if len(body) == 0 {
		return json.RawMessage("{}"), nil
	}
	if !json.Valid(body) {
		return nil, InvalidContent(errors.New("could not parse request body into json"))
	}
	return body, nil
}

func answer(w http.ResponseWriter, req Request, resp Response) {
	h := w.Header()
	h.Set(headerRequestID, resp.ID)
	switch req.Kind {
	case Event:
		w.WriteHeader(http.StatusAccepted)
		return
	case DryRun:
		w.WriteHeader(http.StatusNoContent)
		return
	case RequestResponse:
	}
	payload := []byte(resp.Payload)
	if resp.Failure != nil {
		h.Set(headerFailure, "Unhandled")
		payload, _ = json.Marshal(resp.Failure)
	}
	if len(payload) == 0 {
		payload = []byte("null")
	}
	if req.Tail {
		tail := resp.Log[max(0, len(resp.Log)-logTail):]
		h.Set(headerLog, base64.StdEncoding.EncodeToString(tail))
	}
	h.Set(headerVersion, LatestVersion)
	h.Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	// A caller that hung up has no use for the answer; the run's record has it.
	_, _ = w.Write(payload)
}

func refuse(w http.ResponseWriter, id string, err error) {
	var refusal *Error
	if !errors.As(err, &refusal) {
		refusal = &Error{Status: http.StatusInternalServerError, Code: "ServiceException", Type: "Service", Message: err.Error()}
	}
	h := w.Header()
	h.Set(headerRequestID, id)
	h.Set(headerErrorType, refusal.Code)
	h.Set("Content-Type", "application/json")
	if refusal.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(refusal.Status)
	_ = json.NewEncoder(w).Encode(refusal)
}
