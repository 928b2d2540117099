package table

import (
	"encoding/json"
	"math"
	"os"
	"time"
)

const (
	// firstPace is what a VACUUM is trusted to do before it has been seen, in bytes in use a second. Measured on a local disk: 76
	// to 190 MB/s, the slowest with many small rows or a busy disk.
	firstPace = 50e6
	// paceCaution is how much of what a table's last VACUUM did is expected of the next one.
	paceCaution = 0.7
	slowestPace = 1e5
	fastestPace = 500e6
	paceLearnt  = 4 << 20 // bytes: a VACUUM of less says nothing about the pace of a larger one
)

// pace is how fast this table's last VACUUM was.
type pace struct {
	BytesPerSecond float64 `json:"bytes_per_second"`
}

func paceOf(bytes int64, took time.Duration) pace {
	if bytes < paceLearnt {
		return pace{}
	}
	return pace{float64(bytes) / max(took.Seconds(), 1e-3)}
}

// readPace returns what is expected of the next VACUUM of the table at path.
func readPace(path string) pace {
	var p pace
	content, err := os.ReadFile(statePath(path, ".pace"))
	if err != nil || json.Unmarshal(content, &p) != nil || !(p.BytesPerSecond > 0) {
		return pace{firstPace}
	}
	return pace{min(fastestPace, max(slowestPace, paceCaution*p.BytesPerSecond))}
}

// writePace remembers a pace. It is advice: it need be neither durable nor written at all.
func writePace(path string, p pace) {
	if p.BytesPerSecond <= 0 || MakeStateDir(path) != nil {
		return
	}
	if content, err := json.Marshal(p); err == nil {
		_ = os.WriteFile(statePath(path, ".pace"), content, 0o644)
	}
}

// pauseAt is how long a VACUUM keeps writers waiting, with two syncs of a slow disk.
func pauseAt(p pace, bytes int64) time.Duration {
	const syncs = 20 * time.Millisecond
	return syncs + time.Duration(math.Ceil(float64(bytes)/p.BytesPerSecond*float64(time.Second)))
}
