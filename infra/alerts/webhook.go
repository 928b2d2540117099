package alerts

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// secretPrefix marks a secret of Standard Webhooks.
const secretPrefix = "whsec_"

// NewSecret makes a signing secret: whsec_ and 32 random bytes in base64.
func NewSecret() string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails: its documentation
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// webhook posts messages signed as Standard Webhooks says
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
type webhook struct {
	client *http.Client
	url    string
	secret []byte
	now    func() time.Time
}

// parseSecret reads a secret; "" is none, and then nothing is signed.
func parseSecret(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil {
		return nil, fmt.Errorf("webhook secret: %w: it is whsec_ and base64, as the receiver shows it", err)
	}
	if n := len(key); secret != "" && (n < 24 || n > 64) {
		return nil, fmt.Errorf("webhook secret has %d bytes: 24 to 64 are allowed", n)
	}
	return key, nil
}

// post sends one message. The id stays the same when it is sent again, so that a receiver counts it once.
func (w webhook) post(ctx context.Context, id string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	request.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	request.Header.Set("User-Agent", "tablekeeper")
	request.Header.Set("Webhook-Id", id)
	request.Header.Set("Webhook-Timestamp", stamp)
	if len(w.secret) > 0 {
		request.Header.Set("Webhook-Signature", sign(w.secret, id, stamp, body))
	}
	response, err := w.client.Do(request)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 300 {
		return statusError(response)
	}
	return nil
}

// sign is version 1 of the specification's symmetric signature.
func sign(secret []byte, id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// StatusError is an answer that is not a success.
type StatusError struct {
	Code int
	Body string // its first 200 bytes
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the receiver answers %d %s", e.Code, http.StatusText(e.Code))
	if e.Code >= 300 && e.Code < 400 {
		text += " (redirects are not followed: configure the final URL)"
	}
	if e.Body != "" {
		text += ": " + strconv.Quote(e.Body)
	}
	return text
}

func statusError(response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, 200))
	if err != nil {
		body = nil
	}
	return &StatusError{Code: response.StatusCode, Body: strings.TrimSpace(string(body))}
}
