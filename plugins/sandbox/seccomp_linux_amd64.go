package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

func forks() []uint32 { return []uint32{unix.SYS_FORK, unix.SYS_VFORK} }

func dangerousArch() []uint32 {
	return []uint32{unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS__SYSCTL}
}

// The older names of what others take a folder for.
func foreignArch() []uint32 {
	return []uint32{unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT}
}

func (f *assembler) thirdPartyArch(p *Plan) {
	if p.Parts.Files < 3 {
		f.when(unix.SYS_OPEN, oneOf(1, unix.O_TRUNC|unix.O_ACCMODE, unix.O_TRUNC))
	}
}
