package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

const (
	maxConnections = 1024
	maxHeader      = 32 << 10
	idlePatience   = 2 * time.Minute // between requests on one connection
)

// Serve answers on a listener until Shutdown. Clients that are slow, or too many, are cut off.
func (s *Server) Serve(l net.Listener) error {
	s.http.Handler = s.handler
	err := s.http.Serve(netutil.LimitListener(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the admin API: %w", err)
}

// Shutdown tells the clients of the stream that the service stops, and waits for the requests under way until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.streams.close()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop the admin API: %w", err), s.http.Close())
	}
	return nil
}

func newHTTP(log *slog.Logger, timing Timing) *http.Server {
	return &http.Server{ReadHeaderTimeout: timing.Head, IdleTimeout: idlePatience, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}
