package sdk

import (
	"context"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/config"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/region"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/request"
	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
)

// way is one way in which an application comes to a sidecar.
type way struct {
	name       string
	socket     bool // the Unix socket, where the kernel says who calls; else localhost, where only a signature can
	unsigned   bool
	zeroConfig bool // the client looks its project up
	derived    bool // the signature's key is derived (V11-HMAC-SHA256)
}

// ways are all of them.
var ways = []way{
	{name: "localhost"}, {name: "localhost-zero-config", zeroConfig: true}, {name: "localhost-derived", derived: true},
	{name: "socket", socket: true}, {name: "socket-zero-config", socket: true, zeroConfig: true},
	{name: "socket-unsigned", socket: true, unsigned: true},
}

// connect makes a client with an access key of its own. project is the node's, if empty.
func (y way) connect(t *testing.T, project string) (*kms.KmsClient, *wire) {
	t.Helper()
	if y.unsigned {
		return y.connectAs(t, credential{AccessKey: "none", SecretKey: "none", ProjectID: target.huawei.ProjectID}, project)
	}
	return y.connectAs(t, newCredential(t, "sdk"), project)
}

// connectAs makes a client as the SDK's documentation has it. The region, without which the SDK looks no project up, is
// this node's.
func (y way) connectAs(t *testing.T, c credential, project string) (*kms.KmsClient, *wire) {
	t.Helper()
	url, w := target.url, &wire{next: &http.Transport{}}
	if y.socket {
		url, w.next = "http://localhost", toSocket()
	}
	if y.unsigned {
		w.next = unsigned{w.next}
	}
	b := basic.NewCredentialsBuilder().WithAk(c.AccessKey).WithSk(c.SecretKey)
	switch {
	case project != "":
		b.WithProjectId(project)
	case y.zeroConfig:
		b.WithIamEndpointOverride(url)
	default:
		b.WithProjectId(c.ProjectID)
	}
	if y.derived {
		b.WithDerivedPredicate(func(*request.DefaultHttpRequest) bool { return true })
	}
	credentials, err := b.SafeBuild()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kms.KmsClientBuilder().
		WithRegion(region.NewRegion(target.huawei.Region, url)).
		WithCredential(credentials).
		WithDerivedAuthServiceName("kms").
		WithHttpConfig(config.DefaultHttpConfig().WithTimeout(deadline).WithHttpRoundTripper(w)).
		SafeBuild()
	if err != nil {
		t.Fatal(err)
	}
	if y.zeroConfig && project == "" && !slices.Equal(w.paths, []string{"GET /v3/projects"}) {
		t.Errorf("the client found its project by %v", w.paths)
	}
	return kms.NewKmsClient(client), w
}

func toSocket() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", target.node.Socket)
	}}
}

// unsigned takes the signature off a request.
type unsigned struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (u unsigned) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.Header.Del("X-Sdk-Date")
	return u.next.RoundTrip(r)
}
