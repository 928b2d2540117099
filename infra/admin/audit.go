package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Change is one request that changed something, or was meant to.
type Change struct {
	Sequence int64     `json:"sequence"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor" doc:"name of the token"`
	Role     Role      `json:"role"`
	From     string    `json:"from" doc:"address of the peer"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status" doc:"of the answer; 0: there was none"`
	RunID    string    `json:"run_id,omitempty"`
}

const (
	keepChanges = 10_000
	maxPath     = 300 // characters of a path that are kept
)

// begin records a change before it is made, so that one that ends the process is recorded too.
func (k *Keys) begin(ctx context.Context, c Change) (sequence int64, err error) {
	if len(c.Path) > maxPath {
		c.Path = c.Path[:maxPath] + "..."
	}
	done, err := k.db.ExecContext(ctx, `INSERT INTO audit (at, actor, role, origin, method, path) VALUES (?, ?, ?, ?, ?, ?)`,
		c.At.UnixMilli(), c.Actor, string(c.Role), c.From, c.Method, c.Path)
	if err != nil {
		return 0, fmt.Errorf("record the change: %w", err)
	}
	return done.LastInsertId()
}

// end records how a change was answered.
func (k *Keys) end(ctx context.Context, sequence int64, status int, run string) error {
	_, err := k.db.ExecContext(ctx, `UPDATE audit SET status = ?, run = ? WHERE sequence = ?`, status, run, sequence)
	if err == nil && sequence%100 == 0 {
		_, err = k.db.ExecContext(ctx, `DELETE FROM audit WHERE sequence <= ?`, sequence-keepChanges)
	}
	if err != nil {
		return fmt.Errorf("record the change: %w", err)
	}
	return nil
}

// changes lists changes before a sequence number (0: from the newest), newest first.
func (k *Keys) changes(ctx context.Context, before int64, limit int) ([]Change, error) {
	rows, err := k.db.QueryContext(ctx, `SELECT sequence, at, actor, role, origin, method, path, status, run FROM audit
		WHERE ?1 = 0 OR sequence < ?1 ORDER BY sequence DESC LIMIT ?2`, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	defer rows.Close()
	all := []Change{}
	for rows.Next() {
		var c Change
		var at int64
		if err := rows.Scan(&c.Sequence, &at, &c.Actor, &c.Role, &c.From, &c.Method, &c.Path, &c.Status, &c.RunID); err != nil {
			return nil, fmt.Errorf("list changes: %w", err)
		}
		c.At = fromMillis(at)
		all = append(all, c)
	}
	return all, rows.Err()
}

type changePage struct {
	Entries []Change `json:"entries"`
	Next    int64    `json:"next,omitempty" doc:"before of the next page"`
}

func (s *Server) registerAudit(api huma.API) {
	huma.Register(api, s.operation(http.MethodGet, "/audit", "list-changes", "access", "Every change: who, what, when, from where"),
		func(ctx context.Context, in *struct {
			Before int64 `query:"before" minimum:"0"`
			Limit  int   `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		}) (*answer[changePage], error) {
			all, err := s.keys.changes(ctx, in.Before, in.Limit)
			page := changePage{Entries: all}
			if len(all) == in.Limit {
				page.Next = all[len(all)-1].Sequence
			}
			return reply(page, err)
		})
}
