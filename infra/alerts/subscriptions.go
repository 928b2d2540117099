package alerts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"time"
)

// maxSubscriptions bounds how many browsers can subscribe.
const maxSubscriptions = 100

// subscribe keeps a browser's subscription; the same endpoint twice is one.
func (o *outbox) subscribe(ctx context.Context, s Subscription, now time.Time) error {
	if err := checkURL("push endpoint", s.Endpoint); err != nil {
		return err
	}
	if _, _, err := s.keys(); err != nil {
		return err
	}
	var there int
	if err := o.db.QueryRowContext(ctx, "SELECT count(*) FROM subscriptions WHERE endpoint <> ?", s.Endpoint).Scan(&there); err != nil {
		return err
	}
	if there >= maxSubscriptions {
		return fmt.Errorf("%d browsers are subscribed, which is the limit", there)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = o.db.ExecContext(ctx, "INSERT INTO subscriptions VALUES (?1, ?2, ?3) ON CONFLICT (endpoint) DO UPDATE SET value = ?2", s.Endpoint, string(text), now.UnixMilli())
	return err
}

func (o *outbox) unsubscribe(ctx context.Context, endpoint string) error {
	_, err := o.db.ExecContext(ctx, "DELETE FROM subscriptions WHERE endpoint = ?", endpoint)
	return err
}

func (o *outbox) subscriptions(ctx context.Context) ([]Subscription, error) {
	rows, err := o.db.QueryContext(ctx, "SELECT value FROM subscriptions ORDER BY created")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Subscription
	for rows.Next() {
		var text string
		var s Subscription
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

const vapidKey = "vapid"

// vapid returns the key pair, made when it is first asked for.
func (o *outbox) vapid(ctx context.Context) (*ecdsa.PrivateKey, error) {
	var text string
	if err := o.value(ctx, vapidKey, &text); err != nil {
		return nil, err
	}
	if text != "" {
		raw, err := decode(text)
		if err != nil {
			return nil, err
		}
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	}
	key, err := NewVAPIDKey()
	if err != nil {
		return nil, err
	}
	raw, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	return key, keep(ctx, o.db, vapidKey, encode(raw))
}
