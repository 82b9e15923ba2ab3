package bench

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestTQuantile compares with the usual table of Student's distribution.
func TestTQuantile(t *testing.T) {
	for freedom, want := range map[int]float64{1: 12.706, 2: 4.303, 4: 2.776, 19: 2.093, 100: 1.984} {
		if got := tQuantile(freedom); math.Abs(got-want) > 0.001 {
			t.Errorf("%d degrees of freedom: %.4f, want %.3f", freedom, got, want)
		}
	}
}

// TestRatioInterval checks an interval that was calculated by hand: mean 0.2, standard deviation 0.1, quantile 4.3027.
func TestRatioInterval(t *testing.T) {
	got := ratioInterval([]float64{0.1, 0.2, 0.3})
	want := interval{Ratio: 1.22140, Low: 0.95274, High: 1.56585}
	for _, d := range []float64{got.Ratio - want.Ratio, got.Low - want.Low, got.High - want.High} {
		if math.Abs(d) > 1e-4 {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// TestCoverage draws 20 pairs of equal builds 4,000 times. 95 % of the intervals must contain 1.
func TestCoverage(t *testing.T) {
	const runs = 4000
	random := rand.New(rand.NewPCG(1, 2))
	contains := 0
	for range runs {
		logs := make([]float64, 20)
		for i := range logs {
			logs[i] = 0.2 * random.NormFloat64()
		}
		if i := ratioInterval(logs); i.Low <= 1 && i.High >= 1 {
			contains++
		}
	}
	if share := float64(contains) / runs; share < 0.94 || share > 0.96 {
		t.Errorf("%.3f of the intervals contain 1", share)
	}
}

// TestCPUPerOperation: slices count by their operations.
func TestCPUPerOperation(t *testing.T) {
	cells := []Cell{{OpsPerS: 300, CPU: 10}, {OpsPerS: 100, CPU: 30}}
	if got := cpuPerOperation(cells); got != 15 {
		t.Errorf("%v µs, want 15", got)
	}
}
