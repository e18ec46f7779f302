package sandbox

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

func forks() []uint32 { return nil }

func dangerousArch() []uint32 { return []uint32{unix.SYS_KEXEC_FILE_LOAD} }

func foreignArch() []uint32 { return nil }

func (f *assembler) thirdPartyArch(*Plan) {}
