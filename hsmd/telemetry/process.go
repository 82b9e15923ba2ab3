package telemetry

import (
	"context"
	"runtime"
	"time"

	goruntime "go.opentelemetry.io/contrib/instrumentation/runtime"

	"github.com/keyside/keyside/plugins/procattr"
)

// observeProcess observes what every process has: its build, its start, its file descriptors and the Go runtime.
func observeProcess(version string) error {
	started := float64(time.Now().UnixMilli()) / 1000
	err := Observe(func(_ context.Context, put Put) error {
		put(MetricBuild, 1, AttrVersion.String(version), AttrGoVersion.String(runtime.Version()))
		put(MetricStarted, started)
		open, limit, err := procattr.OpenDescriptors()
		if err != nil {
			return err
		}
		put(MetricDescriptors, float64(open))
		put(MetricDescriptorLimit, float64(limit))
		return nil
	}, MetricBuild, MetricStarted, MetricDescriptors, MetricDescriptorLimit)
	if err != nil {
		return err
	}
	return goruntime.Start()
}
