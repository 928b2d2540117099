package admin

import (
	"slices"
	"sync"
	"time"

	"tablekeeper/functions/restore"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// maxPlans is how many plans are kept at a time. The oldest go first.
const maxPlans = 1000

// plan is a restore that somebody has seen the consequences of.
type plan struct {
	id      string
	table   string
	backup  string // the one that was chosen: a newer one is another plan
	state   string // of the table then
	expires time.Time
	runID   string // "" until it was carried out
}

// plans keeps what was planned and not yet done. They need not outlive the process: who has planned looks again.
type plans struct {
	hold time.Duration

	mu  sync.Mutex
	all []plan // oldest first
}

func newPlans(hold time.Duration) *plans { return &plans{hold: hold} }

func (p *plans) add(of restore.Plan, state string, now time.Time) plan {
	made := plan{id: newSecret(), table: of.Table, backup: of.Backup, state: state, expires: now.Add(p.hold)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.DeleteFunc(p.all, func(other plan) bool { return now.After(other.expires) })
	p.all = append(p.all[max(0, len(p.all)-maxPlans+1):], made)
	return made
}

// get is the plan of that id for the table, if it still holds.
func (p *plans) get(id, table string, now time.Time) (plan, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.all, func(other plan) bool { return other.id == id && other.table == table && now.Before(other.expires) })
	if i < 0 {
		return plan{}, false
	}
	return p.all[i], true
}

// used notes which run carried a plan out: sent again, the plan gives that run.
func (p *plans) used(id, run string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.all {
		if p.all[i].id == id {
			p.all[i].runID = run
		}
	}
}

// stateOf identifies what is at a table's place, as far as a restore would replace it.
func stateOf(t shelf.Table) string {
	token, err := table.ReadToken(t.Path)
	if err != nil {
		return string(t.State) + " unreadable"
	}
	return string(t.State) + " " + string(token)
}
