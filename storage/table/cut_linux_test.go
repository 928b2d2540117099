package table

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tablekeeper/storage/childtest"
)

func init() {
	children["compact owned"] = compactAndWrite
	children["hold open"] = holdOpen
}

// compactAndWrite writes, compacts and writes again; each row that was committed is a byte in the file of acknowledgements.
func compactAndWrite(words []string) error {
	acks, err := os.OpenFile(words[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	table, err := Open(context.Background(), words[0], quietOwned)
	if err != nil {
		return err
	}
	for n := range 3 {
		if err := acknowledge(table, acks, n); err != nil {
			return err
		}
		if report, err := compactBeside(context.Background(), table); err != nil || report.Status != Compacted {
			return fmt.Errorf("%+v: %w", report, err)
		}
	}
	if err := acknowledge(table, acks, 4); err != nil {
		return err
	}
	return table.Close()
}

// holdOpen opens the table, and writes a row when it is told to end.
func holdOpen(words []string) error {
	db, err := sql.Open("sqlite", "file:"+words[0]+"?_busy_timeout=60000")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	var n int
	if err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM written").Scan(&n); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	if _, err := db.ExecContext(context.Background(), "INSERT INTO written VALUES (1)"); err != nil {
		return err
	}
	return db.Close()
}

// TestCutKilledAtEachCall tries every eighth call.
func TestCutKilledAtEachCall(t *testing.T) {
	needStrace(t)
	t.Parallel()
	killOwner(t, "compact owned", 8, func(path string, acked int, at string) {
		table, _ := openAfterKill(t, path, acked, at)
		if report, err := Check(t.Context(), path, CheckOptions{}); err != nil || !report.OK {
			t.Fatalf("%s: %+v, %v", at, report, err)
		}
		if err := table.Close(); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		checkCutLitter(t, path)
	})
}

// cutPowerInCut cuts the power for real before call n of a cut, or after its end and one more row. It says what is wrong afterwards.
func cutPowerInCut(t *testing.T, kind string, n int, reader bool, r *recorder) (cut bool, why string) {
	image := makeFileSystem(t, kind)
	dir := mount(t, "-o", "loop", image)
	path := filepath.Join(dir, "x.db")
	table := cutScene(t, path, quietOwned)
	rows := cutRowsAtFirst
	end := func() error { return nil }
	if reader {
		end = holdReader(t, table)
		must(t, addRow(table))
		rows++
	}
	syncAll(t, dir)
	var gone atomic.Bool
	r.fail = func(i int, _ call) error {
		if i == n {
			gone.Store(true)
			shutdown(t, dir)
		}
		return nil
	}
	table.disk = r.disk()
	opts := CompactOptions{Progress: func(phase string, done, _ int64) {
		if phase == "verify" && done == 0 { // these have to be carried over
			must(t, addRow(table))
			rows++
		}
	}}
	report, err := compactBesideWith(t.Context(), table, opts)
	if !gone.Load() && (err != nil || report.Status != Compacted) {
		t.Fatalf("%+v, %v", report, err)
	}
	for range 3 {
		if addRow(table) == nil { // the power may be cut while the old file is removed
			rows++
		}
	}
	if cut = gone.Load(); !cut {
		shutdown(t, dir)
	}
	_ = end()
	_ = table.Close() // its disk is gone
	unmount(t, dir)
	dir = mount(t, "-o", "loop", image)
	defer unmount(t, dir)
	return cut, judge(t, func(judge *verdict) {
		again, err := Open(t.Context(), filepath.Join(dir, "x.db"), quietOwned)
		if err != nil {
			judge.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		var got int
		err = again.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&got) })
		if err != nil || got < rows || got > rows+1 {
			judge.Fatalf("%d rows, %d were acknowledged: %v", got, rows, err)
		}
		if done, err := again.Scrub(t.Context(), ScrubOptions{}); err != nil || len(done.Bad) > 0 {
			judge.Fatalf("bad pages %v, %v", done.Bad, err)
		}
	})
}

// The power is cut, for real, at every sixth call of the cut, another sixth on another day.
func TestCutSurvivesRealPowerCuts(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		for _, reader := range []bool{false, true} {
			// Not in parallel: a child that is being started has copies of our descriptors, and the disk could not be taken away.
			t.Run(fmt.Sprintf("%s, reader %v", kind, reader), func(t *testing.T) {
				cuts := 0
				for n := time.Now().YearDay() % 6; ; n += 6 {
					cut, why := cutPowerInCut(t, kind, n, reader, &recorder{})
					if why != "" {
						t.Fatalf("power cut before call %d: %s", n, why)
					}
					if !cut {
						break
					}
					cuts++
				}
				if t.Logf("%d power cuts", cuts); cuts < 4 {
					t.Error("not the cut lost power")
				}
			})
		}
	}
}

// If the cut left its syncs out, the test above would fail.
func TestRealPowerCutShowsMissingSyncsOfTheCut(t *testing.T) {
	const never = 1 << 20
	if _, why := cutPowerInCut(t, "xfs", never, false, &recorder{hasty: true}); why == "" {
		t.Error("nothing was lost without any sync")
	}
}

// foreignWriter is another process that commits rows 1, 2, 3 and so on into the SQL table written, and says so.
func foreignWriter(t *testing.T, path string) (acked func() int) {
	t.Helper()
	cmd := childtest.Command(t, "write until told", path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines, begun, done := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if n, err := strconv.Atoi(s.Text()); err == nil {
				if lines = n; n == 3 {
					close(begun)
				}
			}
		}
	}()
	select {
	case <-begun:
	case <-done:
		t.Fatal("the other process never wrote")
	}
	return func() int {
		must(t, stdin.Close())
		<-done
		_ = cmd.Wait()
		return lines
	}
}

// compactUnderForeigner returns how many rows of those that another process had committed are missing in the end.
func compactUnderForeigner(t *testing.T, d disk) (lost int, reports []string) {
	path := filepath.Join(t.TempDir(), "x.db")
	opts := quietOwned
	opts.BusyTimeout = 2 * time.Minute // SQLite's locks have no queue, and the other process never rests
	table := cutScene(t, path, opts)
	writeOwned(t, table, "CREATE TABLE written(n INT)")
	settleOwned(t, table)
	table.disk = d
	acked := foreignWriter(t, path)
	for range 5 {
		must(t, addRow(table))
		report, err := compactBeside(t.Context(), table)
		reports = append(reports, fmt.Sprint(report.Status, " ", report.Strategy, " ", report.Reason, err))
	}
	n := acked()
	got := ownedInt(t, table, "SELECT count(*) FROM written")
	_ = table.Close()
	return n - got, reports
}

func TestForeignWriterLosesNothing(t *testing.T) {
	lost, reports := compactUnderForeigner(t, disk{})
	t.Log(reports)
	if lost > 0 {
		t.Errorf("%d acknowledged rows are lost", lost)
	}
	if !slices.ContainsFunc(reports, func(r string) bool { return strings.Contains(r, strategyVacuum) }) {
		t.Error("nothing was compacted in place")
	}
}

// A process that has the table open and writes later, when a cut has been made: without the proof, its row is lost.
func lateForeigner(t *testing.T, reader, mutant bool) (lost bool) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := cutScene(t, path, quietOwned)
	writeOwned(t, table, "CREATE TABLE written(n INT)")
	settleOwned(t, table)
	acked := make(chan func() int, 1)
	end := func() error { return nil }
	if reader {
		end = holdReader(t, table)
	}
	table.disk = disk{before: func(op string, paths ...string) error {
		if op == "mkdir" && len(acked) == 0 { // the copy is complete: no data_version tells of them any more, unless they write before the cut
			_, finish := startChild(t, "hold open", path)
			acked <- func() int { finish(); return 1 }
		}
		if mutant && slices.Contains([]string{"bar", "look", "lock", "lease", "undisturbed"}, op) {
			return errSkip
		}
		return nil
	}}
	if _, err := compactBeside(t.Context(), table); err != nil && !mutant {
		t.Error(err)
	}
	want := (<-acked)() // it writes its row now
	got := ownedInt(t, table, "SELECT count(*) FROM written")
	_ = end()
	_ = table.Close()
	return got < want
}

func TestCutProvesSoleOwnership(t *testing.T) {
	for _, reader := range []bool{false, true} {
		if lateForeigner(t, reader, false) {
			t.Errorf("reader %v: the row of another process is lost", reader)
		}
		if !lateForeigner(t, reader, true) {
			t.Errorf("reader %v: nothing is lost without the proof", reader)
		}
	}
}

// If the old -wal stayed, it would be replayed into the new file.
func TestCutLeavesNoWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	table := cutScene(t, path, quietOwned)
	end := holdReader(t, table)
	must(t, addRow(table))
	table.disk = disk{before: func(op string, paths ...string) error {
		if op == "remove" && strings.HasSuffix(paths[0], "x.db-wal") {
			return errSkip
		}
		return nil
	}}
	_, err := compactBeside(t.Context(), table)
	var got int
	if err == nil {
		err = table.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&got) })
	}
	_ = end()
	_ = table.Close()
	if report, e := Check(t.Context(), path, CheckOptions{}); err == nil && e == nil && report.OK && got == cutRowsAtFirst+1 {
		t.Error("nothing goes wrong with the old WAL beside the new file")
	}
}
