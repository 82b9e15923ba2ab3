package peer

import (
	"strings"
	"testing"
)

const (
	id1 = "4f0a9b1e2f6d5b0c4e117a1f3a025d2c4f0a9b1e2f6d5b0c4e117a1f3a025d2c"
	id2 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	pod = "7a1f3a02-5d2c-4f0a-9b1e-2f6d5b0c4e11"
	pd_ = "7a1f3a02_5d2c_4f0a_9b1e_2f6d5b0c4e11"
)

// TestPlaceOf reads what systemd and container runtimes make of cgroups, and what others could.
func TestPlaceOf(t *testing.T) {
	nowhere := place{}
	for name, c := range map[string]struct {
		text string
		want place
	}{
		"service":                {"0::/system.slice/app.service\n", place{unit: "app.service"}},
		"instance":               {"0::/system.slice/system-app.slice/app@eu\\x2d1.service\n", place{unit: "app@eu\\x2d1.service"}},
		"delegated":              {"0::/system.slice/app.service/worker/other.service\n", place{unit: "app.service"}},
		"slice of its own":       {"0::/vault.slice/vault-kms.slice/app.service\n", place{unit: "app.service"}},
		"escaped":                {"0::/system.slice/_cgroup.service\n", place{unit: "cgroup.service"}},
		"pid 1":                  {"0::/init.scope\n", place{unit: "init.scope"}},
		"login":                  {"0::/user.slice/user-1000.slice/session-3.scope\n", place{unit: "session-3.scope"}},
		"unit of a user":         {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app.service\n", place{unit: "user@1000.service"}},
		"container of a user":    {"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope/container\n", place{unit: "user@1000.service"}},
		"pod of a user":          {"0::/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod" + pd_ + ".slice/crio-" + id1 + ".scope\n", place{unit: "user@1000.service"}},
		"nspawn":                 {"0::/machine.slice/systemd-nspawn@web.service/payload/system.slice/app.service\n", place{unit: "systemd-nspawn@web.service"}},
		"v1":                     {"12:memory:/system.slice/app.service\n1:name=systemd:/system.slice/app.service\n", place{unit: "app.service"}},
		"hybrid":                 {"12:pids:/user.slice\n1:name=systemd:/system.slice/app.service\n0::/system.slice/app.service\n", place{unit: "app.service"}},
		"hybrid, no systemd":     {"9:name=systemd:/\n4:memory:/process_api/d8f9\n0::/system.slice/app.service\n", nowhere},
		"docker, systemd driver": {"0::/system.slice/docker-" + id1 + ".scope\n", place{unit: "docker-" + id1 + ".scope", container: id1}},
		"docker, cgroupfs":       {"0::/docker/" + id1 + "\n", place{container: id1}},
		"docker, hybrid":         {"5:memory:/docker/" + id1 + "\n1:name=systemd:/docker/" + id1 + "\n0::/system.slice/containerd.service\n", place{container: id1}},
		"docker in docker":       {"0::/docker/" + id1 + "/docker/" + id2 + "\n", place{container: id1}},
		"systemd in docker":      {"0::/docker/" + id1 + "/system.slice/app.service\n", place{container: id1}},
		"podman":                 {"0::/machine.slice/libpod-" + id1 + ".scope/container\n", place{unit: "libpod-" + id1 + ".scope", container: id1}},
		"podman's monitor":       {"0::/machine.slice/libpod-conmon-" + id1 + ".scope\n", place{unit: "libpod-conmon-" + id1 + ".scope"}},
		"podman, cgroupfs":       {"0::/libpod_parent/libpod-" + id1 + "\n", place{container: id1}},
		"nerdctl":                {"0::/default/" + id1 + "\n", place{container: id1}},

		"k8s guaranteed, containerd": {"0::/kubepods.slice/kubepods-pod" + pd_ + ".slice/cri-containerd-" + id1 + ".scope\n",
			place{unit: "cri-containerd-" + id1 + ".scope", pod: pod, container: id1}},
		"k8s burstable, cri-o": {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + pd_ + ".slice/crio-" + id1 + ".scope\n",
			place{unit: "crio-" + id1 + ".scope", pod: pod, container: id1}},
		"k8s besteffort, docker": {"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + pd_ + ".slice/docker-" + id1 + ".scope\n",
			place{unit: "docker-" + id1 + ".scope", pod: pod, container: id1}},
		"k8s static pod": {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0123456789abcdef0123456789abcdef.slice/cri-containerd-" + id1 + ".scope\n",
			place{unit: "cri-containerd-" + id1 + ".scope", pod: "0123456789abcdef0123456789abcdef", container: id1}},
		"k8s below kubelet.slice": {"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + pd_ + ".slice/cri-containerd-" + id1 + ".scope\n",
			place{unit: "cri-containerd-" + id1 + ".scope", pod: pod, container: id1}},
		"k8s guaranteed, cgroupfs": {"0::/kubepods/pod" + pod + "/" + id1 + "\n", place{pod: pod, container: id1}},
		"k8s burstable, cgroupfs":  {"0::/kubepods/burstable/pod" + pod + "/" + id1 + "\n", place{pod: pod, container: id1}},
		"k8s cri-o, cgroupfs":      {"0::/kubepods/besteffort/pod" + pod + "/crio-" + id1 + "\n", place{pod: pod, container: id1}},
		"k8s v1":                   {"11:cpu,cpuacct:/kubepods/burstable/pod" + pod + "/" + id1 + "\n1:name=systemd:/kubepods/burstable/pod" + pod + "/" + id1 + "\n", place{pod: pod, container: id1}},
		"k8s in docker (kind)": {"0::/docker/" + id1 + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + pd_ + ".slice/cri-containerd-" + id2 + ".scope\n",
			place{container: id1}},
		"k8s pod named by a container":  {"0::/kubepods/pod" + pod + "/" + id1 + "/kubepods/pod" + strings.Replace(pod, "7", "8", 1) + "/" + id2 + "\n", place{pod: pod, container: id1}},
		"k8s between pod and container": {"0::/kubepods.slice/kubepods-pod" + pd_ + ".slice\n", nowhere},

		"root":                      {"0::/\n", nowhere},
		"slice alone":               {"0::/system.slice\n", nowhere},
		"another namespace":         {"0::/../../system.slice/app.service\n", nowhere},
		"another namespace's pod":   {"0::/../cri-containerd-" + id1 + ".scope\n", nowhere},
		"beside":                    {"0::/system.slice/../app.service\n", nowhere},
		"up again":                  {"0::/system.slice/app.service/../../other\n", nowhere},
		"removed":                   {"0::/system.slice/app.service (deleted)\n", nowhere},
		"not below slices":          {"0::/mine/app.service\n", nowhere},
		"other kind of unit":        {"0::/system.slice/app.mount\n", nowhere},
		"no name":                   {"0::/system.slice/.service\n", nowhere},
		"name too long":             {"0::/system.slice/" + strings.Repeat("a", 250) + ".service\n", nowhere},
		"strange letters":           {"0::/system.slice/app,uid:0.service\n", nowhere},
		"short id":                  {"0::/docker/" + id1[1:] + "\n", nowhere},
		"long id":                   {"0::/docker/0" + id1 + "\n", nowhere},
		"capital letters":           {"0::/docker/" + strings.ToUpper(id1) + "\n", nowhere},
		"controller's alone":        {"4:memory:/system.slice/app.service\n", nowhere},
		"cut off":                   {"0::/system.slice/app.service", nowhere},
		"cut off in another line":   {"0::/system.slice/app.service\n1:name=sys", nowhere},
		"no colons":                 {"0::/system.slice/app.service\nnothing\n", nowhere},
		"empty line":                {"0::/system.slice/app.service\n\n", nowhere},
		"no slash":                  {"0::system.slice/app.service\n", nowhere},
		"empty part":                {"0:://app.service\n", nowhere},
		"empty":                     {"", nowhere},
		"colons in the path":        {"0::/system.slice/a:b.service\n", place{unit: "a:b.service"}},
		"another version's number":  {"00::/system.slice/app.service\n", nowhere},
		"unified with a controller": {"0:memory:/system.slice/app.service\n", nowhere},
	} {
		if got := placeOf([]byte(c.text)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// FuzzPlaceOf holds that what is found is well-formed, and that no cgroup below a place changes what is found of it: that
// is what those make who must not say where they are.
func FuzzPlaceOf(f *testing.F) {
	f.Add([]byte("1:name=systemd:/system.slice/app.service\n0::/docker/"+id1+"\n"), "x.service")
	f.Add([]byte("0::/kubepods/pod"+pod+"/"+id1+"\n"), "kubepods.slice/kubepods-pod"+pd_+".slice/crio-"+id2+".scope")
	f.Add([]byte("0::/../x.service\n"), "docker/"+id2)
	f.Fuzz(func(t *testing.T, text []byte, below string) {
		p := placeOf(text)
		if strings.ContainsAny(p.unit+p.pod+p.container, "/, \n\x00") || len(p.unit) > maxUnit || p.pod != "" && p.container == "" ||
			p.container != "" && len(p.container) != 64 || p.pod != "" && len(p.pod) != 36 && len(p.pod) != 32 {
			t.Fatalf("%q: %+v", text, p)
		}
		if p == (place{}) || strings.Contains(below, "\n") {
			return
		}
		for part := range strings.SplitSeq(below, "/") {
			if part == "" || part == "." || part == ".." {
				return
			}
		}
		if q := placeOf([]byte(strings.ReplaceAll(string(text), "\n", "/"+below+"\n"))); q != p {
			t.Fatalf("%q is %+v, below it in %q %+v", text, p, below, q)
		}
	})
}
