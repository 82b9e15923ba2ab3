package verb

import (
	"testing"
	"time"
)

func TestParseExpiry(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"never": {}, "24h": now.Add(24 * time.Hour), "90m": now.Add(90 * time.Minute), "30d": now.AddDate(0, 0, 30),
		"2030-12-31T00:00:00Z": time.Date(2030, 12, 31, 0, 0, 0, 0, time.UTC), "2030-12-31T00:00:00+07:00": time.Date(2030, 12, 30, 17, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseExpiry(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "0d", "-1d", "1.5d", "999999999d", "0", "-2h", "tomorrow", "2030-12-31", "Never"} {
		if got, err := ParseExpiry(text, now); ExitCode(err) != ExitUsage {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}
