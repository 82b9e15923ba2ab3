package driver

import (
	"testing"
	"time"
)

func TestHistogramBuckets(t *testing.T) {
	for d := time.Duration(4); d < 4*time.Minute; d += d/7 + 1 {
		if top := bucketTop(bucketOf(d)); top <= d || top > d+d/4 {
			t.Fatalf("%s is in a bucket up to %s", d, top)
		}
	}
}

func TestHistogramBucketsOfMicroseconds(t *testing.T) {
	for us := time.Duration(1); us < 1<<20; us++ {
		d := us * time.Microsecond
		if top := bucketTop(bucketOf(d)); d > top || float64(top) > 1.26*float64(d) {
			t.Fatalf("%s is in a bucket up to %s", d, top)
		}
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h Histogram
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i)*time.Microsecond, i%10 == 0)
	}
	var c Counts
	c.Add(&h)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		if got := c.Quantile(q); got < want || got > want*6/5 {
			t.Errorf("quantile %v is %v, want %v or up to a fifth more", q, got, want)
		}
	}
	if c.Calls != 1000 || c.Errors != 100 {
		t.Errorf("%d calls, %d errors", c.Calls, c.Errors)
	}
}
