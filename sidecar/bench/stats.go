package bench

import "math"

// interval is an estimate with the bounds of its 95 % confidence interval.
type interval struct {
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// ratioInterval returns the geometric mean of ratios, given their natural logarithms, and Student's t interval around it. There
// must be at least two.
func ratioInterval(logs []float64) interval {
	n := float64(len(logs))
	m := mean(logs)
	squares := 0.0
	for _, l := range logs {
		squares += (l - m) * (l - m)
	}
	half := tQuantile(len(logs)-1) * math.Sqrt(squares/(n-1)/n)
	return interval{math.Exp(m), math.Exp(m - half), math.Exp(m + half)}
}

// cpuPerOperation returns the processor time per operation over slices of equal length. One slice alone says little: the kernel
// counts in steps of 10 ms.
func cpuPerOperation(cells []Cell) float64 {
	cpu, operations := 0.0, 0.0
	for _, c := range cells {
		cpu += c.CPU * c.OpsPerS
		operations += c.OpsPerS
	}
	return cpu / operations
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// tQuantile returns the 97.5 % quantile of Student's t distribution with so many degrees of freedom, to three decimals. It sums
// the density from 0 until half of the 95 % is reached.
func tQuantile(freedom int) float64 {
	const step, half = 0.01, 0.475
	v := float64(freedom)
	a, _ := math.Lgamma((v + 1) / 2)
	b, _ := math.Lgamma(v / 2)
	scale := math.Exp(a-b) / math.Sqrt(v*math.Pi)
	for x, area := 0.0, 0.0; ; x += step {
		middle := x + step/2
		density := scale * math.Pow(1+middle*middle/v, -(v+1)/2)
		if area+step*density >= half {
			return x + (half-area)/density
		}
		area += step * density
	}
}
