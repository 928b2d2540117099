package stores

import (
	"context"
	"errors"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

func TestTaskQueue(t *testing.T) {
	ctx, at := t.Context(), newClock()
	queue := must(NewTaskQueue(ctx, openTable(t, "task_queue"), openTable(t, "task_dead_letter"), at.now))(t)
	must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "low"}))(t)
	must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "high", Priority: 9, MaxAttempts: 2}))(t)
	must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "later", Priority: 10, NotBefore: at.now().Add(24 * time.Hour)}))(t)

	high := must(queue.Claim(ctx, "q", "w1", time.Minute))(t)
	if high.Payload != "high" || high.Attempts != 1 || high.Worker != "w1" {
		t.Fatalf("claimed %+v", high)
	}
	at.move(2 * time.Minute) // w1 is gone
	again := must(queue.Claim(ctx, "q", "w2", 0))(t)
	if again.ID != high.ID || again.Attempts != 2 {
		t.Fatalf("claimed %+v", again)
	}
	wantError(t, queue.Complete(ctx, high.ID, high.Lease, "late"), ErrConflict)
	if err := queue.Fail(ctx, again.ID, again.Lease, "boom", 0); err != nil {
		t.Fatal(err)
	}
	letters := must(queue.DeadLetters(ctx, "q", "", 0))(t)
	if len(letters) != 1 || letters[0].LastError != "boom" || letters[0].Attempts != 2 {
		t.Fatalf("dead letters: %+v", letters)
	}
	if err := queue.Requeue(ctx, high.ID); err != nil {
		t.Fatal(err)
	}
	third := must(queue.Claim(ctx, "q", "w3", 0))(t)
	if third.ID != high.ID || third.Attempts != 1 {
		t.Fatalf("claimed %+v", third)
	}
	must(queue.Extend(ctx, third.ID, third.Lease, time.Hour))(t)
	if err := queue.Complete(ctx, third.ID, third.Lease, "42"); err != nil {
		t.Fatal(err)
	}
	if done := must(queue.Get(ctx, third.ID))(t); done.State != TaskDone || done.Result != "42" {
		t.Errorf("%+v", done)
	}
	if counts := must(queue.Counts(ctx, "q"))(t); counts[TaskReady] != 2 || counts[TaskDone] != 1 {
		t.Errorf("%v", counts)
	}
	wantError(t, queue.Requeue(ctx, third.ID), ErrNotFound)
	wantError(t, queue.Discard(ctx, third.ID), ErrNotFound)
	must(queue.Claim(ctx, "q", "w3", 0))(t)
	_, err := queue.Claim(ctx, "q", "w3", 0)
	wantError(t, err, ErrNotFound)
}

// A move between the two tables is cut at every write in turn; opening the queue again finishes it, and the task is in
// exactly one of the two.
func TestTaskMovesSurviveACut(t *testing.T) {
	cut := errors.New("cut")
	for n := 0; ; n++ {
		ctx, at := t.Context(), newClock()
		live, dead := openTable(t, "task_queue"), openTable(t, "task_dead_letter")
		queue := must(NewTaskQueue(ctx, live, dead, at.now))(t)
		must(queue.Enqueue(ctx, Task{Queue: "q", Payload: "p", MaxAttempts: 1}))(t)
		task := must(queue.Claim(ctx, "q", "w", 0))(t)

		left := n
		failing := func() error {
			if left--; left < 0 {
				return cut
			}
			return nil
		}
		live.fail, dead.fail = failing, failing
		err := errors.Join(queue.Fail(ctx, task.ID, task.Lease, "boom", 0), queue.Requeue(ctx, task.ID))
		live.fail, dead.fail = nil, nil

		reopened := must(NewTaskQueue(ctx, live, dead, at.now))(t)
		places := len(must(reopened.DeadLetters(ctx, "q", "", 0))(t))
		if _, err := reopened.Get(ctx, task.ID); err == nil {
			places++
		}
		if places != 1 {
			t.Fatalf("cut at write %d: the task is in %d places", n, places)
		}
		if err == nil {
			if n < 4 {
				t.Fatalf("only %d writes were cut", n)
			}
			return
		}
	}
}

// deadTask makes a task of one attempt, and fails it.
func deadTask(t *testing.T, queue *TaskQueue) (id string, failed error) {
	t.Helper()
	must(queue.Enqueue(t.Context(), Task{Queue: "q", Payload: "p", MaxAttempts: 1}))(t)
	task := must(queue.Claim(t.Context(), "q", "w", 0))(t)
	return task.ID, queue.Fail(t.Context(), task.ID, task.Lease, "boom", 0)
}

// The queue cannot be written when the move to the dead letters has come half way. Who puts the task back then finds it in the queue, and
// not among the dead letters again.
func TestWhatIsHalfBuriedCanBeRequeued(t *testing.T) {
	ctx, at, cut := t.Context(), newClock(), errors.New("cut")
	live := openTable(t, "task_queue")
	queue := must(NewTaskQueue(ctx, live, openTable(t, "task_dead_letter"), at.now))(t)
	writes := 0
	live.fail = func() error {
		if writes++; writes == 4 { // after those of Enqueue, Claim and Fail: the end of the move
			return cut
		}
		return nil
	}
	id, err := deadTask(t, queue)
	wantError(t, err, cut)
	if err := queue.Requeue(ctx, id); err != nil {
		t.Fatal(err)
	}
	if task := must(queue.Claim(ctx, "q", "w", 0))(t); task.ID != id || task.Attempts != 1 {
		t.Errorf("claimed %+v", task)
	}
}

// The dead letters cannot be written when the move back has come half way, and the task fails once more: it is a dead letter again, and
// stays one.
func TestWhatIsHalfRequeuedCanDieAgain(t *testing.T) {
	ctx, at, cut := t.Context(), newClock(), errors.New("cut")
	live, dead := openTable(t, "task_queue"), openTable(t, "task_dead_letter")
	queue := must(NewTaskQueue(ctx, live, dead, at.now))(t)
	id, err := deadTask(t, queue)
	if err != nil {
		t.Fatal(err)
	}
	writes := 0
	dead.fail = func() error {
		if writes++; writes == 2 { // after the mark
			return cut
		}
		return nil
	}
	wantError(t, queue.Requeue(ctx, id), cut)
	task := must(queue.Claim(ctx, "q", "w", 0))(t)
	if err := queue.Fail(ctx, task.ID, task.Lease, "bang", 0); err != nil {
		t.Fatal(err)
	}
	reopened := must(NewTaskQueue(ctx, live, dead, at.now))(t)
	if letters := must(reopened.DeadLetters(ctx, "q", "", 0))(t); len(letters) != 1 || letters[0].LastError != "bang" {
		t.Errorf("dead letters: %+v", letters)
	}
	_, err = reopened.Get(ctx, id)
	wantError(t, err, ErrNotFound)
}

// A task is put back while the move to the dead letters is about to end. The wait for that move is cut short by its context.
func TestATaskThatIsRequeuedAsItDiesIsNotLost(t *testing.T) {
	ctx, at := t.Context(), newClock()
	live, dead := openTable(t, "task_queue"), openTable(t, "task_dead_letter")
	queue := must(NewTaskQueue(ctx, live, dead, at.now))(t)
	writes := 0
	live.fail = func() error {
		if writes++; writes != 4 { // before the end of the move
			return nil
		}
		letters := must(queue.DeadLetters(ctx, "q", "", 0))(t)
		meanwhile, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_ = queue.Requeue(meanwhile, letters[0].ID) // done or refused, but not half
		return nil
	}
	id, err := deadTask(t, queue)
	if err != nil {
		t.Fatal(err)
	}
	live.fail = nil
	if len(must(queue.DeadLetters(ctx, "q", "", 0))(t)) == 1 {
		if err := queue.Requeue(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if task := must(queue.Claim(ctx, "q", "w", 0))(t); task.ID != id {
		t.Errorf("claimed %+v", task)
	}
}
