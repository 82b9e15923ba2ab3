package alibaba

import (
	"context"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The actions about the place itself: its region, its account and its instances.

func (d *Dialect) describeRegions(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if err := d.core.Admit(ctx, op); err != nil {
		return err
	}
	type region struct{ RegionId string }
	return x.JSON(struct{ Regions struct{ Region []region } }{struct{ Region []region }{[]region{{d.region}}}})
}

func (d *Dialect) accountStatus(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if err := d.core.Admit(ctx, op); err != nil {
		return err
	}
	return x.JSON(struct{ AccountStatus string }{"Enabled"})
}

// tagPage is the page of rows that begins at an offset.
func tagPage(rows []resourceTag, offset int) any {
	var page struct {
		TagResources struct{ TagResource []resourceTag }
		NextToken    string `json:",omitempty"`
	}
	offset = min(offset, len(rows))
	end := min(offset+maxTagRows, len(rows))
	page.TagResources.TagResource = append([]resourceTag{}, rows[offset:end]...)
	if end < len(rows) {
		page.NextToken = strconv.Itoa(end)
	}
	return page
}

// instanceInfo is an instance in a list.
type instanceInfo struct{ KmsInstanceId, KmsInstanceArn string }

func (d *Dialect) listInstances(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	instances, err := d.core.Instances(ctx)
	if err != nil {
		return err
	}
	list, p := pageOf(x, instances, defaultInstancePage)
	return x.JSON(struct {
		KmsInstances struct{ KmsInstance []instanceInfo }
		page
	}{struct{ KmsInstance []instanceInfo }{dialect.Each(list, func(i kms.Instance) instanceInfo {
		return instanceInfo{i.Name, d.arn("keystore/" + i.Name)}
	})}, p})
}

// instanceDetail is an instance as GetKmsInstance shows it. Numbers are strings.
type instanceDetail struct {
	InstanceId            string
	InstanceName          string
	Status                string
	CaCertificateChainPem string
	KeyNum                string
	SecretNum             string
	Spec                  string
	VpcNum                string
	BindVpcs              struct{ BindVpc []struct{} }
}

func (d *Dialect) getInstance(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	name := string(x.Text(instanceID))
	instances, err := d.core.Instances(ctx)
	if err != nil {
		return err
	}
	for _, i := range instances {
		if i.Name == name {
			detail := instanceDetail{
				InstanceId: i.Name, InstanceName: i.Name, Status: "Connected", CaCertificateChainPem: d.chain, KeyNum: strconv.Itoa(i.Keys),
				SecretNum: "0", Spec: "1000", VpcNum: "0",
			}
			detail.BindVpcs.BindVpc = []struct{}{}
			return x.JSON(struct{ KmsInstance instanceDetail }{detail})
		}
	}
	return refuse(instanceNotFound, kms.CodeNotFound, "KmsInstanceId", "no key belongs to such an instance")
}
