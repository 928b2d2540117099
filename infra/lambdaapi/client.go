package lambdaapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client calls Invoke on a server. HTTP is required; Base is the address up to the path, http://localhost by default
// (an HTTP client that dials a socket needs no real one).
type Client struct {
	HTTP *http.Client
	Base string
}

// maxAnswer bounds what a client takes, in bytes: the report of a run over a hundred thousand tables.
const maxAnswer = 64 << 20

// Invoke calls a function. A refusal is an *Error; a function that failed is a Response with Failure set.
func (c *Client) Invoke(ctx context.Context, req Request) (Response, error) {
	r, err := c.request(ctx, req)
	if err != nil {
		return Response{}, err
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return Response{}, fmt.Errorf("invoke %s: %w", req.Function, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("it is larger than %d bytes", maxAnswer)
	}
	if err != nil {
		return Response{}, fmt.Errorf("invoke %s: read the answer: %w", req.Function, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return Response{}, refusal(resp, body)
	}
	return response(resp, body)
}

func (c *Client) request(ctx context.Context, req Request) (*http.Request, error) {
	base := c.Base
	if base == "" {
		base = "http://localhost"
	}
	address := strings.TrimSuffix(base, "/") + "/2015-03-31/functions/" + url.PathEscape(req.Function) + "/invocations"
	if req.Qualifier != "" {
		address += "?Qualifier=" + url.QueryEscape(req.Qualifier)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(req.Payload))
	if err != nil {
		return nil, fmt.Errorf("invoke %s: %w", req.Function, err)
	}
	if req.Kind != "" {
		r.Header.Set(headerKind, string(req.Kind))
	}
	if req.Tail {
		r.Header.Set(headerLogType, "Tail")
	}
	if len(req.Custom) > 0 {
		data, err := json.Marshal(map[string]any{"custom": req.Custom})
		if err != nil {
			return nil, fmt.Errorf("invoke %s: %w", req.Function, err)
		}
		r.Header.Set(headerContext, base64.StdEncoding.EncodeToString(data))
	}
	return r, nil
}

func response(resp *http.Response, body []byte) (Response, error) {
	out := Response{Payload: body, ID: resp.Header.Get(headerRequestID)}
	if log := resp.Header.Get(headerLog); log != "" {
		data, err := base64.StdEncoding.DecodeString(log)
		if err != nil {
			return Response{}, fmt.Errorf("read the log of request %s: %w", out.ID, err)
		}
		out.Log = data
	}
	if resp.Header.Get(headerFailure) != "" {
		out.Failure = &FunctionError{}
		if err := json.Unmarshal(body, out.Failure); err != nil {
			return Response{}, fmt.Errorf("read the error of request %s: %w", out.ID, err)
		}
	}
	return out, nil
}

func refusal(resp *http.Response, body []byte) error {
	e := &Error{Status: resp.StatusCode, Code: resp.Header.Get(headerErrorType)}
	if err := json.Unmarshal(body, e); err != nil || e.Code == "" {
		return fmt.Errorf("the server answered %s without a Lambda error", resp.Status)
	}
	return e
}
