package table

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Writers, readers, growth, shrinking, checkpoints and scrubs at once: nothing is ever called damaged.
func TestNoFalseAlarmUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	var alarms atomic.Int32
	table := openOwned(t, path, Options{
		CheckpointBytes: 100 << 10, Idle: time.Millisecond, ProbeEvery: time.Millisecond,
		OnCorrupt: func(_ context.Context, r Report) { alarms.Add(1); t.Errorf("false alarm: %v", r.Err) },
	})
	fillOwned(t, table, 200)
	writes := 500
	if raceEnabled {
		writes = 60
	}
	ctx, stop := context.WithCancel(t.Context())
	var scrubs, reads atomic.Int32
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil && alarms.Load() == 0 {
				if done, err := table.Scrub(t.Context(), ScrubOptions{}); err != nil || len(done.Bad) > 0 {
					t.Errorf("scrub: bad pages %v, %v", done.Bad, err)
					return
				}
				scrubs.Add(1)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			ownedInt(t, table, "SELECT count(*) FROM t WHERE v > x'80'")
			reads.Add(1)
		}
	})
	rng := rand.New(rand.NewPCG(1, 9))
	for n := range writes {
		churn(t, table, rng, n)
		if alarms.Load() > 0 {
			break
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d writes, %d scrubs, %d reads", writes, scrubs.Load(), reads.Load())
	settleOwned(t, table)
	if done := scrubClean(t, table); done.Unproven != 0 {
		t.Errorf("%d pages unproven", done.Unproven)
	}
}

func churn(t *testing.T, table *Table, rng *rand.Rand, n int) {
	t.Helper()
	if n%200 == 199 {
		must(t, table.Exclusive(t.Context(), func(ctx context.Context, c *sql.Conn) error {
			_, err := c.ExecContext(ctx, "VACUUM")
			return err
		}))
	}
	switch rng.IntN(5) {
	case 0:
		writeOwned(t, table, "INSERT INTO t(v) SELECT randomblob(abs(random()) % 9000) FROM t LIMIT 8")
	case 1:
		writeOwned(t, table, "DELETE FROM t WHERE id % 50 = ?", rng.IntN(50))
	case 2:
		writeOwned(t, table, "DELETE FROM t WHERE id > (SELECT max(id) FROM t) - 9")
	default:
		writeOwned(t, table, "UPDATE t SET v = randomblob(300) WHERE id % 20 = ?", rng.IntN(20))
	}
}
