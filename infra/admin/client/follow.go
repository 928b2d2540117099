package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"tablekeeper/infra/admin"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

var errNoRun = errors.New("it does not say which run began")

const (
	firstLook   = 50 * time.Millisecond
	slowestLook = time.Second
	// lostFor is how long a server may be away while a run is followed: long enough for a restart.
	lostFor = time.Minute
	// farewell is how long the server may take to hear that a run is to end.
	farewell = 10 * time.Second
)

// Follow waits for the end of a run. A server that is away for less than a minute is waited for. If ctx ends before, the run is ended, too.
func (c *Client) Follow(ctx context.Context, id string) (history.Run, error) {
	heard := c.now()
	for wait := firstLook; ; wait = min(wait*3/2, slowestLook) {
		run, err := c.Get(ctx, id)
		switch {
		case err == nil && run.Status.Ended():
			return run, nil
		case err == nil:
			heard = c.now()
		case ctx.Err() != nil:
			return run, c.end(ctx, id)
		case !away(err) || c.now().Sub(heard) > lostFor:
			return run, fmt.Errorf("run %s may go on there: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return run, c.end(ctx, id)
		case <-time.After(wait):
		}
	}
}

// away tells whether a server may be back soon: it does not answer, or says that it cannot for now.
func away(err error) bool {
	var unreachable *UnreachableError
	var refusal *RefusalError
	return errors.As(err, &unreachable) || errors.As(err, &refusal) && refusal.Status == http.StatusServiceUnavailable
}

// end tells the server to end a run that nobody waits for any more.
func (c *Client) end(ctx context.Context, id string) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := c.Cancel(last, id); err != nil {
		return fmt.Errorf("run %s may go on there: %w", id, errors.Join(ctx.Err(), err))
	}
	return fmt.Errorf("the server was told to end run %s: %w", id, ctx.Err())
}

// Watch tells of the progress of all runs until ctx ends or the stream does. It is for people to look at: what is missed is missed.
func (c *Client) Watch(ctx context.Context, show func(jobs.Progress)) error {
	header := http.Header{}
	c.sign(header)
	u := c.base
	u.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
	conn, _, err := websocket.Dial(ctx, u.String()+admin.Prefix+"/events", &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: header}) //nolint:bodyclose // the library closes it
	if err != nil {
		return fmt.Errorf("watch %s: %w", c, err)
	}
	defer conn.CloseNow() //nolint:errcheck // nothing was written that could be lost
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("watch %s: %w", c, err)
		}
		var said struct {
			Type string
			jobs.Progress
		}
		if json.Unmarshal(data, &said) == nil && said.Type == "run_progress" {
			show(said.Progress)
		}
	}
}
