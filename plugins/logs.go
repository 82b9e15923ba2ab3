package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	maxLogLine  = 1024 // bytes of a line; the rest is cut off
	maxLogLines = 100  // lines per second; the rest are counted
)

// lineLog is an io.Writer that logs a driver's output: JSON lines (of hclog and slog) at their own level, other lines as warnings. It
// truncates long lines and limits their rate, because a vendor's library may print without end.
type lineLog struct {
	log *slog.Logger

	mu      sync.Mutex
	line    []byte
	second  int64
	count   int
	dropped int
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		l.line = append(l.line, part[:min(len(part), maxLogLine-len(l.line))]...)
		if ended {
			l.emit()
		}
		p = rest
	}
	return n, nil
}

func (l *lineLog) emit() {
	line := l.line
	l.line = l.line[:0]
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	now := time.Now().Unix()
	if now != l.second {
		if l.dropped > 0 {
			l.log.Warn("driver output dropped", "lines", l.dropped)
		}
		l.second, l.count, l.dropped = now, 0, 0
	}
	if l.count++; l.count > maxLogLines {
		l.dropped++
		return
	}
	level, text, fields := parseLine(line)
	attrs := []slog.Attr{slog.String("text", text)}
	if fields != "" {
		attrs = append(attrs, slog.String("fields", fields))
	}
	l.log.LogAttrs(context.Background(), level, "driver output", attrs...)
}

// parseLine splits a line into level, message and the rest of its fields as JSON.
func parseLine(line []byte) (level slog.Level, text, fields string) {
	var record map[string]any
	if line[0] != '{' || json.Unmarshal(line, &record) != nil {
		return slog.LevelWarn, string(line), ""
	}
	take := func(keys ...string) string {
		for _, key := range keys {
			if s, ok := record[key].(string); ok {
				delete(record, key)
				return s
			}
		}
		return ""
	}
	switch strings.ToLower(take("@level", "level")) {
	case "trace", "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	text = take("@message", "msg")
	take("@timestamp", "time")
	if len(record) > 0 {
		if b, err := json.Marshal(record); err == nil {
			fields = string(b)
		}
	}
	return level, text, fields
}
