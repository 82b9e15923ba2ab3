// Package policy authorizes operations: by the role of the principal, the grants on the key and the Cedar policies of the
// operator. It consists of pure functions over values, without I/O and without a clock; the time is one of the [Facts].
package policy

import "slices"

// Caller is what the kernel reports about the process at the other end of a connection.
type Caller struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`
	// Known is false if the kernel cannot identify the caller: on TCP, if our user namespace does not map its uid, or after
	// it exits. Such a caller matches no principal.
	Known bool `json:"known"`
	// Ended says that the process has exited. The process that now holds its end of the connection is unknown.
	Ended bool `json:"ended,omitempty"`
	// Socket says that the connection came through the Unix socket.
	Socket bool `json:"-"`
	// Process is what else is known about the process; nil means nothing.
	Process *Process `json:"process,omitempty"`
}

// NoID is the id that no user and no group has (chown(2)). The kernel reports it for a group that our user namespace does
// not map.
const NoID = 1<<32 - 1

// Process is what is known about the process of a caller besides its ids. All requests of a connection share it, so it must
// not be changed. What is unknown is empty, and matches no selector.
type Process struct {
	Exe       string   `json:"exe,omitempty"`       // path of the executable, as the process sees it
	Unit      string   `json:"unit,omitempty"`      // systemd unit of the system manager, such as app.service
	Pod       string   `json:"pod,omitempty"`       // uid of the Kubernetes pod
	Container string   `json:"container,omitempty"` // id of the outermost container
	Groups    []uint32 `json:"groups,omitempty"`    // supplementary groups
	// Digest returns the SHA-256 of the executable in hexadecimal digits, "" if it is unknown. The first call reads the file.
	// Only selectors call it. nil means unknown.
	Digest func() string `json:"-"`
}

// Role is what the operator assigns to a principal. The table of operations says what each role may do.
type Role string

// The roles. A principal with None may do what grants and policies allow, and what every principal may do.
const (
	None          Role = ""
	Administrator Role = "administrator" // everything
	KeyUser       Role = "user"          // uses every key that is not a service's default key
	Auditor       Role = "auditor"       // reads everything but content

	service Role = "service" // of a principal with a Service
)

// Roles lists the roles that a principal can be given.
var Roles = []Role{None, Administrator, KeyUser, Auditor}

// Principal is an identity that operations are authorized for. The zero Principal is anonymous: it may do nothing.
type Principal struct {
	Name    string
	Account string // that the user belongs to; empty: the account of the facts
	Role    Role   // None for a service
	Service string // the cloud service that it acts for (obs, evs, ims, …), or empty
}

func (p Principal) role() Role {
	if p.Service != "" {
		return service
	}
	return p.Role
}

// User is a principal with the selectors of its callers.
type User struct {
	Source    Source
	Principal Principal
}

// Users maps callers to principals. A caller that no User selects is anonymous, and so is one that the kernel cannot
// identify.
type Users struct {
	byUID map[uint32][]User // users with this uid or without one, in the order of the list
	any   []User            // users without a uid
}

// NewUsers returns the Users of a list. The first User that selects a caller counts.
func NewUsers(list ...User) *Users {
	u := &Users{byUID: map[uint32][]User{}}
	for _, each := range list {
		if uid, ok := each.Source.uid(); ok {
			if _, known := u.byUID[uid]; !known {
				u.byUID[uid] = slices.Clone(u.any)
			}
			u.byUID[uid] = append(u.byUID[uid], each)
			continue
		}
		u.any = append(u.any, each)
		for uid := range u.byUID {
			u.byUID[uid] = append(u.byUID[uid], each)
		}
	}
	return u
}

// Principal returns the principal of a caller, the zero Principal if it is anonymous.
func (u *Users) Principal(c Caller) Principal { return u.Of(c).Principal }

// Of returns the first User that selects a caller, the zero User if none does.
func (u *Users) Of(c Caller) User {
	list, ok := u.byUID[c.UID]
	if !ok {
		list = u.any
	}
	for i := range list {
		if list[i].Source != "" && list[i].Source.Matches(c) {
			return list[i]
		}
	}
	return User{}
}
