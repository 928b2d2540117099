package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"

	"tablekeeper/infra/lambdaapi"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
)

// service is a running `tablekeeper serve`, as the other commands see it.
type service struct {
	claimed
	http *http.Client
}

// findService looks for a service on the state folder. It returns nil if there is none.
func findService(ctx context.Context, state string) (*service, error) {
	by, err := readClaim(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &service{claimed: by, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", by.Socket)
		},
	}}}
	err = s.healthy(ctx)
	if err == nil {
		return s, nil
	}
	if alive, lockErr := lockHeld(state); lockErr == nil && !alive {
		return nil, nil // it died and left its note
	}
	return nil, fail(exitTemporary, fmt.Sprintf("look after process %d, or stop it", by.PID),
		"a tablekeeper (pid %d) serves from %s but does not answer: %w", by.PID, state, err)
}

// lockHeld tells whether a service holds the state folder. Those who ask do not see each other.
func lockHeld(state string) (bool, error) {
	lock := flock.New(filepath.Join(state, claimLock))
	free, err := lock.TryRLock()
	if err != nil {
		return false, err
	}
	return !free, lock.Unlock()
}

// healthPatience is how long a service on this very machine may take to say that it is there: it may be at its start, and the machine busy.
const healthPatience = 30 * time.Second

func (s *service) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// invoke asks the service. Sync returns the run when it has ended, Async a run that has its id alone.
func (s *service) invoke(ctx context.Context, inv jobs.Invocation) (history.Run, error) {
	client := lambdaapi.Client{HTTP: s.http}
	resp, err := client.Invoke(ctx, lambdaapi.Request{
		Function: inv.Function, Kind: kindOf(inv.Type), Payload: inv.Event,
		Custom: map[string]string{"actor": inv.Actor, "trigger": inv.Trigger, "idempotency_key": inv.IdempotencyKey},
	})
	if ctx.Err() != nil {
		return history.Run{}, fmt.Errorf("the service (pid %d) was told to stop the run: %w", s.PID, ctx.Err())
	}
	if err != nil {
		return history.Run{}, refusedBy(err)
	}
	if resp.Failure != nil {
		return history.Run{}, resp.Failure
	}
	run := history.Run{ID: resp.ID, Function: inv.Function, Status: history.Queued}
	if inv.Type == jobs.Async || inv.Type == jobs.DryRun {
		return run, nil
	}
	if err := json.Unmarshal(resp.Payload, &run); err != nil {
		return run, fmt.Errorf("read the service's answer: %w", err)
	}
	return run, nil
}

// refusedBy gives a refusal of the API the exit status that the same error has without a service.
func refusedBy(err error) error {
	var refusal *lambdaapi.Error
	if !errors.As(err, &refusal) {
		return fail(exitTemporary, "look at the service's log", "%w", err)
	}
	code := exitFailed
	switch refusal.Status {
	case http.StatusNotFound:
		code = exitNotFound
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		code = exitUsage
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		code = exitTemporary
	}
	return fail(code, refusal.Hint, "%s", refusal.Message)
}

func kindOf(t jobs.Type) lambdaapi.Kind {
	switch t {
	case jobs.Async:
		return lambdaapi.Event
	case jobs.DryRun:
		return lambdaapi.DryRun
	case jobs.Sync:
	}
	return lambdaapi.RequestResponse
}

// actor is who runs this command, for the audit.
func actor() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	if _, err := strconv.Atoi(u.Username); err == nil {
		return "uid " + u.Username
	}
	return u.Username
}
