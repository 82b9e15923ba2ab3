package verb

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// ParseExpiry parses --expires: never, a time (RFC 3339), or a duration from now. It returns the zero time for never.
func ParseExpiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := ParseDuration(text)
	if err != nil {
		return time.Time{}, Failf(ExitUsage, "--expires %q is not never, a time such as 2030-12-31T00:00:00Z or a duration such as 24h or 90d", text)
	}
	return now.Add(d), nil
}

// ParseDuration parses a positive duration, which may be in days (90d).
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > 100*365 {
			err = errors.New("too long")
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err == nil && d <= 0 {
		err = errors.New("not positive")
	}
	return d, err
}
