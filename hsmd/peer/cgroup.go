package peer

import (
	"bytes"
	"regexp"
	"strings"
)

// place is what the cgroup of a process tells about it. Unknown fields are empty.
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

// inPod and inContainer match the cgroups in which runtimes put containers, with their systemd driver and with their cgroupfs
// driver. Each match starts at the root, because a user that may create cgroups below one may give them any name.
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
	// inUnit matches the first unit below slices. Names further down are chosen by a user's manager or a container.
	inUnit = regexp.MustCompile(`^(?:/[^/]+\.slice)*/([a-zA-Z0-9:_.\\@-]+\.(?:service|scope))` + end)
)

// maxUnit is the longest name of a unit, bytes (systemd.unit(5)).
const maxUnit = 255

// placeOf parses the text of /proc/PID/cgroup. A malformed text gives an empty place.
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

// cgroupPath returns the path of the cgroup in systemd's hierarchy. That is its own one of version 1 if it exists, because then the
// other hierarchy shows the container's runtime and not the container; otherwise it is version 2's. The path is empty if it is
// not below our own root, because then the part above it is unknown.
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
