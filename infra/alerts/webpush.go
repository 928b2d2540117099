package alerts

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrGone says that a push subscription has ended for good; whoever keeps it should forget it.
var ErrGone = errors.New("the subscription has ended")

// maxPush is the length of a push message in bytes that every push service takes (RFC 8030, section 7.2), less the 103 bytes
// that the encryption adds.
const maxPush = 4096 - 103

// Subscription is what a browser's PushManager.subscribe() gave: where to send, and the keys to encrypt with (base64url).
type Subscription struct {
	Endpoint string `json:"endpoint"`
	Keys     struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

// VAPID is the key pair by which push services know who sends (RFC 8292). Contact is a mailto: or https: address of the operator.
type VAPID struct {
	Key     *ecdsa.PrivateKey
	Contact string
}

// NewVAPIDKey makes a key pair. It has to be kept: a subscription is bound to it.
func NewVAPIDKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// PublicKey is the applicationServerKey for PushManager.subscribe(): the uncompressed point in base64url.
func (v VAPID) PublicKey() (string, error) {
	point, err := v.Key.PublicKey.Bytes()
	return encode(point), err
}

// pusher sends push messages.
type pusher struct {
	client *http.Client
	vapid  VAPID
	now    func() time.Time
}

// send encrypts a message to a subscription and hands it to its push service; ErrGone if the subscription has ended. topic
// (32 characters of base64url at most) lets a newer message replace one that was not delivered yet.
func (p pusher) send(ctx context.Context, s Subscription, message []byte, topic string, urgent bool) error {
	body, err := seal(s, message)
	if err != nil {
		return err
	}
	authorization, err := p.vapid.authorize(s.Endpoint, p.now())
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("push to %.100q: %w", s.Endpoint, err)
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set("Content-Encoding", "aes128gcm")
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("TTL", "86400")
	if topic != "" {
		request.Header.Set("Topic", topic)
	}
	if urgent {
		request.Header.Set("Urgency", "high")
	}
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotFound, response.StatusCode == http.StatusGone:
		return fmt.Errorf("push service answers %s: %w", response.Status, ErrGone)
	case response.StatusCode >= 300:
		return statusError(response)
	}
	return nil
}

// authorize makes the Authorization header of RFC 8292: a JWT signed by the key, for the push service's origin.
func (v VAPID) authorize(endpoint string, now time.Time) (string, error) {
	to, err := url.Parse(endpoint)
	if err != nil || to.Scheme != "https" && to.Scheme != "http" || to.Host == "" {
		return "", fmt.Errorf("push endpoint %.100q is not a URL", endpoint)
	}
	claims, err := json.Marshal(map[string]any{"aud": to.Scheme + "://" + to.Host, "exp": now.Add(12 * time.Hour).Unix(), "sub": v.Contact})
	if err != nil {
		return "", err
	}
	token := encode([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + encode(claims)
	digest := sha256.Sum256([]byte(token))
	r, s, err := ecdsa.Sign(rand.Reader, v.Key, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64) // RFC 7518, section 3.4: R and S, 32 bytes each
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	public, err := v.PublicKey()
	return "vapid t=" + token + "." + encode(signature) + ", k=" + public, err
}

// seal encrypts a message to a subscription with a new key pair and salt.
func seal(s Subscription, message []byte) ([]byte, error) {
	if len(message) > maxPush {
		return nil, fmt.Errorf("push message has %d bytes, the limit is %d", len(message), maxPush)
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	return sealWith(s, message, key, salt)
}

// sealWith is RFC 8291, section 3.4, with the one-record body of RFC 8188.
func sealWith(s Subscription, message []byte, key *ecdh.PrivateKey, salt []byte) ([]byte, error) {
	theirs, auth, err := s.keys()
	if err != nil {
		return nil, err
	}
	shared, err := key.ECDH(theirs)
	if err != nil {
		return nil, fmt.Errorf("push subscription's key: %w", err)
	}
	ours := key.PublicKey().Bytes()
	info := "WebPush: info\x00" + string(theirs.Bytes()) + string(ours)
	secret, err := hkdf.Key(sha256.New, shared, auth, info, 32)
	if err != nil {
		return nil, err
	}
	contentKey, err := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	header := append(bytes.Clone(salt), 0, 0, 0, 0, byte(len(ours)))
	binary.BigEndian.PutUint32(header[16:], 4096)
	header = append(header, ours...)
	return gcm.Seal(header, nonce, append(bytes.Clone(message), 2), nil), nil // 2 ends the last record
}

func (s Subscription) keys() (*ecdh.PublicKey, []byte, error) {
	point, err := decode(s.Keys.P256dh)
	if err != nil {
		return nil, nil, fmt.Errorf("push subscription's key p256dh: %w", err)
	}
	public, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, nil, fmt.Errorf("push subscription's key p256dh: %w", err)
	}
	auth, err := decode(s.Keys.Auth)
	if err != nil || len(auth) != 16 {
		return nil, nil, fmt.Errorf("push subscription's key auth has %d bytes, not 16", len(auth))
	}
	return public, auth, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode reads base64url, with or without padding.
func decode(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}
