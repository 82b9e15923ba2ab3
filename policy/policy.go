// Package policy decides who may do what: by the role of a principal, by the grants on a key, and by the operator's own
// policies. It is pure: functions over values, no I/O, no clock; the time is a fact like any other.
package policy

import "slices"

// Caller is what the kernel says of the process at the other end of a connection.
type Caller struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`
	// Known is false where no kernel vouches for the caller: on localhost, where its user has no number in our user
	// namespace, and where it has ended. Such a caller is nobody.
	Known bool `json:"known"`
	// Ended says that the process is no more. Who holds its end of the connection is not known.
	Ended bool `json:"ended,omitempty"`
	// Socket says that it came through the Unix socket.
	Socket bool `json:"-"`
	// Process is what else is known of the process; nil: nothing.
	Process *Process `json:"process,omitempty"`
}

// NoID is the id that is no user's and no group's (chown(2)). A group that has no number in our user namespace has it.
const NoID = 1<<32 - 1

// Process is what is known of a caller's process beside its ids. It is never changed, and shared by all requests of a
// connection. What could not be found out is empty, and matches no selector.
type Process struct {
	Exe       string   `json:"exe,omitempty"`       // path of the executable, as the process sees it
	Unit      string   `json:"unit,omitempty"`      // systemd unit of the system manager, such as app.service
	Pod       string   `json:"pod,omitempty"`       // uid of the Kubernetes pod
	Container string   `json:"container,omitempty"` // id of the outermost container
	Groups    []uint32 `json:"groups,omitempty"`    // supplementary groups
	// Digest returns the SHA-256 of the executable in hexadecimal digits, "" where it is not known. It reads the file, once,
	// and is asked by selectors alone. nil: not known.
	Digest func() string `json:"-"`
}

// Role is what an operator makes a principal to be; the table of operations says what each may do.
type Role string

// The roles. A principal with none may do what grants and policies allow, and what tells nothing.
const (
	None          Role = ""
	Administrator Role = "administrator" // everything
	KeyUser       Role = "user"          // uses every customer key
	Auditor       Role = "auditor"       // sees what is no content

	service Role = "service" // of a principal with a Service
)

// Roles lists the roles that a principal can be given.
var Roles = []Role{None, Administrator, KeyUser, Auditor}

// Principal is who a caller is taken to be. The zero Principal is nobody.
type Principal struct {
	Name    string
	Account string // that the user belongs to; empty: the one that the decision's facts name
	Role    Role   // None for a service
	Service string // the cloud service that it stands for (obs, evs, ims, …), or empty
}

// IsAdministrator reports whether a principal has the role.
func (p Principal) IsAdministrator() bool { return p.Role == Administrator }

func (p Principal) role() Role {
	if p.Service != "" {
		return service
	}
	return p.Role
}

// User is a principal with what selects its callers.
type User struct {
	Source    Source
	Principal Principal
}

// Users says who callers are taken to be. Every other caller is nobody, and so is one that no kernel vouches for.
type Users struct {
	byUID map[uint32][]User // those of one uid and of any, in their order
	any   []User            // those that any uid can be
}

// NewUsers returns the Users of a list of which the first that matches counts.
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

// Principal returns who the caller is.
func (u *Users) Principal(c Caller) Principal { return u.Of(c).Principal }

// Of returns the entry that makes a caller somebody, the zero User for nobody.
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
