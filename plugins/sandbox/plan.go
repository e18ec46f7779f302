package sandbox

// Plan is what the launcher is told.
type Plan struct {
	Args []string `json:"args"` // of the program, its name first
	Own  string   `json:"own"`  // the folder that it works in and may write
	// Shipped is a connector of ours: it reads what it likes and makes its own connections.
	Shipped bool     `json:"shipped,omitempty"`
	Files   string   `json:"files,omitempty"`   // the folder with the rest of its package
	Read    []string `json:"read,omitempty"`    // files and folders that it may read besides
	Execute []string `json:"execute,omitempty"` // programs that it may run; none: it makes no processes
	Limits  Limits   `json:"limits"`            // of a third party's process
	Parts   Parts    `json:"parts"`             // what is applied; each must succeed
	Host    int      `json:"host"`              // the hub's process ID
	More    int      `json:"more,omitempty"`    // open files that it is handed, from MoreFD on
}

// Limits bound one process; 0 is no limit.
type Limits struct {
	Memory    uint64 `json:"memory"`    // bytes of its own memory, per process
	Disk      uint64 `json:"disk"`      // bytes in its folder
	Files     uint64 `json:"files"`     // open at a time
	Processes uint64 `json:"processes"` // processes and threads at a time
}

// DefaultLimits are those of a third party's process.
func DefaultLimits() Limits {
	return Limits{Memory: 512 << 20, Disk: 64 << 20, Files: 512, Processes: 256}
}

// Parts are what the kernel offers of a sandbox.
type Parts struct {
	Files int  `json:"files,omitempty"` // Landlock's version; 0: it is not there
	Calls bool `json:"calls,omitempty"` // system calls can be filtered
	// Count says that processes can be bounded by their number among those of this user.
	Count bool `json:"count,omitempty"`
	Group bool `json:"group,omitempty"` // memory and processes are bounded by a control group
}

// MoreFD is the first of the open files that a program is handed besides its own.
const MoreFD = 5
