package wasi

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// errno is an error of preview 1, by its number there.
type errno uint16

const (
	success      errno = 0
	eAcces       errno = 2
	eAgain       errno = 6
	eBadf        errno = 8
	eConnreset   errno = 15
	eDquot       errno = 19
	eExist       errno = 20
	eFault       errno = 21
	eIlseq       errno = 25
	eInval       errno = 28
	eIo          errno = 29
	eIsdir       errno = 31
	eLoop        errno = 32
	eMfile       errno = 33
	eNametoolong errno = 37
	eNfile       errno = 41
	eNoent       errno = 44
	eNotdir      errno = 54
	eNotempty    errno = 55
	eNotsock     errno = 57
	eNotsup      errno = 58
	ePerm        errno = 63
	ePipe        errno = 64
	eRofs        errno = 69
	eSpipe       errno = 70
	eXdev        errno = 75
	eNotcapable  errno = 76
)

func (e errno) Error() string { return "wasi errno " + strconv.Itoa(int(e)) }

// hostErrnos is what the host's errors are called in preview 1.
var hostErrnos = map[syscall.Errno]errno{
	syscall.E2BIG: 1, syscall.EACCES: eAcces, syscall.EAGAIN: eAgain, syscall.EBADF: eBadf, syscall.EBUSY: 10,
	syscall.ECONNRESET: eConnreset, syscall.EDQUOT: eDquot, syscall.EEXIST: eExist, syscall.EFBIG: 22,
	syscall.EINTR: 27, syscall.EINVAL: eInval, syscall.EIO: eIo, syscall.EISDIR: eIsdir, syscall.ELOOP: eLoop,
	syscall.EMFILE: eMfile, syscall.EMLINK: 34, syscall.ENAMETOOLONG: eNametoolong, syscall.ENFILE: eNfile,
	syscall.ENODEV: 43, syscall.ENOENT: eNoent, syscall.ENOMEM: 48, syscall.ENOSPC: 51, syscall.ENOSYS: 52,
	syscall.ENOTDIR: eNotdir, syscall.ENOTEMPTY: eNotempty, syscall.ENOTSUP: eNotsup, syscall.ENXIO: 60,
	syscall.EOVERFLOW: 61, syscall.EPERM: ePerm, syscall.EPIPE: ePipe, syscall.EROFS: eRofs,
	syscall.ESPIPE: eSpipe, syscall.ESTALE: 72, syscall.ETXTBSY: 74, syscall.EXDEV: eXdev,
}

// errnoOf is what a guest is told of err. Of errors that the host's packages make themselves there is
// one that matters: os.Root says with one that a path leaves it.
func errnoOf(err error) errno {
	if err == nil {
		return success
	}
	if e, ok := err.(errno); ok {
		return e
	}
	var host syscall.Errno
	if errors.As(err, &host) {
		if e, ok := hostErrnos[host]; ok {
			return e
		}
		return eIo
	}
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.Is(err, os.ErrClosed):
		return eBadf
	case errors.Is(err, io.ErrClosedPipe):
		return ePipe
	case errors.As(err, &path), errors.As(err, &link):
		return ePerm
	}
	return eIo
}
