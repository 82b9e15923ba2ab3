package peer

import (
	"bytes"
	"regexp"
	"strings"
)

// place is what the cgroup of a process says of it. What it does not say is empty.
type place struct {
	unit      string // systemd unit of the system manager
	pod       string // uid of the Kubernetes pod
	container string // id of the outermost container
}

// What the names of cgroups are made of.
const (
	containerID = `([0-9a-f]{64})`
	podUID      = `([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})` // of a static pod: the digits alone
	podOfSlice  = `([0-9a-f]{8}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{4}_[0-9a-f]{12}|[0-9a-f]{32})`
	end         = `(?:/|$)`
)

// inPod and inContainer are where runtimes put containers, under their systemd driver and under their cgroupfs driver. All
// of them are read from the root: who may make cgroups below a place may give them any name.
var (
	inPod = []*regexp.Regexp{
		regexp.MustCompile(`^(?:/kubelet\.slice)?/(?:kubelet-)?kubepods\.slice(?:/(?:kubelet-)?kubepods-(?:burstable|besteffort)\.slice)?` +
			`/(?:kubelet-)?kubepods-(?:burstable-|besteffort-)?pod` + podOfSlice + `\.slice/(?:cri-containerd|crio|docker)-` + containerID + `\.scope` + end),
		regexp.MustCompile(`^(?:/kubelet)?/kubepods(?:/burstable|/besteffort)?/pod` + podUID + `/(?:crio-)?` + containerID + end),
	}
	inContainer = []*regexp.Regexp{
		regexp.MustCompile(`^(?:/[^/]+\.slice)+/(?:docker|libpod|nerdctl|cri-containerd|crio)-` + containerID + `\.scope` + end),
		regexp.MustCompile(`^/(?:docker/|default/|libpod_parent/libpod-)` + containerID + end),
	}
	// inUnit is the first unit below slices. What is further down a user's manager or a container has named.
	inUnit = regexp.MustCompile(`^(?:/[^/]+\.slice)*/([a-zA-Z0-9:_.\\@-]+\.(?:service|scope))` + end)
)

// maxUnit is the longest name of a unit, bytes (systemd.unit(5)).
const maxUnit = 255

// placeOf reads the text of /proc/PID/cgroup. A text that is not as the kernel writes it says nothing.
func placeOf(text []byte) (p place) {
	path := cgroupPath(text)
	if m := inUnit.FindStringSubmatch(path); m != nil && len(m[1]) <= maxUnit {
		p.unit = strings.TrimPrefix(m[1], "_") // that systemd puts before names which the kernel could take for its own
	}
	for _, form := range inPod {
		if m := form.FindStringSubmatch(path); m != nil {
			p.pod, p.container = strings.ReplaceAll(m[1], "_", "-"), m[2]
			return p
		}
	}
	for _, form := range inContainer {
		if m := form.FindStringSubmatch(path); m != nil {
			p.container = m[1]
		}
	}
	return p
}

// cgroupPath returns the path of the cgroup in the hierarchy that systemd keeps: its own of version 1 where there is one,
// for there the other says where a container's runtime is and not where the container is, else version 2's. It is empty
// where it is not below our own root: nobody then knows what is above it.
func cgroupPath(text []byte) (path string) {
	own := false
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		number, line, ok := bytes.Cut(line, []byte(":"))
		controllers, at, ok2 := bytes.Cut(line, []byte(":"))
		if !whole || !ok || !ok2 {
			return ""
		}
		switch {
		case string(controllers) == "name=systemd":
			path, own = string(at), true
		case string(number) == "0" && len(controllers) == 0 && !own:
			path = string(at)
		}
		text = rest
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return ""
		}
	}
	return path
}
