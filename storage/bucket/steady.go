package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"time"
)

// SteadyOptions say how much trouble Steady puts up with. The zero value is for a network.
type SteadyOptions struct {
	Backoff     Backoff
	CallTimeout time.Duration // of one attempt of Head, Tags, SetTags, Delete; 0 means 30 s
	IdleTimeout time.Duration // without a byte of a body, or an item of a listing; 0 means 30 s
	Logger      *slog.Logger  // each further attempt, at Debug; nil means none
}

// Steady makes a bucket of one that fails now and then. Calls that may be repeated are, as long as they fail with
// ErrUnreachable. A body that is cut, stalls, or ends too early goes on where it stopped, and only with the same version of the object
// (else ErrPrecondition). A whole object is compared with the length and checksums of its head: ErrBody. A Put is tried
// again if its reader is an io.Seeker; if the answer to an attempt was lost, what is there now is compared with what was
// sent. The result has the abilities Versioned, and Lifecycler if b has it.
func Steady(b Bucket, opts SteadyOptions) Bucket {
	if opts.CallTimeout <= 0 {
		opts.CallTimeout = 30 * time.Second
	}
	if opts.IdleTimeout <= 0 {
		opts.IdleTimeout = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &steady{b, opts}
	if l, ok := b.(Lifecycler); ok {
		return &steadyLifecycler{s, l}
	}
	return s
}

type steady struct {
	b    Bucket
	opts SteadyOptions
}

type steadyLifecycler struct {
	*steady
	l Lifecycler
}

func (s *steadyLifecycler) Lifecycle(ctx context.Context) (rules []string, err error) {
	err = s.call(ctx, "lifecycle", "", func(ctx context.Context) error {
		rules, err = s.l.Lifecycle(ctx)
		return err
	})
	return rules, err
}

func (s *steady) Head(ctx context.Context, key string) (info Info, err error) {
	err = s.call(ctx, "head", key, func(ctx context.Context) error {
		info, err = s.b.Head(ctx, key)
		return err
	})
	return info, err
}

func (s *steady) Tags(ctx context.Context, key string) (tags map[string]string, err error) {
	err = s.call(ctx, "tags", key, func(ctx context.Context) error {
		tags, err = s.b.Tags(ctx, key)
		return err
	})
	return tags, err
}

func (s *steady) SetTags(ctx context.Context, key string, tags map[string]string) error {
	return s.call(ctx, "set tags", key, func(ctx context.Context) error { return s.b.SetTags(ctx, key, tags) })
}

func (s *steady) Delete(ctx context.Context, key string) error {
	return s.call(ctx, "delete", key, func(ctx context.Context) error { return s.b.Delete(ctx, key) })
}

// call tries f again while it cannot reach the store; each attempt has CallTimeout.
func (s *steady) call(ctx context.Context, op, key string, f func(context.Context) error) error {
	return s.opts.Backoff.Retry(ctx, func() error {
		watched, dog := watch(ctx, s.opts.CallTimeout)
		defer dog.end()
		dog.start()
		defer dog.stop()
		return stalled(watched, f(watched), op, key, s.opts.CallTimeout)
	}, s.notify(ctx, op, key))
}

// stalled turns the error of a call that a watchdog ended into one that may be retried.
func stalled(watched context.Context, err error, op, key string, patience time.Duration) error {
	if err != nil && errors.Is(context.Cause(watched), errStalled) {
		return fmt.Errorf("%s %s: %w: no answer for %s", op, key, ErrUnreachable, patience)
	}
	return err
}

func (s *steady) notify(ctx context.Context, op, key string) func(error, time.Duration) {
	return func(err error, wait time.Duration) {
		s.opts.Logger.DebugContext(ctx, "bucket call tried again", "op", op, "key", key, "wait_ms", wait.Milliseconds(), "error", err)
	}
}

// List goes on after the last key that was seen.
func (s *steady) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for failures := 0; ; {
			seen := after
			stopped, err := s.list(ctx, prefix, &seen, yield)
			if stopped || err == nil {
				return
			}
			if seen != after {
				after, failures = seen, 0
			}
			failures++
			if !errors.Is(err, ErrUnreachable) || failures >= s.opts.Backoff.attempts() || s.pause(ctx, failures) != nil {
				yield(Info{}, err)
				return
			}
		}
	}
}

// list yields one attempt's items and keeps the last key in *after.
func (s *steady) list(ctx context.Context, prefix string, after *string, yield func(Info, error) bool) (stopped bool, err error) {
	watched, dog := watch(ctx, s.opts.IdleTimeout)
	defer dog.end()
	dog.start()
	defer dog.stop()
	for info, err := range s.b.List(watched, prefix, *after) {
		dog.stop()
		if err != nil {
			return false, stalled(watched, err, "list", prefix, s.opts.IdleTimeout)
		}
		*after = info.Key
		if !yield(info, nil) {
			return true, nil
		}
		dog.start()
	}
	return false, nil
}

// pause waits as long as one waits after so many failures in a row.
func (s *steady) pause(ctx context.Context, failures int) error {
	waits := s.opts.Backoff.waits()
	for range failures - 1 {
		waits.NextBackOff()
	}
	timer := time.NewTimer(waits.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Put tries again from where r stood, if r can seek.
func (s *steady) Put(ctx context.Context, key string, r io.Reader, opts PutOptions) (info Info, err error) {
	seeker, ok := r.(io.Seeker)
	if !ok {
		return s.b.Put(ctx, key, r, opts)
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return Info{}, fmt.Errorf("put %s: find the start: %w", key, err)
	}
	attempt := 0
	err = s.opts.Backoff.Retry(ctx, func() error {
		if attempt++; attempt > 1 {
			if _, err := seeker.Seek(start, io.SeekStart); err != nil {
				return fmt.Errorf("put %s: start again: %w", key, err)
			}
		}
		sent := Sum(r)
		info, err = s.b.Put(ctx, key, sent, opts)
		if attempt > 1 && (errors.Is(err, ErrExists) || errors.Is(err, ErrPrecondition)) {
			info, err = s.ours(ctx, key, sent, err)
		}
		return err
	}, s.notify(ctx, "put", key))
	return info, err
}

// ours decides whether the object in the way of a repeated conditional Put is the one that an earlier attempt of ours left,
// its answer having been lost.
func (s *steady) ours(ctx context.Context, key string, sent Summed, conflict error) (Info, error) {
	if _, err := io.Copy(io.Discard, sent); err != nil {
		return Info{}, fmt.Errorf("put %s: read again to compare: %w", key, err)
	}
	head, err := s.Head(ctx, key)
	if err != nil {
		return Info{}, errors.Join(conflict, err)
	}
	if head.SHA256 == "" && head.CRC32C == "" || sent.Digest().Compare(head) != nil {
		return Info{}, conflict
	}
	return head, nil
}
